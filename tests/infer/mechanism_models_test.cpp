// Whole models around mechanisms with caches of their own and with many of their options. What all
// mechanisms must do is in registry_test.cpp.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "cairn/infer/engine.h"
#include "cairn/model/convert_attention.h"
#include "cairn/nn/language_model.h"
#include "tests/infer/model_files.h"

namespace cairn {
namespace {

const AttentionOptions kPath = {"path_fox", {{"qk_norm", true}, {"path_nh", int64_t{2}}}};
const AttentionOptions kStickBreaking = {"stick_breaking",
                                         {{"head_norm", true}, {"logit_bias", -2.0}}};

ModelConfig config_around(const AttentionOptions& attention) {
  ModelConfig config = small_config();
  config.context_length = 640;
  config.attention = attention;
  return config;
}

int32_t best(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

TEST(MechanismModels, GreedyTokensAreThoseOfOneForwardPassOverAll) {
  for (const AttentionOptions& attention : {kPath, kStickBreaking}) {
    const Model model = random_model(config_around(attention));
    const size_t vocab = model.config().vocab_size;
    ThreadTeam team(2, true);
    Engine engine(model, team);
    std::vector<int32_t> tokens = random_tokens(20, vocab);
    const size_t prompt = tokens.size();
    Session session = engine.start();
    View1<const float> logits = session.append(tokens);
    for (int step = 0; step < 512; ++step) {
      tokens.push_back(best({logits.data, vocab}));
      logits = session.append(tokens.back());
    }
    const std::vector<float> all = all_logits(engine, tokens);
    for (size_t t = prompt; t < tokens.size(); ++t) {
      const std::span<const float> row(all.data() + (t - 1) * vocab, vocab);
      // Another choice only where two are level.
      EXPECT_LT(row[best(row)] - row[tokens[t]], 1e-4) << attention.mechanism << ", token " << t;
    }
  }
}

// A short step against the gradient lowers the loss by its length times that of the gradient.
TEST(MechanismModels, AStepAgainstTheGradientLowersTheLoss) {
  for (const AttentionOptions& attention : {kPath, kStickBreaking}) {
    const ModelConfig config = config_around(attention);
    Model model = random_model(config);
    ThreadTeam team(2, true);
    const auto tokens = random_tokens(150, config.vocab_size);
    LanguageModel trainer(model, {.sequences = 1, .length = tokens.size()}, team);
    Batch batch{.sequences = 1, .length = tokens.size(), .tokens = tokens, .targets = tokens};
    batch.offsets = {0, static_cast<int32_t>(tokens.size())};
    for (size_t t = 0; t < tokens.size(); ++t) batch.positions.push_back(static_cast<int32_t>(t));
    const double before = trainer.forward_backward(batch).loss;
    double square = 0;
    for (const float g : trainer.gradients()) square += static_cast<double>(g) * g;
    const double step = 1e-3 * before / square;
    const std::span<float> weights = model.weights();
    for (size_t i = 0; i < weights.size(); ++i)
      weights[i] -= static_cast<float>(step * trainer.gradients()[i]);
    EXPECT_NEAR(before - trainer.forward(batch).loss, 1e-3 * before, 2e-4 * before)
        << attention.mechanism;
  }
}

TEST(MechanismModels, PathConvertedFromRotaryPositionsBeginsAsItsTeacher) {
  Model teacher = random_model(small_config());
  const Model student = path_from_rope(teacher, {"path", {{"path_rank", int64_t{8}}}}, 3);
  ThreadTeam team(2, true);
  Engine one(teacher, team, {.cache = BlockType::f32}), other(student, team);
  const auto tokens = random_tokens(200, teacher.config().vocab_size);
  const std::vector<float> expected = all_logits(one, tokens), found = all_logits(other, tokens);
  float worst = 0;
  for (size_t i = 0; i < found.size(); ++i)
    worst = std::max(worst, std::abs(found[i] - expected[i]));
  EXPECT_LE(worst, 1e-4);
}

}  // namespace
}  // namespace cairn
