// Token files of other trainers, held to independent NumPy readers.
#include "cairn/data/token_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "cairn/data/dataset.h"
#include "cairn/io/json.h"
#include "tests/support/files.h"
#include "tests/support/golden.h"

namespace cairn {
namespace {

using testing::HasSubstr;

const Path kGolden = golden_folder() / "token_files";

std::vector<int32_t> tokens_of(const TokenFile& file) {
  std::vector<int32_t> tokens(file.tokens());
  file.read(0, tokens);
  return tokens;
}

void put(const Path& path, const std::string& bytes) {
  FileWriter writer(path);
  writer.write(bytes);
  writer.close();
}

std::string llmc_header(int32_t magic, int32_t version, uint32_t tokens) {
  std::string header(1024, '\0');
  std::memcpy(header.data(), &magic, 4);
  std::memcpy(header.data() + 4, &version, 4);
  std::memcpy(header.data() + 8, &tokens, 4);
  return header;
}

TEST(TokenFile, ReadsWhatNumPyReads) {
  const Json expected = read_json(kGolden / "expected.json");
  ASSERT_EQ(expected.size(), 9U);
  for (const auto& [name, want] : expected.items()) {
    const TokenFile file(kGolden / name);
    EXPECT_EQ(tokens_of(file), want[0].get<std::vector<int32_t>>()) << name;
    EXPECT_EQ(file.document_starts(), want[1].get<std::vector<uint64_t>>()) << name;
  }
  EXPECT_EQ(TokenFile(kGolden / "nanogpt.bin").format(), TokenFormat::raw_u16);
  EXPECT_EQ(TokenFile(kGolden / "llmc-v1.bin").format(), TokenFormat::llmc_u16);
  EXPECT_EQ(TokenFile(kGolden / "llmc-v7.bin").format(), TokenFormat::llmc_u32);
  EXPECT_EQ(TokenFile(kGolden / "megatron-4.idx").format(), TokenFormat::megatron);
}

TEST(TokenFile, AnyStretchOfItIsTheSameTokens) {
  for (const char* name : {"megatron-4.bin", "llmc-v1.bin"}) {
    const TokenFile file(kGolden / name);
    const std::vector<int32_t> all = tokens_of(file);
    for (size_t begin = 0; begin <= all.size(); begin += 3)
      for (size_t count = 0; begin + count <= all.size(); count += 5) {
        std::vector<int32_t> part(count);
        file.read(begin, part);
        ASSERT_TRUE(std::equal(part.begin(), part.end(), all.begin() + std::ptrdiff_t(begin)));
      }
    std::vector<int32_t> one(1);
    EXPECT_THROW(file.read(all.size(), one), Error);
  }
}

TEST(TokenFile, OffsetsBeyond4GiBAreRead) {
  const TempFolder folder;
  const uint32_t tokens = 3'000'000'000;  // a sparse file of 6 GB
  put(folder / "large.bin", llmc_header(20240520, 1, tokens));
  truncate_file(folder / "large.bin", 1024 + uint64_t{tokens} * 2);
  const TokenFile file(folder / "large.bin");
  EXPECT_EQ(file.tokens(), tokens);
  std::vector<int32_t> last = {1, 2, 3};
  file.read(tokens - 3, last);
  EXPECT_EQ(last, (std::vector<int32_t>{0, 0, 0}));
  EXPECT_THROW(file.read(tokens - 2, last), Error);
}

TEST(TokenFile, TruncationAtEveryByteIsRefusedOrReadsLess) {
  const TempFolder folder;
  for (const char* name : {"llmc-v1.bin", "llmc-v7.bin"}) {
    const std::string bytes = read_file(kGolden / name);
    for (size_t size = 12; size < bytes.size(); ++size) {
      put(folder / "cut.bin", bytes.substr(0, size));
      ASSERT_THROW(TokenFile(folder / "cut.bin"), Error) << name << " " << size;
    }
  }
  const std::string index = read_file(kGolden / "megatron-8.idx");
  const std::string payload = read_file(kGolden / "megatron-8.bin");
  put(folder / "m.bin", payload);
  for (size_t size = 9; size < index.size(); ++size) {
    put(folder / "m.idx", index.substr(0, size));
    ASSERT_THROW(TokenFile(folder / "m.idx"), Error) << size;
  }
  put(folder / "m.idx", index);
  for (size_t size = 0; size < payload.size(); ++size) {
    put(folder / "m.bin", payload.substr(0, size));
    ASSERT_THROW(TokenFile(folder / "m.bin"), Error) << size;
  }
}

TEST(TokenFile, SaysWhatAFileIsThatHoldsNoTokens) {
  const TempFolder folder;
  const auto message = [&](const std::string& bytes) {
    put(folder / "x.bin", bytes);
    return message_of([&] { TokenFile(folder / "x.bin"); }, ErrorKind::data);
  };
  EXPECT_THAT(message(llmc_header(20240326, 3, 0)), HasSubstr("a GPT-2 model of llm.c"));
  EXPECT_THAT(message(llmc_header(20240328, 2, 0)), HasSubstr("a tokenizer of llm.c"));
  EXPECT_THAT(message(llmc_header(20240520, 2, 0)), HasSubstr("version"));
  EXPECT_THAT(message(llmc_header(20240520, 1, 9)), HasSubstr("1042 bytes for 9 tokens"));
  EXPECT_THAT(message(""), HasSubstr("size"));
  EXPECT_THAT(message("abc"), HasSubstr("even number of bytes"));
}

TEST(TokenFile, NegativeTokensAndFloatsAreRefused) {
  const TempFolder folder;
  std::string index = read_file(kGolden / "megatron-2.idx");
  put(folder / "m.bin", std::string(read_file(kGolden / "megatron-2.bin").size(), '\xff'));
  put(folder / "m.idx", index);
  const TokenFile file(folder / "m.bin");
  std::vector<int32_t> token(1);
  EXPECT_THAT(message_of([&] { file.read(0, token); }, ErrorKind::data), HasSubstr("found -1"));
  index[17] = 7;  // f32
  put(folder / "m.idx", index);
  EXPECT_THAT(message_of([&] { TokenFile(folder / "m.bin"); }, ErrorKind::data),
              HasSubstr("type of the tokens"));
}

// ---- packing ----

TEST(PackTokens, KeepsEveryTokenInItsOrderAndCutsAtEndOfText) {
  const TempFolder folder;
  const Path out = folder / "dataset";
  const DatasetInfo info = pack_token_files({.files = {kGolden / "nanogpt.bin"},
                                             .held_out_fraction = 0.2,
                                             .vocab_size = 50257,
                                             .eos_id = 50256,
                                             .shard_tokens = 100,
                                             .show_progress = false},
                                            out);
  EXPECT_EQ(info.training.tokens + info.held_out.tokens, 300U);
  // Documents end at 41, 42, 201; the last one is longer than a shard and cut.
  EXPECT_EQ(info.held_out.tokens, 60U);
  std::vector<int32_t> all;
  for (const Split split : {Split::training, Split::held_out}) {
    const TokenStream stream(out, split);
    std::vector<int32_t> tokens(stream.tokens());
    stream.read(0, tokens);
    all.insert(all.end(), tokens.begin(), tokens.end());
  }
  EXPECT_EQ(all, tokens_of(TokenFile(kGolden / "nanogpt.bin")));
  const TokenStream training(out, Split::training);
  EXPECT_EQ(training.shard(0).document_starts()[1], 41U);
  EXPECT_EQ(training.shard(0).document_starts()[2], 42U);
  EXPECT_EQ(training.file_of(0, 0), (kGolden / "nanogpt.bin").string());
}

TEST(PackTokens, TakesDocumentsFromAnIndexAndHeldOutFilesAsTheyAre) {
  const TempFolder folder;
  const Path out = folder / "dataset";
  const DatasetInfo info = pack_token_files({.files = {kGolden / "megatron-1.bin"},
                                             .held_out_files = {kGolden / "megatron-5.idx"},
                                             .vocab_size = 128,
                                             .show_progress = false},
                                            out);
  EXPECT_EQ(info.training.tokens, 22U);
  EXPECT_EQ(info.held_out.tokens, 22U);
  EXPECT_EQ(info.training.documents, 4U);
  const TokenStream stream(out, Split::training);
  const auto starts = stream.shard(0).document_starts();
  EXPECT_EQ(std::vector<uint64_t>(starts.begin(), starts.end()),
            TokenFile(kGolden / "megatron-1.bin").document_starts());
}

TEST(PackTokens, NamesTheFileWhoseTokensAreNotInTheVocabulary) {
  const TempFolder folder;
  const std::string message = message_of(
      [&] {
        pack_token_files(
            {.files = {kGolden / "nanogpt.bin"}, .vocab_size = 100, .show_progress = false},
            folder / "out");
      },
      ErrorKind::data);
  EXPECT_THAT(message, HasSubstr("nanogpt.bin"));
  EXPECT_THAT(message, HasSubstr("below 100"));
  EXPECT_THAT(message, HasSubstr("another tokenizer"));
}

TEST(PackTokens, RefusesWhatMakesNoSense) {
  const TempFolder folder;
  const auto refused = [&](const TokenPackOptions& options) {
    return message_of([&] { pack_token_files(options, folder / "out"); }, ErrorKind::usage);
  };
  EXPECT_THAT(refused({.vocab_size = 10}), HasSubstr("at least one"));
  EXPECT_THAT(refused({.files = {kGolden / "nanogpt.bin"}}), HasSubstr("a tokenizer"));
  EXPECT_THAT(
      refused({.files = {kGolden / "nanogpt.bin"}, .held_out_fraction = 1, .vocab_size = 9}),
      HasSubstr("held-out fraction"));
  put(folder / "dataset.json", "{}");
  EXPECT_THROW(
      pack_token_files({.files = {kGolden / "nanogpt.bin"}, .vocab_size = 60000}, folder.path()),
      Error);
}

}  // namespace
}  // namespace cairn
