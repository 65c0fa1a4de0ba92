#include "cairn/data/loader.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "cairn/base/error.h"
#include "cairn/data/evaluation_windows.h"
#include "tests/support/temporary_folder.h"

namespace cairn {
namespace {

// A dataset of documents 0..n-1; document i holds i + 1 tokens, all different over the whole
// stream.
class LoaderTest : public testing::Test {
 protected:
  LoaderTest() : folder_(temporary_.path()) {
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

  TemporaryFolder temporary_;
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
  // The stream begins with documents of 1, 2, 3, 4 tokens; some sample is its first window.
  uint64_t index = 0;
  while (maker.batch(index).tokens[0] != 1) ++index;
  const Batch batch = maker.batch(index);
  EXPECT_EQ(batch.offsets, (std::vector<int32_t>{0, 1, 3, 6, 8}));
  EXPECT_EQ(batch.positions, (std::vector<int32_t>{0, 0, 1, 0, 1, 2, 0, 1}));
}

TEST_F(LoaderTest, EvaluationPredictsEveryTokenButTheFirstOnceAcrossShards) {
  const TokenStream stream(folder_, Split::training);
  for (const size_t length : {1, 7, 8, 209, 300, 1000}) {
    const EvaluationWindows windows(token_source(stream), {.length = length});
    std::multiset<int32_t> predicted;
    for (uint64_t window = 0; window < windows.size(); ++window)
      for (const int32_t target : windows.batch(window, 1).targets)
        if (target != kIgnoredTarget) predicted.insert(target);
    // Two shards of 210 tokens 1 ... 420.
    EXPECT_EQ(predicted.size(), 419U) << length;
    EXPECT_EQ(std::set<int32_t>(predicted.begin(), predicted.end()).size(), 419U) << length;
    EXPECT_EQ(predicted.count(1), 0U) << length;
  }
}

TEST_F(LoaderTest, EvaluationKeepsDocumentsApartWhenAsked) {
  const TokenStream stream(folder_, Split::training);
  const EvaluationWindows apart(token_source(stream), {.length = 8, .mask_documents = true});
  EXPECT_EQ(apart.batch(0, 1).offsets, (std::vector<int32_t>{0, 1, 3, 6, 8}));
  // Tokens 209 ... 216: the second shard begins with token 211, its documents with 211, 212, 214.
  EXPECT_EQ(apart.batch(26, 1).offsets, (std::vector<int32_t>{0, 2, 3, 5, 8}));
  const EvaluationWindows together(token_source(stream), {.length = 8});
  EXPECT_EQ(together.batch(0, 2).offsets, (std::vector<int32_t>{0, 8, 16}));
}

TEST_F(LoaderTest, GlobalBatchesDoNotDependOnTheNumberOfRanks) {
  const TokenStream stream(folder_, Split::training);
  const BatchMaker whole(stream, {.sequences = 12, .length = 8, .seed = 3});
  for (const size_t ranks : {2, 3, 4}) {
    const BatchMaker part(stream, {.sequences = 12 / ranks, .length = 8, .seed = 3});
    for (uint64_t step = 0; step < 6; ++step) {
      std::vector<int32_t> joined;
      for (uint64_t rank = 0; rank < ranks; ++rank) {
        const Batch batch = part.batch(step * ranks + rank);
        joined.insert(joined.end(), batch.tokens.begin(), batch.tokens.end());
      }
      EXPECT_EQ(joined, whole.batch(step).tokens) << ranks << " ranks, step " << step;
    }
  }
}

TEST_F(LoaderTest, ReadsAcrossShardsAsOneStream) {
  const TokenStream stream(folder_, Split::training);
  std::vector<int32_t> tokens(420);
  stream.read(0, tokens);
  for (int32_t i = 0; i < 420; ++i) EXPECT_EQ(tokens[static_cast<size_t>(i)], i + 1);
  stream.read(420, std::span(tokens).first(0));
  EXPECT_THROW(stream.read(1, tokens), Error);
}

TEST_F(LoaderTest, ALoaderThatIsDroppedEarlyEndsItsThread) {
  const TokenStream stream(folder_, Split::training);
  const BatchMaker maker(stream, {.sequences = 8, .length = 16});
  for (uint64_t taken = 0; taken < 20; ++taken) {
    DataLoader loader(maker, taken);
    for (uint64_t i = 0; i < taken % 3; ++i) loader.next();
    EXPECT_GE(loader.stall_seconds(), 0.0);
  }
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

TEST_F(LoaderTest, MakesLaterBatchesInTheMemoryOfThoseGivenBack) {
  const TokenStream stream(folder_, Split::training);
  const BatchMaker maker(stream, {.sequences = 2, .length = 16, .seed = 4, .mask_documents = true});
  DataLoader loader(maker, 0);
  Batch batch;
  for (uint64_t i = 0; i < 20; ++i) {
    loader.recycle(std::move(batch));
    batch = loader.next();
    const Batch expected = maker.batch(i);
    EXPECT_EQ(batch.tokens, expected.tokens);
    EXPECT_EQ(batch.targets, expected.targets);
    EXPECT_EQ(batch.offsets, expected.offsets);
    EXPECT_EQ(batch.positions, expected.positions);
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
