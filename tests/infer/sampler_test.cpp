#include "cairn/infer/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "cairn/base/error.h"

namespace cairn {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

int32_t sample_at(const SamplingOptions& options, const std::vector<float>& logits,
                  size_t position) {
  Sampler sampler(options, logits.size());
  const std::vector<int32_t> history(position, 0);
  return sampler.sample({logits.data(), logits.size()}, history);
}

// Shares of the tokens among `draws` draws at positions 0, 1, ...
std::vector<double> shares(const SamplingOptions& options, const std::vector<float>& logits,
                           size_t draws = 20000) {
  Sampler sampler(options, logits.size());
  std::vector<double> result(logits.size());
  const std::vector<int32_t> history(draws, 0);
  for (size_t position = 0; position < draws; ++position)
    result[static_cast<size_t>(sampler.sample({logits.data(), logits.size()},
                                              std::span(history).first(position)))] += 1.0 / draws;
  return result;
}

std::vector<double> softmax(const std::vector<float>& logits, double temperature) {
  std::vector<double> p;
  for (const float logit : logits) p.push_back(std::exp(logit / temperature));
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& value : p) value /= sum;
  return p;
}

void expect_shares(const std::vector<double>& found, const std::vector<double>& expected) {
  for (size_t i = 0; i < expected.size(); ++i) {
    if (expected[i] == 0)
      EXPECT_EQ(found[i], 0) << "token " << i;
    else  // four standard deviations of 20000 draws
      EXPECT_NEAR(found[i], expected[i], 4 * std::sqrt(expected[i] / 20000)) << "token " << i;
  }
}

const std::vector<float> kLogits = {0.5F, 2.0F, -1.0F, 1.0F, 0.0F, 1.5F};

TEST(Sampler, TemperatureZeroTakesTheHighestLogit) {
  SamplingOptions options{.temperature = 0};
  EXPECT_EQ(sample_at(options, kLogits, 0), 1);
  options.top_k = 3;  // no filter matters
  EXPECT_EQ(sample_at(options, kLogits, 9), 1);
}

TEST(Sampler, TemperatureZeroTakesTheLowestOfEqualIds) {
  EXPECT_EQ(sample_at({.temperature = 0}, {1, 7, 3, 7, 7}, 0), 1);
}

TEST(Sampler, DrawsFollowTheTemperedSoftmax) {
  for (const double temperature : {0.5, 1.0, 2.0})
    expect_shares(shares({.temperature = temperature, .seed = 3}, kLogits),
                  softmax(kLogits, temperature));
}

TEST(Sampler, TopKKeepsTheKHighest) {
  std::vector<double> p = softmax(kLogits, 1);
  const double kept = p[1] + p[5] + p[3];
  expect_shares(shares({.top_k = 3}, kLogits), {0, p[1] / kept, 0, p[3] / kept, 0, p[5] / kept});
}

TEST(Sampler, TopKTakesTheLowestIdsOfATie) {
  expect_shares(shares({.top_k = 2}, {1, 1, 1, 1}), {0.5, 0.5, 0, 0});
}

TEST(Sampler, TopPKeepsTheShortestRunThatReachesIt) {
  // Probabilities 0.5, 0.25, 0.125, 0.125.
  const std::vector<float> logits = {std::log(0.125F), std::log(0.5F), std::log(0.125F),
                                     std::log(0.25F)};
  expect_shares(shares({.top_p = 0.4}, logits), {0, 1, 0, 0});
  expect_shares(shares({.top_p = 0.7}, logits), {0, 2.0 / 3, 0, 1.0 / 3});
  // A third token is needed; of the two equal ones the lower id.
  expect_shares(shares({.top_p = 0.8}, logits), {1.0 / 7, 4.0 / 7, 0, 2.0 / 7});
  expect_shares(shares({.top_p = 1}, logits), {0.125, 0.5, 0.125, 0.25});
}

TEST(Sampler, TopPLooksAtWhatTopKHasLeft) {
  const std::vector<float> logits = {std::log(0.125F), std::log(0.5F), std::log(0.125F),
                                     std::log(0.25F)};
  // After top-k 2 the first token has 2/3: enough for 0.6, which it would not be before.
  expect_shares(shares({.top_k = 2, .top_p = 0.6}, logits), {0, 1, 0, 0});
}

