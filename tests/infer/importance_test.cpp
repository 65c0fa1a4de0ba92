#include "cairn/infer/importance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <utility>

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
    const auto x =
        model.matrix(outer_names(model.config()).embedding)[static_cast<size_t>(tokens[t])];
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

ModelConfig mixture_config() {
  ModelConfig config = small_config();
  config.architecture = "granitemoeshared";
  config.experts = 5;
  config.experts_per_token = 2;
  config.intermediate_size = 40;
  config.shared_intermediate_size = 24;
  return config;
}

// What the experts of a model read whose only layer attends to nothing, in float64:
// sums[0] [experts, hidden_size], sums[1] [experts, intermediate_size], and how often.
struct ExpertSums {
  std::vector<std::vector<double>> squares[2];
  std::vector<float> counts;
};

double product(View1<const float> row, const std::vector<double>& x) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += row[i] * x[i];
  return sum;
}

ExpertSums expert_sums(Model& model, std::span<const int32_t> tokens) {
  const ModelConfig& c = model.config();
  const LayerNames names = layer_names(c, 0);
  ExpertSums sums{{std::vector(c.experts, std::vector<double>(c.hidden_size)),
                   std::vector(c.experts, std::vector<double>(c.intermediate_size))},
                  std::vector<float>(c.experts)};
  const auto add = [](const std::vector<double>& x, std::vector<double>& sum) {
    for (size_t i = 0; i < x.size(); ++i) sum[i] += x[i] * x[i];
  };
  const View1<const float> weights = model.values(model.find(names.experts_gate_up));
  for (const int32_t token : tokens) {
    const std::vector<double> x =
        normed(model.matrix(outer_names(model.config()).embedding)[static_cast<size_t>(token)],
               model.values(model.find(names.mlp_norm)), c.rms_norm_eps);
    std::vector<std::pair<double, size_t>> logits;
    for (size_t e = 0; e < c.experts; ++e)
      logits.emplace_back(-product(model.matrix(names.router)[e], x), e);
    std::sort(logits.begin(), logits.end());
    for (size_t i = 0; i < c.experts_per_token; ++i) {
      const size_t e = logits[i].second;
      std::vector<double> gated(c.intermediate_size);
      for (size_t r = 0; r < gated.size(); ++r) {
        const auto row = [&](size_t at) {
          const size_t first = (e * 2 * c.intermediate_size + at) * c.hidden_size;
          return weights.slice(first, c.hidden_size);
        };
        const double gate = product(row(r), x);
        gated[r] = gate / (1 + std::exp(-gate)) * product(row(c.intermediate_size + r), x);
      }
      add(x, sums.squares[0][e]);
      add(gated, sums.squares[1][e]);
      ++sums.counts[e];
    }
  }
  return sums;
}

TEST(Importance, SumsForEachExpertWhatItsTokensBring) {
  ModelConfig config = mixture_config();
  config.layers = 1;
  Model model = random_model(config);
  const View1<float> o = model.values(model.find(layer_names(config, 0).o));
  std::fill(o.begin(), o.end(), 0.0F);
  const TempFolder folder;
  save_model(model, folder.path());
  const std::vector<int32_t> tokens = random_tokens(90, config.vocab_size);
  const ExpertSums expected = expert_sums(model, tokens);
  ThreadTeam team(2, true);
  for (const size_t chunk : {5, 90}) {  // few tokens a pass, and many
    const ImportanceSums sums =
        gather_importance(folder.path(), tokens, {.chunk_tokens = chunk}, team);
    for (const char* name : {"gate", "up", "down"}) {
      const auto& tensor = sums.tensors.at("blk.0.ffn_" + std::string(name) + "_exps.weight");
      EXPECT_EQ(tensor.counts, expected.counts) << name;
      const auto& squares = expected.squares[std::string_view(name) == "down" ? 1 : 0];
      const size_t cols = squares[0].size();
      ASSERT_EQ(tensor.squares.size(), config.experts * cols);
      for (size_t i = 0; i < tensor.squares.size(); ++i)
        ASSERT_NEAR(tensor.squares[i], squares[i / cols][i % cols],
                    1e-4 * squares[i / cols][i % cols] + 1e-4)
            << name << " " << i << ", chunks of " << chunk;
    }
  }
}

TEST(Importance, OfExpertsIsTheSameForAnyThreadsAndWeighsTheSharedOneToo) {
  const ModelConfig config = mixture_config();
  const TempFolder folder;
  save_model(random_model(config), folder.path());
  for (const size_t length : {5, 300}) {
    const std::vector<int32_t> tokens = random_tokens(length, config.vocab_size);
    ThreadTeam one(1), three(3, true);
    const ImportanceSums sums = gather_importance(folder.path(), tokens, {}, one);
    EXPECT_EQ(means_of(sums), means_of(gather_importance(folder.path(), tokens, {}, three)));
    EXPECT_EQ(sums.tensors.size(), 10 * config.layers);
    for (size_t layer = 0; layer < config.layers; ++layer) {
      const std::string prefix = "blk." + std::to_string(layer) + ".ffn_";
      const auto& shared = sums.tensors.at(prefix + "up_shexp.weight");
      const auto& experts = sums.tensors.at(prefix + "up_exps.weight");
      EXPECT_EQ(sums.tensors.at(prefix + "down_shexp.weight").squares.size(),
                config.shared_intermediate_size);
      // Every token is read by the shared expert and by two others.
      double all = 0, twice = 0;
      for (const float square : experts.squares) all += square;
      for (const float square : shared.squares) twice += 2 * square;
      EXPECT_NEAR(all, twice, 1e-5 * twice);
    }
  }
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
  EXPECT_THAT(message_of([&] { gather_importance(folder, {}, {}, team); }, ErrorKind::usage),
              HasSubstr("a text"));
  ImportanceSums sums;
  sums.tensors["a"] = {{1, NAN}, {1}};
  EXPECT_THAT(message_of([&] { means_of(sums); }), HasSubstr("\"a\""));
}

}  // namespace
}  // namespace cairn
