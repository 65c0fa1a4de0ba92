#include "cairn/io/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <numeric>

#include "tests/support/files.h"
#include "tests/support/golden.h"

namespace cairn {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::span<const std::byte> bytes_of(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

GgufFile parse(const std::string& content) {
  return GgufFile(bytes_of(content), "x.gguf");
}

// Made by an independent writer: every kind of value, an array of each, four tensors.
std::string golden() {
  return read_file(golden_folder() / "gguf" / "theirs.gguf");
}

// A file put together field by field, so that any of them can be wrong.
struct Bytes {
  std::string text;
  template <class T>
  Bytes& add(T value) {
    text.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Bytes& string(const std::string& value) {
    add(uint64_t{value.size()});
    text += value;
    return *this;
  }
  Bytes& header(uint64_t tensors, uint64_t pairs, uint32_t version = 3) {
    text = "GGUF";
    return add(version).add(tensors).add(pairs);
  }
  Bytes& info(const std::string& name, std::vector<uint64_t> dims, uint32_t type, uint64_t offset) {
    string(name).add(static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) add(dim);
    return add(type).add(offset);
  }
  Bytes& u32(const std::string& key, uint32_t value) { return string(key).add(4U).add(value); }
  Bytes& data(size_t bytes) {
    text.resize((text.size() + 31) / 32 * 32 + bytes, 'd');
    return *this;
  }
};

std::string refusal(const std::string& content) {
  return message_of([&] { parse(content); });
}

TEST(Gguf, ReadsEveryKindInOrder) {
  const std::string content = golden();
  const GgufFile file = parse(content);
  EXPECT_EQ(file.version(), 3U);
  EXPECT_EQ(file.alignment(), 32U);
  ASSERT_EQ(file.metadata_count(), 25U);
  EXPECT_EQ(file.metadata(0).key(), "general.architecture");
  EXPECT_EQ(file.metadata(0).as_string(), "llama");
  EXPECT_EQ(file.metadata(1).key(), "test.uint8");
  EXPECT_EQ(file.metadata(24).key(), "test.array.float64");
  EXPECT_EQ(file.find("test.uint8")->as_integer(), 200);
  EXPECT_EQ(file.find("test.int8")->as_integer(), -100);
  EXPECT_EQ(file.find("test.uint16")->as_integer(), 60000);
  EXPECT_EQ(file.find("test.int16")->as_integer(), -30000);
  EXPECT_EQ(file.find("test.uint32")->as_integer(), 4000000000);
  EXPECT_EQ(file.find("test.int32")->as_integer(), -2000000000);
  EXPECT_EQ(file.find("test.float32")->as_number(), double{0.1F});
  EXPECT_EQ(file.find("test.float64")->as_number(), 0.1);
  EXPECT_EQ(file.find("test.int64")->as_integer(), -(int64_t{1} << 60));
  EXPECT_EQ(file.find("test.uint64")->as_number(), 9223372036854775808.0);
  EXPECT_EQ(file.find("test.string")->as_string(), "été\n");
  EXPECT_TRUE(file.find("test.bool")->as_bool());
  EXPECT_THAT(file.find("test.array.int16")->as_integers(), ElementsAre(-30000, -30000));
  EXPECT_THAT(file.find("test.array.float32")->as_floats(), ElementsAre(0.1F, 0.1F));
  EXPECT_THAT(file.find("test.array.string")->as_strings(), ElementsAre("été\n", "été\n"));
  EXPECT_FALSE(file.find("test.uint"));
}

TEST(Gguf, ShowsTensorsOutermostFirst) {
  const std::string content = golden();
  const GgufFile file = parse(content);
  ASSERT_EQ(file.tensor_count(), 4U);
  const GgufTensor a = file.tensor(0);
  EXPECT_EQ(a.name, "a.weight");
  EXPECT_EQ(a.type, BlockType::f32);
  EXPECT_EQ(a.shape, (Shape{2, 3, 4}));
  float last = 0;
  std::memcpy(&last, a.bytes.data() + 23 * 4, 4);
  EXPECT_EQ(last, 23.0F);
  EXPECT_EQ(file.tensor(1).type, BlockType::f16);
  EXPECT_EQ(file.tensor(2).shape, (Shape{2, 64}));
  EXPECT_EQ(file.tensor(2).bytes.size(), 72U);
  EXPECT_EQ(std::to_integer<int>(file.tensor(2).bytes[71]), 71);
  EXPECT_EQ(file.find_tensor("d.weight"), 3U);
  EXPECT_FALSE(file.find_tensor("e.weight"));
}

TEST(Gguf, ReadsVersion2Alike) {
  std::string content = golden();
  content[4] = 2;
  EXPECT_EQ(parse(content).version(), 2U);
  EXPECT_EQ(parse(content).tensor_count(), 4U);
}

TEST(Gguf, RefusesOtherVersionsByName) {
  std::string content = golden();
  content[4] = 1;
  EXPECT_THAT(refusal(content), HasSubstr("byte 4, version"));
  content[4] = 4;
  EXPECT_THAT(refusal(content), HasSubstr("found 4"));
  std::swap(content[4], content[7]);
  EXPECT_THAT(refusal(content), HasSubstr("big-endian"));
  EXPECT_THAT(refusal("PK\3\4 not a model"), HasSubstr("is this a GGUF file?"));
}

// Only the padding behind the last tensor may be missing.
TEST(Gguf, RefusesToBeCutAnywhere) {
  const std::string content = golden();
  const GgufFile whole = parse(content);
  const size_t end = static_cast<size_t>(whole.tensor(3).bytes.data() - bytes_of(content).data()) +
                     whole.tensor(3).bytes.size();
  for (size_t size = 0; size < content.size(); ++size) {
    const std::string part = content.substr(0, size);
    if (size >= end) {
      EXPECT_NO_THROW(parse(part)) << size;
    } else {
      EXPECT_THAT(refusal(part), HasSubstr("x.gguf")) << size;
    }
  }
}

// Whatever any one byte becomes, the answer is a file all of whose parts can be read, or an Error.
TEST(Gguf, SurvivesAnyByteChanged) {
  const std::string content = golden();
  for (size_t at = 0; at < content.size(); ++at)
    for (const int change : {1, 0x80, 0xff, 0x40}) {
      std::string changed = content;
      changed[at] = static_cast<char>(changed[at] ^ change);
      try {
        const GgufFile file = parse(changed);
        size_t seen = 0;
        for (size_t i = 0; i < file.metadata_count(); ++i) seen += file.metadata(i).show().size();
        for (size_t i = 0; i < file.tensor_count(); ++i)
          for (const std::byte b : file.tensor(i).bytes) seen += std::to_integer<size_t>(b);
        EXPECT_GT(seen, 0U);
      } catch (const Error& error) {
        EXPECT_EQ(error.exit_code(), 3) << error.what();
      }
    }
}

TEST(Gguf, RefusesCountsBeyondTheFile) {
  EXPECT_THAT(refusal(Bytes().header(0, UINT64_MAX).text), HasSubstr("number of metadata pairs"));
  EXPECT_THAT(refusal(Bytes().header(UINT64_MAX / 2, 0).text), HasSubstr("number of tensors"));
  EXPECT_THAT(refusal(Bytes().header(0, 1).add(UINT64_MAX).text + std::string(20, 'k')),
              HasSubstr("length of the key"));
  const auto array = [](uint32_t kind, uint64_t count) {
    return Bytes().header(0, 1).string("k").add(9U).add(kind).add(count).text + "12345678";
  };
  EXPECT_THAT(refusal(array(10, uint64_t{1} << 61)), HasSubstr("array"));
  EXPECT_THAT(refusal(array(10, 2)), HasSubstr("cut short"));
  EXPECT_THAT(refusal(array(8, uint64_t{1} << 40)), HasSubstr("string"));
}

TEST(Gguf, RefusesWhatNoValueMayBe) {
  EXPECT_THAT(refusal(Bytes().header(0, 1).string("k").add(13U).text), HasSubstr("kind"));
  EXPECT_THAT(refusal(Bytes().header(0, 1).string("k").add(7U).add(uint8_t{2}).text),
              HasSubstr("0 or 1"));
  EXPECT_THAT(refusal(Bytes().header(0, 1).string("k").add(9U).add(9U).add(uint64_t{0}).text),
              HasSubstr("arrays in an array"));
  EXPECT_THAT(refusal(Bytes().header(0, 1).string("").add(4U).add(0U).text), HasSubstr("key"));
  EXPECT_THAT(refusal(Bytes().header(0, 2).u32("a", 1).u32("a", 1).text),
              HasSubstr("each key once"));
  EXPECT_THAT(refusal(Bytes().header(0, 1).u32("general.alignment", 48).text),
              HasSubstr("a power of two"));
  EXPECT_THAT(refusal(Bytes().header(0, 1).u32("general.alignment", 0).text),
              HasSubstr("a power of two"));
  EXPECT_THAT(
      refusal(Bytes().header(0, 1).string("general.alignment").add(10U).add(uint64_t{32}).text),
      HasSubstr("a u32"));
}

TEST(Gguf, RefusesTensorsThatCannotBe) {
  const auto one = [](std::vector<uint64_t> dims, uint32_t type, uint64_t offset,
                      const std::string& name = "t") {
    return Bytes().header(1, 0).info(name, std::move(dims), type, offset).data(128).text;
  };
  EXPECT_EQ(parse(one({32}, 0, 0)).tensor(0).bytes.size(), 128U);
  EXPECT_THAT(refusal(one({33}, 0, 0)), HasSubstr("cut short"));
  EXPECT_THAT(refusal(one({}, 0, 0)), HasSubstr("1 to 4 dimensions"));
  EXPECT_THAT(refusal(one({1, 1, 1, 1, 1}, 0, 0)), HasSubstr("1 to 4 dimensions"));
  EXPECT_THAT(refusal(one({uint64_t{1} << 32, uint64_t{1} << 32}, 0, 0)), HasSubstr("2^62"));
  EXPECT_THAT(refusal(one({0, UINT64_MAX}, 0, 0)), HasSubstr("2^62"));
  EXPECT_THAT(refusal(one({uint64_t{1} << 62}, 28, 0)), HasSubstr("within the file"));
  EXPECT_THAT(refusal(one({16}, 2, 0)), HasSubstr("whole q4_0 blocks"));
  EXPECT_THAT(refusal(one({32}, 4, 0)), HasSubstr("Q4_2"));
  EXPECT_THAT(refusal(one({32}, 139, 0)), HasSubstr("ik_llama.cpp"));
  EXPECT_THAT(refusal(one({1}, 0, 32)), HasSubstr("data at 0"));
  EXPECT_THAT(refusal(one({1}, 0, 7)), HasSubstr("data at 0"));
  EXPECT_THAT(refusal(one({1}, 0, 0, std::string(64, 'n'))), HasSubstr("1 to 63 bytes"));
  EXPECT_THAT(refusal(one({1}, 0, 0, "")), HasSubstr("1 to 63 bytes"));
  const auto two = [](uint64_t second, const std::string& name) {
    return Bytes().header(2, 0).info("t", {3}, 0, 0).info(name, {3}, 0, second).data(64).text;
  };
  EXPECT_EQ(parse(two(32, "u")).tensor_count(), 2U);
  EXPECT_THAT(refusal(two(0, "u")), HasSubstr("data at 32"));
  EXPECT_THAT(refusal(two(64, "u")), HasSubstr("data at 32"));
  EXPECT_THAT(refusal(two(32, "t")), HasSubstr("each name once"));
}

TEST(Gguf, RefusalsNameFileOffsetKeyAndWhatWasFound) {
  const std::string content = golden();
  const GgufFile file = parse(content);
  const auto message = [&](auto&& use) { return message_of([&] { use(); }); };
  EXPECT_THAT(message([&] { file.find("test.string")->as_integer(); }),
              testing::AllOf(HasSubstr("x.gguf"), HasSubstr("byte "), HasSubstr("test.string"),
                             HasSubstr("an integer"), HasSubstr("(string)")));
  EXPECT_THAT(message([&] { file.find("test.int8")->as_integer(0, 5); }),
              testing::AllOf(HasSubstr("from 0 to 5"), HasSubstr("-100 (i8)")));
  EXPECT_THAT(message([&] { file.find("test.uint64")->as_integer(); }), HasSubstr("an integer"));
  EXPECT_THAT(message([&] { file.find("test.uint8")->as_bool(); }), HasSubstr("true or false"));
  EXPECT_THAT(message([&] { file.find("test.uint8")->as_strings(); }),
              HasSubstr("array of strings"));
  EXPECT_THAT(message([&] { file.find("test.array.string")->as_floats(); }),
              HasSubstr("array of 2 string"));
}

}  // namespace
}  // namespace cairn
