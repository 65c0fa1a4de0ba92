#include "cairn/data/loader.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "cairn/base/error.h"

namespace cairn {
namespace {

// A dataset of documents 0..n-1; document i holds i + 1 tokens, all different over the whole
// stream.
class LoaderTest : public testing::Test {
 protected:
  LoaderTest() : folder_(testing::TempDir() + "loader_test") {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    DatasetInfo info{.vocab_size = 5000, .tokenizer = 9, .eos_id = 0};
    int32_t next = 1;
    std::string names;
    for (int shard = 0; shard < 2; ++shard) {
      ShardWriter writer(5000, 9);
      for (int i = 0; i < 20; ++i) {
        std::vector<int32_t> document(static_cast<size_t>(i) + 1);
        for (int32_t& token : document) token = next++;
        writer.add_document(document);
        names += "file-" + std::to_string(shard) + "-" + std::to_string(i) + "\n";
      }
      info.training.tokens += writer.tokens();
      info.training.documents += writer.documents();
      info.training.shards.push_back("training-0000" + std::to_string(shard) + ".tokens");
      writer.write(folder_ / info.training.shards.back());
    }
    std::ofstream(folder_ / "training.files") << names;
    write_dataset_info(info, folder_);
  }
  ~LoaderTest() override { std::filesystem::remove_all(folder_); }

  Path folder_;
};

TEST_F(LoaderTest, TargetsAreTheNextTokensAndNoneIsLost) {
  const TokenStream stream(folder_, Split::training);
  const BatchMaker maker(stream, {.sequences = 3, .length = 8, .seed = 1});
  std::set<int32_t> first_tokens;
  for (uint64_t i = 0; i < 17; ++i) {
    const Batch batch = maker.batch(i);
    ASSERT_EQ(batch.tokens.size(), 24U);
    for (size_t t = 0; t < 24; ++t) {
      EXPECT_EQ(batch.targets[t], batch.tokens[t] + 1);
      EXPECT_EQ(batch.positions[t], static_cast<int32_t>(t % 8));
    }
    EXPECT_EQ(batch.offsets, (std::vector<int32_t>{0, 8, 16, 24}));
    for (size_t s = 0; s < 3; ++s) first_tokens.insert(batch.tokens[8 * s]);
  }
  // 210 tokens a shard: 26 windows each, 52 in an epoch; 51 samples are 51 different windows.
  EXPECT_EQ(maker.sampler().samples_per_epoch(), 52U);
  EXPECT_EQ(first_tokens.size(), 51U);
}

TEST_F(LoaderTest, MasksDocumentsAndResetsPositionsWhenAsked) {
  const TokenStream stream(folder_, Split::training);
  const BatchMaker maker(
      stream,
      {.sequences = 1, .length = 8, .seed = 1, .mask_documents = true, .reset_positions = true});
  // The stream begins with documents of 1, 2, 3, 4 tokens.
  const Batch batch = maker.evaluation_batch(0, 1);
  EXPECT_EQ(batch.offsets, (std::vector<int32_t>{0, 1, 3, 6, 8}));
  EXPECT_EQ(batch.positions, (std::vector<int32_t>{0, 0, 1, 0, 1, 2, 0, 1}));
}

TEST_F(LoaderTest, EvaluationFillsTheLastBatchWithIgnoredTargets) {
  const TokenStream stream(folder_, Split::training);
  const BatchMaker maker(stream, {.sequences = 4, .length = 8});
  EXPECT_EQ(maker.evaluation_batch(48, 4).target_count(), 32U);
  EXPECT_EQ(maker.evaluation_batch(51, 4).target_count(), 8U);
}

TEST_F(LoaderTest, NamesTheFilesOfABatch) {
  const TokenStream stream(folder_, Split::training);
  const BatchMaker maker(stream, {.sequences = 52, .length = 8});
  const auto files = maker.files(0);
  EXPECT_EQ(files.size(), 40U);
  EXPECT_EQ(files.front(), "file-0-0");
}

TEST_F(LoaderTest, LoaderGivesTheBatchesOfTheMakerFromAnywhere) {
  const TokenStream stream(folder_, Split::training);
  const BatchMaker maker(stream, {.sequences = 2, .length = 16, .seed = 4});
  DataLoader loader(maker, 5);
  for (uint64_t i = 5; i < 12; ++i) {
    EXPECT_EQ(loader.next_index(), i);
    EXPECT_EQ(loader.next().tokens, maker.batch(i).tokens);
  }
}

TEST_F(LoaderTest, AnErrorOfTheThreadReachesTheCaller) {
  {
    std::fstream file(folder_ / "training-00000.tokens",
                      std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-1, std::ios::end);
    file.put('\x7f');
  }
  const TokenStream stream(folder_, Split::training);
  const BatchMaker maker(stream, {.sequences = 52, .length = 8});
  DataLoader loader(maker, 0);
  try {
    loader.next();
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("training-00000.tokens"), std::string::npos);
  }
  EXPECT_THROW(loader.next(), Error);
}

TEST_F(LoaderTest, AVanishedShardIsNamed) {
  std::filesystem::remove(folder_ / "training-00001.tokens");
  try {
    const TokenStream stream(folder_, Split::training);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::data);
    EXPECT_NE(std::string(error.what()).find("training-00001.tokens"), std::string::npos);
  }
}

}  // namespace
}  // namespace cairn
