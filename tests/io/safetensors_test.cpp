#include "cairn/io/safetensors.h"

#include <cstring>
#include <numeric>

#include "tests/support/files.h"

namespace cairn {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// The bytes of a file with this header, padded with spaces to `padded` bytes, and this many data.
std::string file_of(std::string header, size_t data, size_t padded = 0) {
  if (header.size() < padded) header.append(padded - header.size(), ' ');
  std::string file(8, '\0');
  for (size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(header.size() >> (8 * i) & 0xFFU);
  file += header;
  for (size_t i = 0; i < data; ++i) file += static_cast<char>(i);
  return file;
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

StoredTensors parse(const std::string& file) {
  TensorFileFacts facts;
  return parse_safetensors(bytes_of(file), "m.safetensors", facts);
}

std::string parse_message(const std::string& file) {
  return message_of([&] { parse(file); });
}

// Tensors of three types whose sizes make the order of storage visible.
const std::vector<TensorEntry> kEntries = {{"b", DType::bf16, {3}},
                                           {"a", DType::f32, {2, 3}},
                                           {"scalar", DType::f64, {}},
                                           {"empty", DType::f32, {0, 7}},
                                           {"flag", DType::boolean, {5}}};

// Byte i of tensor t is 16 t + i, given in pieces of one and the rest.
const auto give_bytes = [](size_t index, ByteSink sink) {
  std::vector<uint8_t> bytes(element_count(kEntries[index].shape) *
                             dtype_size(kEntries[index].dtype));
  std::iota(bytes.begin(), bytes.end(), static_cast<uint8_t>(16 * index));
  const size_t first = std::min<size_t>(1, bytes.size());
  sink(bytes.data(), first);
  sink(bytes.data() + first, bytes.size() - first);
};

void expect_entries(const TensorArchive& archive) {
  ASSERT_EQ(archive.tensors().size(), kEntries.size());
  for (size_t i = 0; i < kEntries.size(); ++i) {
    const StoredTensor& tensor = archive.find(kEntries[i].name);
    EXPECT_EQ(tensor.type, kEntries[i].dtype);
    EXPECT_EQ(tensor.shape, kEntries[i].shape);
    for (size_t j = 0; j < tensor.bytes.size(); ++j)
      EXPECT_EQ(std::to_integer<size_t>(tensor.bytes[j]), 16 * i + j) << kEntries[i].name;
  }
}

TEST(Safetensors, ReadsWhatItWrote) {
  const TempFolder folder;
  const Path path = folder / "m.safetensors";
  const uint64_t size = write_safetensors(path, kEntries, give_bytes, {{"note", "été"}});
  EXPECT_EQ(size, std::filesystem::file_size(path));
  const TensorArchive archive(path);
  expect_entries(archive);
  EXPECT_EQ(archive.files()[0].metadata, (TensorMetadata{{"format", "pt"}, {"note", "été"}}));
}

TEST(Safetensors, StartsDataAtACacheLineAndSortsByElementSizeThenName) {
  const TempFolder folder;
  write_safetensors(folder / "m.safetensors", kEntries, give_bytes);
  const TensorArchive archive(folder / "m.safetensors");
  EXPECT_EQ((8 + archive.files()[0].header_bytes) % 64, 0U);
  const std::byte* start = archive.find("scalar").bytes.data();
  std::vector<ptrdiff_t> offsets;
  for (const char* name : {"a", "empty", "b", "flag"})
    offsets.push_back(archive.find(name).bytes.data() - start);
  EXPECT_THAT(offsets, ElementsAre(8, 32, 32, 38));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(start) % 64, 0U);
}

TEST(Safetensors, WritesTheSameBytesInWhateverOrderTheTensorsCome) {
  const TempFolder folder;
  write_safetensors(folder / "a", kEntries, give_bytes);
  std::vector<TensorEntry> turned(kEntries.rbegin(), kEntries.rend());
  write_safetensors(folder / "b", turned, [](size_t index, ByteSink sink) {
    give_bytes(kEntries.size() - 1 - index, sink);
  });
  EXPECT_EQ(read_file(folder / "a"), read_file(folder / "b"));
}

TEST(Safetensors, ReadsAFileWithoutTensors) {
  EXPECT_TRUE(parse(file_of("{}", 0)).empty());
  EXPECT_TRUE(parse(file_of("{\"__metadata__\":{\"a\":\"b\"}}  ", 0)).empty());
}

TEST(Safetensors, KnowsTypesThatCairnLacks) {
  const StoredTensors tensors =
      parse(file_of(R"({"a":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[0,3]},)"
                    R"("b":{"dtype":"F4","shape":[2,3],"data_offsets":[3,6]}})",
                    6));
  EXPECT_EQ(tensors.at("a").dtype, "F8_E4M3");
  EXPECT_FALSE(tensors.at("a").type);
  EXPECT_EQ(tensors.at("b").bytes.size(), 3U);
}

TEST(Safetensors, LeavesEveryOddTypeWordReadable) {
  for (const DType type :
       {DType::f32, DType::bf16, DType::f16, DType::f64, DType::i8, DType::i16, DType::i32,
        DType::i64, DType::u8, DType::u16, DType::u32, DType::u64, DType::boolean}) {
    const std::string size = std::to_string(3 * dtype_size(type));
    const auto tensors =
        parse(file_of("{\"a\":{\"dtype\":\"" + std::string(safetensors_dtype(type)) +
                          "\",\"shape\":[3],\"data_offsets\":[0," + size + "]}}",
                      3 * dtype_size(type)));
    EXPECT_EQ(tensors.at("a").type, type);
  }
}

// Each rule of the format with a file that breaks it and a word of the message.
struct Broken {
  const char* rule;
  std::string file;
  const char* message;
};

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets,
                size_t data) {
  return file_of(
      "{\"a\":{\"dtype\":" + dtype + ",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}",
      data);
}

std::string two(const std::string& first, const std::string& second, size_t data) {
  return file_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + first +
                     R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}",
                 data);
}

