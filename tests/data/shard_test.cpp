#include "cairn/data/shard.h"

#include <gtest/gtest.h>

#include <fstream>

#include "cairn/base/error.h"
#include "tests/support/temporary_folder.h"

namespace cairn {
namespace {

class ShardTest : public testing::Test {
 protected:
  Path write_small(uint64_t vocab_size = 300) {
    ShardWriter writer(vocab_size, 77);
    writer.add_document(std::vector<int32_t>{1, 2, 299});
    writer.add_document(std::vector<int32_t>{});
    writer.add_document(std::vector<int32_t>{4, 0});
    writer.write(folder_ / "small.tokens");
    return folder_ / "small.tokens";
  }
  void put(const Path& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
  }

  TemporaryFolder temporary_;
  Path folder_ = temporary_.path();
};

TEST_F(ShardTest, ReadsWhatWasWritten) {
  for (const uint64_t vocab_size : {300, 70000}) {
    const Shard shard(write_small(vocab_size));
    EXPECT_EQ(shard.info().token_bytes, vocab_size == 300 ? 2U : 4U);
    EXPECT_EQ(shard.info().tokens, 5U);
    EXPECT_EQ(shard.info().tokenizer, 77U);
    std::vector<int32_t> tokens(5);
    shard.read(0, tokens);
    EXPECT_EQ(tokens, (std::vector<int32_t>{1, 2, 299, 4, 0}));
    EXPECT_EQ(std::vector<uint64_t>(shard.document_starts().begin(), shard.document_starts().end()),
              (std::vector<uint64_t>{0, 3, 3}));
    EXPECT_EQ(shard.document_of(2), 0U);
    EXPECT_EQ(shard.document_of(3), 2U);
    EXPECT_THROW(shard.read(1, tokens), Error);
  }
}

TEST_F(ShardTest, TruncationAtEveryByteIsRefused) {
  const std::string bytes = read_file(write_small());
  for (size_t size = 0; size < bytes.size(); ++size) {
    put(folder_ / "cut.tokens", bytes.substr(0, size));
    EXPECT_THROW(Shard(folder_ / "cut.tokens"), Error) << size;
  }
}

TEST_F(ShardTest, EveryFlippedByteIsFoundOrHarmless) {
  const std::string bytes = read_file(write_small());
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x41);
    put(folder_ / "damaged.tokens", damaged);
    std::vector<int32_t> tokens(5);
    try {
      const Shard shard(folder_ / "damaged.tokens");
      shard.read(0, tokens);
      EXPECT_EQ(tokens, (std::vector<int32_t>{1, 2, 299, 4, 0})) << "byte " << i;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::data);
      EXPECT_NE(std::string(error.what()).find("damaged.tokens"), std::string::npos);
    }
  }
}

TEST_F(ShardTest, RefusesTokensOutsideTheVocabulary) {
  ShardWriter writer(10, 0);
  EXPECT_THROW(writer.add_document(std::vector<int32_t>{10}), Error);
  EXPECT_THROW(writer.add_document(std::vector<int32_t>{-1}), Error);
}

TEST_F(ShardTest, OneThatIsCutWhileItIsOpenEndsInAnErrorThatNamesIt) {
  ShardWriter writer(300, 77);
  writer.add_document(std::vector<int32_t>(100000, 7));
  writer.write(folder_ / "large.tokens");
  const Shard shard(folder_ / "large.tokens");
  std::vector<int32_t> tokens(1000);
  truncate_file(folder_ / "large.tokens", 4096);
  try {
    shard.read(90000, tokens);
    FAIL() << "it read what is not there";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::data);
    EXPECT_NE(std::string(error.what()).find("large.tokens"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("another process has cut it"), std::string::npos);
  }
}

TEST_F(ShardTest, BlocksAreCheckedOnceAndSoAreTokensOfEveryBlock) {
  ShardWriter writer(70000, 77);
  writer.add_document(std::vector<int32_t>(9'000'000, 7));  // 36 MB: three blocks
  writer.write(folder_ / "large.tokens");
  {
    std::fstream file(folder_ / "large.tokens", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-1, std::ios::end);
    file.put('\x7f');
  }
  const Shard shard(folder_ / "large.tokens");
  std::vector<int32_t> tokens(1000);
  shard.read(0, tokens);
  shard.read(4'194'000, tokens);  // across the first two
  EXPECT_EQ(tokens, std::vector<int32_t>(1000, 7));
  EXPECT_THROW(shard.read(8'999'000, tokens), Error);
}

}  // namespace
}  // namespace cairn
