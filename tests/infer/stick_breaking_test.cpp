// A whole model around another mechanism than softmax: what training computes, what the engine
// decodes token by token and what it makes of a prompt must be one thing.
#include <gtest/gtest.h>

#include <algorithm>

#include "cairn/infer/engine.h"
#include "cairn/nn/language_model.h"
#include "tests/infer/model_files.h"

namespace cairn {
namespace {

ModelConfig stick_breaking_config() {
  ModelConfig config = small_config();
  config.context_length = 640;
  config.attention = {"stick_breaking", {{"head_norm", true}, {"logit_bias", -2.0}}};
  return config;
}

size_t best(std::span<const float> logits) {
  return std::max_element(logits.begin(), logits.end()) - logits.begin();
}

TEST(StickBreakingModel, GreedyTokensAreThoseOfOneForwardPassOverAll) {
  Model model = random_model(stick_breaking_config());
  const size_t vocab = model.config().vocab_size;
  ThreadTeam team(2, true);
  Engine engine(model, team);
  std::vector<int32_t> tokens = random_tokens(20, vocab);
  const size_t prompt = tokens.size();
  Session session = engine.start();
  View1<const float> logits = session.append(tokens);
  for (int step = 0; step < 512; ++step) {
    tokens.push_back(static_cast<int32_t>(best({logits.data, vocab})));
    logits = session.append(tokens.back());
  }
  std::vector<float> all(tokens.size() * vocab);
  engine.start().append(tokens, {all.data(), tokens.size(), vocab});
  for (size_t t = prompt; t < tokens.size(); ++t) {
    const std::span<const float> row(all.data() + (t - 1) * vocab, vocab);
    const float gap = row[best(row)] - row[tokens[t]];
    EXPECT_LT(gap, 1e-4) << "token " << t;  // another choice only where two are level
  }
}

TEST(StickBreakingModel, LossOfTrainingIsThatOfTheEngine) {
  const ModelConfig config = stick_breaking_config();
  Model model = random_model(config);
  ThreadTeam team(2, true);
  Engine engine(model, team);
  const auto tokens = random_tokens(150, config.vocab_size);
  std::vector<float> logits(tokens.size() * config.vocab_size);
  engine.start().append(tokens, {logits.data(), tokens.size(), config.vocab_size});
  LanguageModel trainer(model, {.sequences = 1, .length = tokens.size()}, team);
  Batch batch{.sequences = 1, .length = tokens.size(), .tokens = tokens, .targets = tokens};
  batch.offsets = {0, static_cast<int32_t>(tokens.size())};
  double expected = 0;
  for (size_t t = 0; t < tokens.size(); ++t) {
    batch.positions.push_back(static_cast<int32_t>(t));
    const float* row = logits.data() + t * config.vocab_size;
    double sum = 0;
    for (size_t i = 0; i < config.vocab_size; ++i) sum += std::exp(static_cast<double>(row[i]));
    expected += std::log(sum) - row[tokens[t]];
  }
  EXPECT_NEAR(trainer.forward(batch).loss, expected, 1e-5 * expected);
}

}  // namespace
}  // namespace cairn