std::vector<Broken> broken_files() {
  std::string huge = file_of("{}", 0);
  for (size_t i = 0; i < 8; ++i) huge[i] = '\xff';
  std::string beyond = file_of("{}", 0);
  beyond[0] = 3;
  return {
      {"too short for a length", "1234567", "8 bytes"},
      {"empty", "", "8 bytes"},
      {"length above 100 MB", huge, "at most 100000000"},
      {"length beyond the file", beyond, "cut short"},
      {"no header", std::string(8, '\0'), "JSON object"},
      {"header is no object", file_of("[]", 0), "JSON object"},
      {"header begins with a space", file_of(" {}", 0), "JSON object"},
      {"header is cut", file_of("{\"a\":", 0), "valid JSON"},
      {"text after the object", file_of("{}x", 0), "valid JSON"},
      {"NUL padding", file_of(std::string("{}\0\0", 4), 0), "NUL"},
      {"bad UTF-8", file_of("{\"\xff\":{}}", 0), "UTF-8"},
      {"duplicate name",
       file_of(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
               R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
               2),
       "key \"a\" again"},
      {"duplicate field",
       file_of(R"({"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1),
       "key \"dtype\" again"},
      {"tensor is no object", file_of("{\"a\":7}", 0), "an object"},
      {"no dtype", file_of(R"({"a":{"shape":[1],"data_offsets":[0,1]}})", 1), "dtype"},
      {"no shape", file_of(R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", 1), "shape"},
      {"no offsets", file_of(R"({"a":{"dtype":"U8","shape":[1]}})", 1), "data_offsets"},
      {"another field",
       file_of(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"strides":[1]}})", 1),
       "nothing else"},
      {"unknown dtype", one("\"F31\"", "[1]", "[0,1]", 1), "an element type"},
      {"dtype in lower case", one("\"f32\"", "[1]", "[0,4]", 4), "an element type"},
      {"dtype is a number", one("32", "[1]", "[0,1]", 1), "a string"},
      {"shape is a number", one("\"U8\"", "1", "[0,1]", 1), "an array"},
      {"negative size", one("\"U8\"", "[-1]", "[0,1]", 1), "shape[0]"},
      {"fractional size", one("\"U8\"", "[1.5]", "[0,1]", 1), "shape[0]"},
      {"size is a string", one("\"U8\"", "[\"1\"]", "[0,1]", 1), "shape[0]"},
      {"rank beyond reason",
       one(
           "\"U8\"",
           "[1" + std::string(200, ' ') +
               [] {
                 std::string ones;
                 for (int i = 0; i < 64; ++i) ones += ",1";
                 return ones;
               }() +
               "]",
           "[0,1]", 1),
       "at most 64"},
      {"one offset", one("\"U8\"", "[1]", "[0]", 1), "[begin, end]"},
      {"three offsets", one("\"U8\"", "[1]", "[0,1,1]", 1), "[begin, end]"},
      {"negative offset", one("\"U8\"", "[1]", "[-1,0]", 1), "data_offsets[0]"},
      {"offset beyond 64 bits", one("\"U8\"", "[1]", "[0,18446744073709551617]", 1),
       "data_offsets[1]"},
      {"end before begin", one("\"U8\"", "[1]", "[1,0]", 1), "begin <= end"},
      {"end beyond the data", one("\"U8\"", "[2]", "[0,2]", 1), "begin <= end"},
      {"size disagrees with the shape", one("\"F32\"", "[2]", "[0,4]", 4), "8 bytes (F32 [2])"},
      {"scalar of the wrong size", one("\"F32\"", "[]", "[0,8]", 8), "4 bytes"},
      {"product overflows", one("\"U8\"", "[4294967296,4294967297]", "[0,4294967296]", 1),
       "begin <= end"},
      {"product overflows to a small size", one("\"U8\"", "[9223372036854775809,2]", "[0,2]", 2),
       "2^64"},
      {"bits overflow", one("\"F64\"", "[2305843009213693953]", "[0,8]", 8), "2^64"},
      {"part of a byte", one("\"F4\"", "[3]", "[0,1]", 1), "whole bytes"},
      {"overlap", two("[0,4]", "[2,6]", 6), "overlap"},
      {"the same bytes twice", two("[0,4]", "[0,4]", 4), "overlap"},
      {"hole", two("[0,4]", "[5,9]", 9), "hole"},
      {"hole at the start", one("\"U8\"", "[1]", "[1,2]", 2), "hole"},
      {"data after the last tensor", one("\"U8\"", "[1]", "[0,1]", 2), "end of the last tensor"},
      {"data without tensors", file_of("{}", 1), "end of the last tensor"},
      {"metadata is no object", file_of("{\"__metadata__\":[]}", 0), "an object"},
      {"metadata holds a number", file_of("{\"__metadata__\":{\"a\":1}}", 0), "a string"},
  };
}

