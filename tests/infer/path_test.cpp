// A whole model around PaTH attention with all its options: what training computes, what the engine
// decodes token by token and what it makes of a prompt are one thing.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "cairn/infer/engine.h"
#include "cairn/model/convert_attention.h"
#include "cairn/nn/language_model.h"
#include "tests/infer/model_files.h"

namespace cairn {
namespace {

ModelConfig path_config() {
  ModelConfig config = small_config();
  config.context_length = 640;
  config.attention = {"path_fox", {{"qk_norm", true}, {"path_nh", int64_t{2}}}};
  return config;
}

int32_t best(const float* logits, size_t vocab) {
  return static_cast<int32_t>(std::max_element(logits, logits + vocab) - logits);
}

TEST(PathModel, GreedyTokensAreThoseOfOneForwardPassOverAll) {
  Model model = random_model(path_config());
  const size_t vocab = model.config().vocab_size;
  ThreadTeam team(2, true);
  Engine engine(model, team);
  std::vector<int32_t> tokens = random_tokens(20, vocab);
  const size_t prompt = tokens.size();
  Session session = engine.start();
  View1<const float> logits = session.append(tokens);
  for (int step = 0; step < 512; ++step) {
    tokens.push_back(best(logits.data, vocab));
    logits = session.append(tokens.back());
  }
  std::vector<float> all(tokens.size() * vocab);
  engine.start().append(tokens, {all.data(), tokens.size(), vocab});
  for (size_t t = prompt; t < tokens.size(); ++t) {
    const float* row = all.data() + (t - 1) * vocab;
    // Another choice only where two are level.
    EXPECT_LT(row[best(row, vocab)] - row[tokens[t]], 1e-4) << "token " << t;
  }
}

TEST(PathModel, LossOfTrainingIsThatOfTheEngineAndFalls) {
  const ModelConfig config = path_config();
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
  const double before = trainer.forward_backward(batch).loss;
  EXPECT_NEAR(before, expected, 1e-5 * expected);

  // A short step against the gradient lowers the loss by its length times that of the gradient.
  double square = 0;
  for (const float g : trainer.gradients()) square += static_cast<double>(g) * g;
  const double step = 1e-3 * before / square;
  const std::span<float> weights = model.weights();
  for (size_t i = 0; i < weights.size(); ++i)
    weights[i] -= static_cast<float>(step * trainer.gradients()[i]);
  EXPECT_NEAR(before - trainer.forward(batch).loss, 1e-3 * before, 2e-4 * before);
}

TEST(PathModel, ConvertedFromRotaryPositionsItBeginsAsTheTeacher) {
  Model teacher = random_model(small_config());
  Model student = path_from_rope(teacher, {"path", {{"path_rank", int64_t{8}}}}, 3);
  ThreadTeam team(2, true);
  Engine one(teacher, team, {.cache = BlockType::f32}), other(student, team);
  const auto tokens = random_tokens(200, teacher.config().vocab_size);
  const size_t vocab = teacher.config().vocab_size;
  std::vector<float> expected(tokens.size() * vocab), found(expected.size());
  one.start().append(tokens, {expected.data(), tokens.size(), vocab});
  other.start().append(tokens, {found.data(), tokens.size(), vocab});
  float worst = 0;
  for (size_t i = 0; i < found.size(); ++i)
    worst = std::max(worst, std::abs(found[i] - expected[i]));
  EXPECT_LE(worst, 1e-4);
}

}  // namespace
}  // namespace cairn
