#include "cairn/eval/divergence.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "cairn/base/error.h"
#include "cairn/base/random.h"
#include "tests/infer/model_files.h"

namespace cairn {
namespace {

constexpr size_t kVocab = 37;

struct Logits {
  std::vector<float> values;
  size_t cols;
  View2<const float> view() const { return {values.data(), values.size() / cols, cols}; }
};

Logits random_logits(size_t rows, uint64_t seed, float scale = 3) {
  const RandomStream stream(seed, "test logits");
  Logits logits{std::vector<float>(rows * kVocab), kVocab};
  for (size_t i = 0; i < logits.values.size(); ++i)
    logits.values[i] = scale * static_cast<float>(stream.normal(i));
  return logits;
}

std::vector<double> softmax(View1<const float> logits) {
  std::vector<double> p(logits.begin(), logits.end());
  double sum = 0;
  for (double& value : p) sum += value = std::exp(value);
  for (double& value : p) value /= sum;
  return p;
}

TEST(Divergence, IsTheSumOfItsDefinition) {
  const Logits reference = random_logits(50, 1), model = random_logits(50, 2);
  std::vector<int32_t> next(50);
  double mean = 0, nats = 0, squares = 0;
  int same = 0;
  for (size_t t = 0; t < next.size(); ++t) {
    next[t] = static_cast<int32_t>(t * 7 % kVocab);
    const auto p = softmax(reference.view()[t]), q = softmax(model.view()[t]);
    for (size_t i = 0; i < kVocab; ++i) mean += p[i] * std::log(p[i] / q[i]) / 50;
    const auto at = static_cast<size_t>(next[t]);
    nats -= std::log(q[at]) / 50;
    squares += (q[at] - p[at]) * (q[at] - p[at]) / 50;
    same += std::max_element(p.begin(), p.end()) - p.begin() ==
            std::max_element(q.begin(), q.end()) - q.begin();
  }
  ThreadTeam team(1);
  Divergence divergence;
  divergence.add(reference.view(), model.view(), next, team);
  const DivergenceScore score = divergence.score();
  EXPECT_EQ(score.tokens, 50U);
  EXPECT_NEAR(score.mean, mean, 1e-12);
  EXPECT_NEAR(score.perplexity, std::exp(nats), 1e-9);
  EXPECT_NEAR(score.rms_probability_change, std::sqrt(squares), 1e-12);
  EXPECT_DOUBLE_EQ(score.same_top, same / 50.0);
  EXPECT_LT(score.same_top, 0.5);  // or the test would not see it
}

// Of two tokens with logits (0, 0) against (0, x): ln((1 + e^x) / 2) - x / 2.
TEST(Divergence, PercentilesAreThoseOfTheSortedTokens) {
  constexpr size_t kTokens = 101;
  std::vector<float> reference(2 * kTokens, 0.0F), model(2 * kTokens, 0.0F);
  for (size_t t = 0; t < kTokens; ++t)  // a falling order, as sorting is part of the promise
    model[2 * t + 1] = 0.05F * static_cast<float>(kTokens - 1 - t);
  const std::vector<int32_t> next(kTokens, 0);
  ThreadTeam team(2);
  Divergence divergence;
  divergence.add({reference.data(), kTokens, 2}, {model.data(), kTokens, 2}, next, team);
  const auto exact = [](double x) { return std::log((1 + std::exp(x)) / 2) - x / 2; };
  const DivergenceScore score = divergence.score();
  EXPECT_NEAR(score.median, exact(2.5), 1e-6);
  EXPECT_NEAR(score.percentile_90, exact(4.5), 1e-6);
  EXPECT_NEAR(score.percentile_99, exact(4.95), 1e-6);
  EXPECT_NEAR(score.percentile_99_9, 0.1 * exact(4.95) + 0.9 * exact(5.0), 1e-6);
  EXPECT_NEAR(score.max, exact(5.0), 1e-6);
  EXPECT_DOUBLE_EQ(score.reference_perplexity, 2.0);
}

TEST(Divergence, OfAModelFromItselfIsZeroAlsoForExtremeLogits) {
  Logits logits = random_logits(4, 3, 1e4F);
  const std::vector<int32_t> next = {0, 1, 2, 3};
  ThreadTeam team(1);
  Divergence divergence;
  divergence.add(logits.view(), logits.view(), next, team);
  EXPECT_EQ(divergence.score().mean, 0.0);
  EXPECT_EQ(divergence.score().max, 0.0);
  EXPECT_EQ(divergence.score().same_top, 1.0);
}

TEST(Divergence, LeavesOutTokensThatAreIgnored) {
  const Logits reference = random_logits(6, 4), model = random_logits(6, 5);
  const std::vector<int32_t> some = {kIgnoredTarget, 3, 1, kIgnoredTarget, kIgnoredTarget, 9};
  ThreadTeam team(1);
  Divergence all, parts;
  all.add(reference.view(), model.view(), some, team);
  for (const size_t t : {1, 2, 5})
    parts.add(reference.view().rows_slice(t, 1), model.view().rows_slice(t, 1), {&some[t], 1},
              team);
  EXPECT_EQ(all.score().tokens, 3U);
  EXPECT_EQ(all.score().mean, parts.score().mean);
  EXPECT_EQ(Divergence().score().tokens, 0U);
}

TEST(Divergence, RefusesWhatCannotBeCompared) {
  Logits reference = random_logits(2, 6);
  const Logits model = random_logits(2, 7);
  const std::vector<int32_t> next = {1, 2};
  ThreadTeam team(1);
  Divergence divergence;
  EXPECT_THROW(divergence.add(reference.view(), model.view(), {next.data(), 1}, team), Error);
  EXPECT_THROW(divergence.add(reference.view(), model.view().rows_slice(0, 1), next, team), Error);
  const std::vector<int32_t> beyond = {1, kVocab};
  EXPECT_THROW(divergence.add(reference.view(), model.view(), beyond, team), Error);
  reference.values[kVocab + 2] = std::numeric_limits<float>::infinity();
  EXPECT_THROW(divergence.add(reference.view(), model.view(), next, team), Error);
}

// Windows with context, longer than what goes through the models together.
TEST(Divergence, OfTextsIsThatOfTheirLogitsWithAnyNumberOfThreads) {
  Model right = random_model(small_config(), 5), other = random_model(small_config(), 6);
  const EvaluationWindows windows(token_source(random_tokens(400, 160)),
                                  {.length = 150, .stride = 100});
  std::vector<DivergenceScore> scores;
  for (const int threads : {1, 3}) {
    ThreadTeam team(threads, true);
    Engine reference_engine(right, team), engine(other, team);
    Session reference = reference_engine.start(), session = engine.start();
    uint64_t heard = 0;
    scores.push_back(score_divergence(windows, 0, reference, session, team,
                                      [&](uint64_t tokens) { heard += tokens; }));
    EXPECT_EQ(heard, 399U);
  }
  EXPECT_EQ(scores[0].tokens, 399U);
  EXPECT_EQ(scores[0].mean, scores[1].mean);
  EXPECT_EQ(scores[0].perplexity, scores[1].perplexity);

  ThreadTeam team(1);
  Engine reference_engine(right, team), engine(other, team);
  std::vector<float> p(150 * 160), q(150 * 160);
  Divergence direct;
  for (uint64_t i = 0; i < windows.size(); ++i) {
    const Batch batch = windows.batch(i, 1);
    reference_engine.start().append(batch.tokens, {p.data(), 150, 160});
    engine.start().append(batch.tokens, {q.data(), 150, 160});
    direct.add({p.data(), 150, 160}, {q.data(), 150, 160}, batch.targets, team);
  }
  EXPECT_NEAR(scores[0].mean, direct.score().mean, 1e-4 * direct.score().mean);
  EXPECT_GT(scores[0].mean, 0.1);
}

TEST(Divergence, OfModelsWithOtherVocabulariesIsRefused) {
  ModelConfig config = small_config();
  Model model = random_model(config);
  config.vocab_size = 161;
  Model larger = random_model(config);
  ThreadTeam team(1);
  Engine one(model, team), two(larger, team);
  Session first = one.start(), second = two.start();
  const EvaluationWindows windows(token_source(random_tokens(40, 160)), {.length = 20});
  EXPECT_THROW(score_divergence(windows, 0, first, second, team), Error);
}

}  // namespace
}  // namespace cairn