TEST(Safetensors, RefusesEveryBrokenRule) {
  for (const Broken& broken : broken_files()) {
    const std::string message = parse_message(broken.file);
    EXPECT_THAT(message, HasSubstr("m.safetensors")) << broken.rule;
    EXPECT_THAT(message, HasSubstr(broken.message)) << broken.rule;
  }
}

TEST(Safetensors, AcceptsAnEmptyTensorBetweenOthersAndHugeEmptyShapes) {
  const StoredTensors tensors =
      parse(file_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                    R"("e":{"dtype":"F32","shape":[4294967296,0],"data_offsets":[4,4]},)"
                    R"("b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
                    8));
  EXPECT_TRUE(tensors.at("e").bytes.empty());
}

TEST(Safetensors, RefusesEveryTruncationAndEveryExtension) {
  const TempFolder folder;
  write_safetensors(folder / "m.safetensors", kEntries, give_bytes);
  const std::string whole = read_file(folder / "m.safetensors");
  EXPECT_EQ(parse(whole).size(), kEntries.size());
  for (size_t length = 0; length < whole.size(); ++length)
    EXPECT_THAT(parse_message(whole.substr(0, length)), HasSubstr("m.safetensors")) << length;
  EXPECT_THAT(parse_message(whole + "x"), HasSubstr("end of the last tensor"));
}

