#include "cairn/infer/importance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "cairn/infer/convert.h"
#include "cairn/infer/engine.h"
#include "cairn/model/decoder_layout.h"
#include "tests/infer/model_files.h"
#include "tests/support/files.h"
#include "tests/support/golden.h"

namespace cairn {
namespace {

using testing::HasSubstr;

std::vector<double> normed(View1<const float> x, View1<const float> gain, double eps) {
  double squares = 0;
  for (const float value : x) squares += double{value} * value;
  const double scale = 1 / std::sqrt(squares / static_cast<double>(x.size) + eps);
  std::vector<double> y(x.size);
  for (size_t i = 0; i < x.size; ++i) y[i] = x[i] * scale * gain[i];
  return y;
}

TEST(Importance, ChunksAreNoLongerThanTheModelsContext) {
  ModelConfig config = small_config();
  config.context_length = 16;
  const TempFolder folder;
  save_model(random_model(config), folder.path());
  const std::vector<int32_t> tokens = random_tokens(90, config.vocab_size);
  ThreadTeam team(2, true);
  const ImportanceSums sums = gather_importance(folder.path(), tokens, {}, team);
  EXPECT_EQ(sums.chunk_tokens, 16U);
  EXPECT_EQ(sums.chunks, 5U);
}

// What the first products of a model read is its embedding, normed.
TEST(Importance, IsTheMeanSquareOfWhatAMatrixReads) {
  ModelConfig config = small_config();
  const TempFolder folder;
  Model model = random_model(config);
  save_model(model, folder.path());
  const std::vector<int32_t> tokens = random_tokens(90, config.vocab_size);
  ThreadTeam team(2, true);
  const ImportanceSums sums = gather_importance(folder.path(), tokens, {.chunk_tokens = 40}, team);
  EXPECT_EQ(sums.chunks, 2U);
  const ImportanceMatrix means = means_of(sums);
  EXPECT_EQ(means.size(), 7 * config.layers);
  std::vector<double> expected(config.hidden_size);
  const View1<const float> gain = model.values(model.find("model.layers.0.input_layernorm.weight"));
  for (size_t t = 0; t < 80; ++t) {
    const auto x = model.matrix(kEmbeddingName)[static_cast<size_t>(tokens[t])];
    const std::vector<double> y = normed(x, gain, config.rms_norm_eps);
    for (size_t i = 0; i < y.size(); ++i) expected[i] += y[i] * y[i] / 80;
  }
  for (const char* name : {"blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight"})
    for (size_t i = 0; i < expected.size(); ++i)
      ASSERT_NEAR(means.at(name)[i], expected[i], 1e-5 * expected[i]) << name;
}

TEST(Importance, WeighsEveryMatrixByItsOwnInput) {
  const ModelConfig config = small_config();
  const TempFolder folder;
  save_model(random_model(config), folder.path());
  ThreadTeam team(1);
  const ImportanceMatrix means =
      means_of(gather_importance(folder.path(), random_tokens(64, config.vocab_size), {}, team));
  for (size_t layer = 0; layer < config.layers; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    EXPECT_EQ(means.at(prefix + "attn_output.weight").size(), config.heads * config.head_dim);
    EXPECT_EQ(means.at(prefix + "ffn_down.weight").size(), config.intermediate_size);
    EXPECT_EQ(means.at(prefix + "ffn_gate.weight"), means.at(prefix + "ffn_up.weight"));
    EXPECT_NE(means.at(prefix + "ffn_up.weight"), means.at(prefix + "attn_q.weight"));
    // Normed rows have mean square 1 before their gains of 1 +- 0.2.
    double mean = 0;
    for (const float value : means.at(prefix + "ffn_up.weight")) mean += value;
    EXPECT_NEAR(mean / static_cast<double>(config.hidden_size), 1.0, 0.3);
  }
}

TEST(Importance, IsTheSameForAnyThreadsAndShortTexts) {
  const ModelConfig config = small_config();
  const TempFolder folder;
  save_model(random_model(config), folder.path());
  for (const size_t length : {5, 64, 300}) {
    const std::vector<int32_t> tokens = random_tokens(length, config.vocab_size);
    ThreadTeam one(1), three(3, true);
    EXPECT_EQ(means_of(gather_importance(folder.path(), tokens, {}, one)),
              means_of(gather_importance(folder.path(), tokens, {}, three)))
        << length;
  }
}

TEST(Importance, PutsTheBeginningOfTextsBeforeEachChunk) {
  const ModelConfig config = small_config();
  const TempFolder folder;
  save_model(random_model(config), folder.path());
  std::vector<int32_t> tokens = random_tokens(60, config.vocab_size);
  ThreadTeam team(1);
  const auto with =
      means_of(gather_importance(folder.path(), tokens, {.chunk_tokens = 30, .begin = 1}, team));
  tokens[0] = tokens[30] = 1;
  EXPECT_EQ(with, means_of(gather_importance(folder.path(), tokens, {.chunk_tokens = 30}, team)));
}

// Rows of several matrices in one tensor are weighed by what all of them read.
TEST(Importance, KnowsFusedTensors) {
  ThreadTeam team(1);
  const Path folder = golden_folder() / "models" / "phi3";
  const ImportanceMatrix means =
      means_of(gather_importance(folder, random_tokens(20, 64), {}, team));
  EXPECT_EQ(means.size(), 2 * 4U);
  EXPECT_EQ(means.count("blk.1.attn_qkv.weight"), 1U);
}

TEST(Importance, IsWrittenAsItIsRead) {
  const TempFolder folder;
  ImportanceSums sums;
  sums.text = "notes.txt";
  sums.tensors["blk.0.ffn_up.weight"] = {{1, 2, 3}, {4}};
  sums.tensors["blk.0.ffn_up_exps.weight"] = {{1, 2, 3, 4, 5, 6}, {2, 0}};
  write_importance_sums(folder / "i.gguf", sums);
  const ImportanceMatrix means = means_of(read_importance_sums(folder / "i.gguf"));
  EXPECT_EQ(means, means_of(sums));
  EXPECT_EQ(means.at("blk.0.ffn_up_exps.weight"), (std::vector<float>{0.5F, 1, 1.5F, 1, 1, 1}))
      << "an expert that was never reached";
}

TEST(Importance, RefusesWhatItCannotRunOrBelieve) {
  ThreadTeam team(1);
  const Path folder = golden_folder() / "models" / "granitemoe";
  EXPECT_THAT(message_of([&] { gather_importance(folder, random_tokens(9, 60), {}, team); },
                         ErrorKind::usage),
              HasSubstr("experts"));
  EXPECT_THAT(message_of([&] { gather_importance(folder, {}, {}, team); }, ErrorKind::usage),
              HasSubstr("a text"));
  ImportanceSums sums;
  sums.tensors["a"] = {{1, NAN}, {1}};
  EXPECT_THAT(message_of([&] { means_of(sums); }), HasSubstr("\"a\""));
}

}  // namespace
}  // namespace cairn