TEST(Sampler, MinPKeepsTokensNotMuchRarerThanTheBest) {
  const std::vector<float> logits = {std::log(0.1F), std::log(0.6F), std::log(0.3F)};
  expect_shares(shares({.min_p = 0.4}, logits), {0, 2.0 / 3, 1.0 / 3});
  expect_shares(shares({.min_p = 1}, logits), {0, 1, 0});
}

TEST(Sampler, ATinyTemperatureIsGreedyAndAHugeOneUniform) {
  expect_shares(shares({.temperature = 1e-30}, kLogits), {0, 1, 0, 0, 0, 0});
  expect_shares(shares({.temperature = 1e30}, kLogits), std::vector<double>(6, 1.0 / 6));
}

TEST(Sampler, ExcludedTokensAreNeverDrawn) {
  expect_shares(shares({}, {-kInfinity, 0, -kInfinity, 0}), {0, 0.5, 0, 0.5});
  expect_shares(shares({.top_k = 3, .top_p = 0.99}, {-kInfinity, 0, -kInfinity, 0}),
                {0, 0.5, 0, 0.5});
}

TEST(Sampler, ADrawDependsOnSeedAndPositionAlone) {
  const SamplingOptions options{.seed = 11};
  Sampler sampler(options, kLogits.size());
  const std::vector<int32_t> history(50, 0);
  std::vector<int32_t> forward, other_seed;
  for (size_t position = 0; position < 50; ++position) {
    forward.push_back(
        sampler.sample({kLogits.data(), kLogits.size()}, std::span(history).first(position)));
    other_seed.push_back(sample_at({.seed = 12}, kLogits, position));
  }
  for (size_t position = 50; position-- > 0;)
    EXPECT_EQ(sample_at(options, kLogits, position), forward[position]);
  EXPECT_NE(forward, other_seed);
}

TEST(Sampler, RepetitionPenaltyActsOncePerTokenOfTheWindow) {
  const std::vector<float> logits = {2.0F, 1.5F, -1.0F, -1.5F};
  SamplingOptions options{.temperature = 0, .repetition_penalty = 1.5};
  Sampler sampler(options, logits.size());
  const View1<const float> view(logits.data(), logits.size());
  EXPECT_EQ(sampler.sample(view, std::vector<int32_t>{}), 0);
  EXPECT_EQ(sampler.sample(view, std::vector<int32_t>{0}), 1);        // 2 / 1.5 < 1.5
  EXPECT_EQ(sampler.sample(view, std::vector<int32_t>{0, 0, 1}), 0);  // 1.33 against 1.0
  options.repetition_window = 1;
  Sampler narrow(options, logits.size());
  EXPECT_EQ(narrow.sample(view, std::vector<int32_t>{0, 1}), 0);
  // A negative logit is multiplied.
  const std::vector<float> negative = {-1.0F, -1.2F};
  Sampler below({.temperature = 0, .repetition_penalty = 1.5}, 2);
  EXPECT_EQ(below.sample({negative.data(), 2}, std::vector<int32_t>{0}), 1);
}

TEST(Sampler, RefusesLogitsThatAreNoNumbers) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const double temperature : {0.0, 1.0}) {
    const SamplingOptions options{.temperature = temperature};
    EXPECT_THROW(sample_at(options, {0, nan, 1}, 0), Error);
    EXPECT_THROW(sample_at(options, {0, kInfinity, 1}, 0), Error);
    EXPECT_THROW(sample_at(options, {-kInfinity, -kInfinity}, 0), Error);
  }
}

TEST(Sampler, RefusesOptionsOutsideTheirRange) {
  EXPECT_THROW(Sampler({.temperature = -1}, 4), Error);
  EXPECT_THROW(Sampler({.temperature = std::nan("")}, 4), Error);
  EXPECT_THROW(Sampler({.top_k = -1}, 4), Error);
  EXPECT_THROW(Sampler({.top_p = 0}, 4), Error);
  EXPECT_THROW(Sampler({.top_p = 1.1}, 4), Error);
  EXPECT_THROW(Sampler({.min_p = -0.1}, 4), Error);
  EXPECT_THROW(Sampler({.repetition_penalty = 0}, 4), Error);
}

TEST(Sampler, RefusesLogitsOfAnotherVocabulary) {
  Sampler sampler({}, 4);
  const std::vector<float> logits(5);
  EXPECT_THROW(sampler.sample({logits.data(), 5}, {}), Error);
}

}  // namespace
}  // namespace cairn