TEST(Safetensors, SurvivesEveryChangedByteOfAHeader) {
  const std::string whole = two("[0,4]", "[4,8]", 8);
  for (size_t i = 0; i < whole.size(); ++i) {
    for (const int flip : {0x01, 0x20, 0x80}) {
      std::string changed = whole;
      changed[i] = static_cast<char>(changed[i] ^ flip);
      try {
        parse(changed);
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::data);
      }
    }
  }
}

TEST(Safetensors, RefusesToWriteOneNameTwice) {
  const TempFolder folder;
  const std::vector<TensorEntry> twice = {{"a", DType::u8, {1}}, {"a", DType::f32, {1}}};
  const auto nothing = [](size_t, ByteSink) {};
  EXPECT_THAT(
      message_of([&] { write_safetensors(folder / "m", twice, nothing); }, ErrorKind::usage),
      HasSubstr("tensor a"));
  EXPECT_EQ(folder.files(), 0U);
}

TEST(Safetensors, HoldsASourceToTheSizeItPromised) {
  const TempFolder folder;
  const std::vector<TensorEntry> entries = {{"a", DType::f32, {2}}};
  for (const size_t given : {size_t{0}, size_t{7}, size_t{9}}) {
    const std::string bytes(given, 'x');
    const auto source = [&](size_t, ByteSink sink) { sink(bytes.data(), bytes.size()); };
    EXPECT_THAT(
        message_of([&] { write_safetensors(folder / "m", entries, source); }, ErrorKind::usage),
        HasSubstr("expected 8 bytes, found " + std::to_string(given)));
  }
  EXPECT_EQ(folder.files(), 0U);
}

TEST(Safetensors, KeepsTheOldFileWheneverTheDiskFails) {
  const TempFolder folder;
  const Path path = folder / "m.safetensors";
  write_file_atomically(path, "old");
  size_t operations = 0;
  {
    const FaultyFiles none;
    write_safetensors(folder / "other", kEntries, give_bytes);
    operations = none.seen();
  }
  std::filesystem::remove(folder / "other");
  ASSERT_GT(operations, 6U);
  for (size_t fail_at = 0; fail_at + 1 < operations; ++fail_at) {  // the last syncs the folder
    const FaultyFiles faults(fail_at);
    EXPECT_THAT(
        message_of([&] { write_safetensors(path, kEntries, give_bytes); }, ErrorKind::failed),
        HasSubstr("No space left"));
    EXPECT_EQ(read_file(path), "old") << fail_at;
    EXPECT_EQ(folder.files(), 1U) << fail_at;
  }
}

TEST(Safetensors, WritesTheSameFileThroughShortWrites) {
  const TempFolder folder;
  write_safetensors(folder / "a", kEntries, give_bytes);
  const FaultyFiles one_byte(SIZE_MAX, 0, 1);
  write_safetensors(folder / "b", kEntries, give_bytes);
  EXPECT_EQ(read_file(folder / "a"), read_file(folder / "b"));
}

