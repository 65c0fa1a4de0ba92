#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <numeric>

#include "cairn/base/file.h"
#include "cairn/io/gguf.h"
#include "tests/support/files.h"
#include "tests/support/golden.h"

namespace cairn {
namespace {

using testing::HasSubstr;

// The golden file's metadata and tensors, given to the writer again.
struct Content {
  Content() : archive(golden_folder() / "gguf" / "theirs.gguf") {
    for (size_t i = 0; i < archive.metadata().metadata_count(); ++i)
      metadata.copy(archive.metadata().metadata(i));
    for (size_t i = 0; i < archive.tensor_count(); ++i) {
      const GgufTensor tensor = archive.tensor(i);
      entries.push_back({std::string(tensor.name), tensor.type, tensor.shape});
    }
  }
  void give(size_t index, ByteSink sink) const {
    const auto bytes = archive.tensor(index).bytes;
    for (size_t at = 0; at < bytes.size(); at += 7)  // in pieces
      sink(bytes.data() + at, std::min<size_t>(7, bytes.size() - at));
  }
  uint64_t write(const Path& path) const {
    return write_gguf(path, metadata, entries,
                      [&](size_t index, ByteSink sink) { give(index, sink); });
  }

  GgufArchive archive;
  GgufMetadata metadata;
  std::vector<GgufEntry> entries;
};

TEST(GgufWriter, WritesTheBytesOfAnIndependentWriter) {
  const TempFolder folder;
  const Content content;
  const uint64_t size = content.write(folder / "ours.gguf");
  const std::string ours = read_file(folder / "ours.gguf");
  EXPECT_EQ(size, ours.size());
  EXPECT_EQ(ours, read_file(content.archive.path()));
  EXPECT_EQ(folder.files(), 1U);
}

TEST(GgufWriter, WhatIsSetIsRead) {
  const TempFolder folder;
  GgufMetadata metadata;
  metadata.set_u32("general.alignment", 64);
  metadata.set_u32("a", 1);
  metadata.set_f32("f", 1e-5F);
  metadata.set_bool("b", true);
  metadata.set_u64("u", uint64_t{1} << 40);
  metadata.set_string("s", std::string("x\0\xffy", 4));
  metadata.set_strings("ss", std::array<std::string, 3>{"", "Ġt", "\n"});
  metadata.set_i32s("is", std::array{-1, 7});
  metadata.set_f32s("fs", std::array{0.5F});
  metadata.set_strings("none", {});
  metadata.set_u32("gone", 1);
  metadata.remove("gone");
  metadata.set_u32("a", 2);  // in its place
  EXPECT_EQ(metadata.size(), 10U);
  const std::array<GgufEntry, 2> entries = {GgufEntry{"t", BlockType::f32, {1, 3}},
                                            GgufEntry{"u", BlockType::bf16, {2}}};
  const std::array values = {1.0F, 2.0F, 3.0F};
  const auto source = [&](size_t index, ByteSink sink) {
    sink(values.data(), index == 0 ? 12 : 4);
  };
  EXPECT_EQ(write_gguf(folder / "m.gguf", metadata, entries, source) % 64, 0U);
  const GgufArchive read(folder / "m.gguf");
  EXPECT_EQ(read.metadata().alignment(), 64U);
  EXPECT_EQ(read.metadata().metadata(1).key(), "a");
  EXPECT_EQ(read.at("a").as_integer(), 2);
  EXPECT_EQ(read.at("f").as_number(), double{1e-5F});
  EXPECT_TRUE(read.at("b").as_bool());
  EXPECT_EQ(read.at("u").as_integer(), int64_t{1} << 40);
  EXPECT_EQ(read.at("s").as_string(), std::string_view("x\0\xffy", 4));
  EXPECT_THAT(read.at("ss").as_strings(), testing::ElementsAre("", "Ġt", "\n"));
  EXPECT_THAT(read.at("is").as_integers(), testing::ElementsAre(-1, 7));
  EXPECT_THAT(read.at("fs").as_floats(), testing::ElementsAre(0.5F));
  EXPECT_TRUE(read.at("none").as_strings().empty());
  EXPECT_EQ(read.tensor("t").shape, (Shape{1, 3}));
  EXPECT_EQ(0, std::memcmp(read.tensor("t").bytes.data(), values.data(), 12));
  EXPECT_THAT(message_of([&] { read.tensor("tt"); }), HasSubstr("did you mean \"t\""));
  EXPECT_THAT(message_of([&] { read.at("nine"); }), HasSubstr("did you mean \"none\""));
}

TEST(GgufWriter, AFileWithoutTensorsHasOnlyMetadata) {
  const TempFolder folder;
  GgufMetadata metadata;
  metadata.set_string("general.architecture", "llama");
  write_gguf(folder / "vocab.gguf", metadata, {}, [](size_t, ByteSink) {});
  EXPECT_EQ(GgufArchive(folder / "vocab.gguf").tensor_count(), 0U);
}

TEST(GgufWriter, ShortWritesChangeNothing) {
  const TempFolder folder;
  const Content content;
  {
    const FaultyFiles faults(SIZE_MAX, 0, 3);
    content.write(folder / "ours.gguf");
  }
  EXPECT_EQ(read_file(folder / "ours.gguf"), read_file(content.archive.path()));
}

TEST(GgufWriter, AFullDiskAtAnyOperationLeavesTheOldFile) {
  const TempFolder folder;
  const Content content;
  size_t operations = 0;
  {
    FaultyFiles counting;
    content.write(folder / "m.gguf");
    operations = counting.seen();
  }
  ASSERT_GT(operations, 10U);
  write_file_atomically(folder / "m.gguf", "old");
  for (size_t at = 0; at + 1 < operations; ++at) {  // the last syncs the folder: then it is new
    const FaultyFiles faults(at);
    EXPECT_THROW(content.write(folder / "m.gguf"), Error) << at;
    EXPECT_EQ(read_file(folder / "m.gguf"), "old") << at;
    EXPECT_EQ(folder.files(), 1U) << at;
  }
}

TEST(GgufWriter, RefusesWhatNoReaderWouldTake) {
  const TempFolder folder;
  const auto refusal = [&](const GgufMetadata& metadata, const std::vector<GgufEntry>& entries,
                           size_t bytes = 4) {
    const float zeros[2] = {};
    const std::string message = message_of(
        [&] {
          write_gguf(folder / "m.gguf", metadata, entries,
                     [&](size_t, ByteSink sink) { sink(zeros, bytes); });
        },
        ErrorKind::usage);
    EXPECT_EQ(folder.files(), 0U);
    return message;
  };
  const GgufMetadata none;
  EXPECT_THAT(refusal(none, {{"t", BlockType::f32, {1}}, {"t", BlockType::f32, {1}}}),
              HasSubstr("each name once"));
  EXPECT_THAT(refusal(none, {{std::string(64, 'n'), BlockType::f32, {1}}}), HasSubstr("63"));
  EXPECT_THAT(refusal(none, {{"t", BlockType::f32, {}}}), HasSubstr("dimensions"));
  EXPECT_THAT(refusal(none, {{"t", BlockType::q4_0, {2, 33}}}), HasSubstr("multiple of 32"));
  EXPECT_THAT(refusal(none, {{"t", BlockType::f32, {1}}}, 8), HasSubstr("4 bytes"));
  EXPECT_THAT(refusal(none, {{"t", BlockType::f32, {1}}}, 0), HasSubstr("4 bytes"));
  GgufMetadata odd;
  odd.set_u32("general.alignment", 24);
  EXPECT_THAT(refusal(odd, {}), HasSubstr("a power of two"));
  GgufMetadata empty;
  EXPECT_THROW(empty.set_u32("", 1), Error);
}

// Shards of one model: a in the first, which has the metadata, b in the second.
class GgufShards : public testing::Test {
 protected:
  void write(uint32_t no, uint32_t count, uint32_t tensors, const std::string& name,
             const std::string& file) {
    GgufMetadata metadata;
    metadata.set_u32("split.no", no);
    metadata.set_u32("split.count", count);
    metadata.set_u32("split.tensors.count", tensors);
    if (no == 0) metadata.set_string("general.architecture", "llama");
    const std::array<GgufEntry, 1> entries = {GgufEntry{name, BlockType::f32, {1}}};
    const auto value = static_cast<float>(no);
    write_gguf(folder_ / file, metadata, entries,
               [&](size_t, ByteSink sink) { sink(&value, sizeof value); });
  }
  TempFolder folder_;
};

TEST_F(GgufShards, OpenByAnyOfThem) {
  write(0, 2, 2, "a", "m-00001-of-00002.gguf");
  write(1, 2, 2, "b", "m-00002-of-00002.gguf");
  for (const char* name : {"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}) {
    const GgufArchive archive(folder_ / name);
    EXPECT_EQ(archive.at("general.architecture").as_string(), "llama");
    ASSERT_EQ(archive.tensor_count(), 2U);
    EXPECT_EQ(archive.tensor(1).name, "b");
    float value = 0;
    std::memcpy(&value, archive.tensor("b").bytes.data(), 4);
    EXPECT_EQ(value, 1.0F);
  }
}

TEST_F(GgufShards, RefuseToBeIncompleteOrMixed) {
  const Path first = folder_ / "m-00001-of-00002.gguf";
  const auto refusal = [&] { return message_of([&] { GgufArchive archive(first); }); };
  write(0, 2, 2, "a", "m-00001-of-00002.gguf");
  EXPECT_THAT(refusal(), HasSubstr("m-00002-of-00002.gguf"));
  write(0, 2, 2, "b", "m-00002-of-00002.gguf");
  EXPECT_THAT(refusal(), HasSubstr("split.no"));
  write(1, 2, 2, "a", "m-00002-of-00002.gguf");
  EXPECT_THAT(refusal(), HasSubstr("each tensor in one shard"));
  write(1, 2, 2, "b", "m-00002-of-00002.gguf");
  write(0, 2, 3, "a", "m-00001-of-00002.gguf");
  EXPECT_THAT(refusal(), HasSubstr("split.tensors.count"));
  std::filesystem::rename(first, folder_ / "renamed.gguf");
  EXPECT_THAT(message_of([&] { GgufArchive archive(folder_ / "renamed.gguf"); }),
              HasSubstr("NAME-0000K-of-00002.gguf"));
}

TEST(IsGguf, LooksAtTheFirstBytes) {
  const TempFolder folder;
  write_file_atomically(folder / "a", "GGUFx");
  write_file_atomically(folder / "b.gguf", "GGU");
  EXPECT_TRUE(is_gguf(folder / "a"));
  EXPECT_FALSE(is_gguf(folder / "b.gguf"));
  EXPECT_FALSE(is_gguf(folder / "c"));
  EXPECT_FALSE(is_gguf(folder.path()));
}

}  // namespace
}  // namespace cairn
