#include "cairn/infer/decoder_weights.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cairn/infer/engine.h"
#include "cairn/model/model.h"
#include "tests/infer/model_files.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_folder.h"

namespace cairn {
namespace {

// Families whose files hold a layer's matrices apart, together (phi3) and in stacks (experts).
class FolderWeights : public testing::TestWithParam<const char*> {};

TEST_P(FolderWeights, KeepTheTypeOfTheFile) {
  const TemporaryFolder folder;
  save_model(load_model(golden_folder() / "models" / GetParam()), folder.path() / "m", DType::bf16);
  const DecoderWeights weights = open_folder_weights(folder.path() / "m");
  EXPECT_EQ(weights.embedding.type, BlockType::bf16);
  for (const DecoderLayerWeights& layer : weights.layers) {
    EXPECT_EQ(layer.k.type, BlockType::bf16);
    for (const ExpertWeights& expert : layer.experts) EXPECT_EQ(expert.down.type, BlockType::bf16);
  }
}

TEST_P(FolderWeights, GiveTheBitsOfAModelRoundedToTheirType) {
  const TemporaryFolder folder;
  save_model(load_model(golden_folder() / "models" / GetParam()), folder.path() / "m", DType::bf16);
  ThreadTeam team(2, true);
  Engine stored(open_folder_weights(folder.path() / "m"), team);
  Engine rounded(load_model(folder.path() / "m"), team, {.weights = BlockType::bf16});
  const auto tokens = random_tokens(20, stored.config().vocab_size);
  const auto expected = all_logits(rounded, tokens);
  for (const float value : expected) ASSERT_TRUE(std::isfinite(value));
  EXPECT_EQ(all_logits(stored, tokens), expected);
}

TEST_P(FolderWeights, GiveTheBitsOfTheModelInF32) {
  const Path folder = golden_folder() / "models" / GetParam();
  ThreadTeam team(1, true);
  Engine stored(open_folder_weights(folder), team), loaded(load_model(folder), team);
  const auto tokens = random_tokens(20, stored.config().vocab_size);
  EXPECT_EQ(all_logits(stored, tokens), all_logits(loaded, tokens));
}

INSTANTIATE_TEST_SUITE_P(Families, FolderWeights,
                         testing::Values("llama", "llama-untied", "llama-biases", "phi3", "gemma3",
                                         "granitemoe", "granitemoeshared", "gemma3-multimodal"));

}  // namespace
}  // namespace cairn