TEST(TensorArchive, WritesOneFileBelowTheShardSizeAndSeveralAbove) {
  const TempFolder folder;
  EXPECT_THAT(write_tensor_archive(folder.path(), "model", kEntries, give_bytes, 43),
              ElementsAre("model.safetensors"));
  expect_entries(TensorArchive(folder.path()));
  EXPECT_THAT(write_tensor_archive(folder.path(), "model", kEntries, give_bytes, 30),
              ElementsAre("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                          "model.safetensors.index.json"));
  const TensorArchive archive(folder.path());
  expect_entries(archive);
  EXPECT_EQ(archive.files().size(), 2U);
  EXPECT_THAT(read_file(folder / "model.safetensors.index.json"), HasSubstr("\"total_size\": 43"));
}

TEST(TensorArchive, RemovesWhatAnOlderWritingLeftAndNothingElse) {
  const TempFolder folder;
  write_file_atomically(folder / "model-extra.safetensors", "mine");
  write_tensor_archive(folder.path(), "model", kEntries, give_bytes, 10);
  EXPECT_FALSE(std::filesystem::exists(folder / "model.safetensors"));
  write_tensor_archive(folder.path(), "model", kEntries, give_bytes);
  EXPECT_EQ(folder.files(), 2U);
  write_tensor_archive(folder.path(), "model", kEntries, give_bytes, 10);
  EXPECT_FALSE(std::filesystem::exists(folder / "model.safetensors"));
  EXPECT_TRUE(std::filesystem::exists(folder / "model-extra.safetensors"));
}

// A folder of shards whose index a test can change.
class Shards : public testing::Test {
 protected:
  void SetUp() override {
    write_tensor_archive(folder_.path(), "model", kEntries, give_bytes, 30);
    index_ = folder_ / "model.safetensors.index.json";
  }
  std::string message_with(const std::string& from, const std::string& to) {
    std::string text = read_file(index_);
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    write_file_atomically(index_, text);
    return message_of([&] { TensorArchive archive(folder_.path()); });
  }
  TempFolder folder_;
  Path index_;
};

TEST_F(Shards, AVanishedShardIsNamed) {
  std::filesystem::remove(folder_ / "model-00002-of-00002.safetensors");
  EXPECT_THAT(message_of([&] { TensorArchive archive(folder_.path()); }),
              HasSubstr("model-00002-of-00002.safetensors"));
}

TEST_F(Shards, ATensorInAnotherShardThanTheIndexSaysIsRefused) {
  EXPECT_THAT(message_with("\"a\": \"model-00001", "\"a\": \"model-00002"),
              HasSubstr("tensor \"a\""));
}

TEST_F(Shards, ATensorThatNoShardHoldsIsRefused) {
  EXPECT_THAT(message_with("\"a\": ", "\"aa\": "), HasSubstr("tensor \"aa\""));
}

TEST_F(Shards, ATensorThatTheIndexDoesNotKnowIsRefused) {
  EXPECT_THAT(message_with("\"a\": \"model-00001-of-00002.safetensors\",", ""),
              HasSubstr("tensor \"a\" of model-00001-of-00002.safetensors"));
}

TEST_F(Shards, AnIndexCannotLeadOutOfItsFolder) {
  EXPECT_THAT(message_with("\"a\": \"model", "\"a\": \"../model"), HasSubstr("beside the index"));
}

TEST_F(Shards, ANameThatNoFileCanHaveIsRefused) {
  const std::string path = (folder_.path() / std::string(300, 'x')).string();
  EXPECT_THAT(message_with("\"a\": \"model", "\"a\": \"" + std::string(300, 'x')),
              HasSubstr("no such file"));
  EXPECT_THAT(message_of([&] { TensorArchive archive{Path(path)}; }), HasSubstr("too long"));
}

TEST_F(Shards, ANameInTwoShardsIsRefused) {
  std::filesystem::copy_file(folder_ / "model-00001-of-00002.safetensors",
                             folder_ / "model-00003-of-00002.safetensors");
  EXPECT_THAT(message_with("\"a\": \"model-00001", "\"a\": \"model-00003"),
              HasSubstr("each tensor in one shard"));
}

TEST_F(Shards, AnIndexWithoutAMapIsRefused) {
  EXPECT_THAT(message_with("weight_map", "weights"), HasSubstr("weight_map"));
}

TEST(TensorArchive, NamesTheNearestTensor) {
  const TempFolder folder;
  write_safetensors(folder / "m.safetensors", kEntries, give_bytes);
  const TensorArchive archive(folder / "m.safetensors");
  EXPECT_THAT(message_of([&] { (void)archive.find("scalr"); }), HasSubstr("\"scalar\""));
}

TEST(TensorArchive, RefusesAFolderWithoutAModel) {
  const TempFolder folder;
  EXPECT_THAT(message_of([&] { TensorArchive archive(folder.path()); }), HasSubstr("neither"));
  EXPECT_THAT(message_of([&] { TensorArchive archive(folder / "none.safetensors"); }),
              HasSubstr("none.safetensors"));
}

}  // namespace
}  // namespace cairn
