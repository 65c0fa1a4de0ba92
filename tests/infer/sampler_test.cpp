#include "cairn/infer/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "cairn/base/error.h"
#include "cairn/base/random.h"

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

TopLogits highest(const std::vector<float>& logits, size_t k, const TokenMask* allowed = nullptr) {
  std::vector<float> seen = logits;
  for (size_t i = 0; i < seen.size(); ++i)
    if (allowed != nullptr && !allowed->contains(static_cast<int32_t>(i))) seen[i] = -kInfinity;
  TopLogits top;
  top.begin(k);
  top.add({seen.data(), seen.size()}, 0);
  top.sort();
  return top;
}

// Logits of few heights, so that ties decide; penalties of every kind that lowers.
TEST(Sampler, TheNeededLogitsGiveTheDistributionOfAll) {
  const RandomStream stream(8, "needed logits");
  for (uint64_t round = 0; round < 300; ++round) {
    const auto below = [&](uint64_t limit, uint64_t what) {
      return static_cast<double>(stream.below(limit, round, what));
    };
    SamplingOptions options{.temperature = below(3, 0) / 2, .top_k = 1 + int64_t(below(12, 1))};
    options.repetition_penalty = 1 + below(3, 2) / 4;
    options.presence_penalty = below(2, 3);
    options.frequency_penalty = below(3, 4) / 2;
    options.repetition_window = int64_t(below(3, 5)) * 5;
    options.dry_multiplier = below(2, 6);
    options.min_p = below(2, 7) / 10;
    if (below(2, 8) == 1) options.logit_bias = {{3, -2}, {60, -kInfinity}, {9, -0.5}};
    std::vector<float> logits(90);
    for (size_t i = 0; i < logits.size(); ++i)
      logits[i] = static_cast<float>(stream.below(7, round, 100 + i)) - 3;
    std::vector<int32_t> history;
    for (size_t i = 0; i < size_t(below(30, 9)); ++i)
      history.push_back(static_cast<int32_t>(stream.below(12, round, 200 + i)));
    TokenMask mask(logits.size());
    for (size_t i = 0; i < logits.size(); ++i)
      if (stream.below(1 + round % 4, round, 300 + i) == 0) mask.insert(static_cast<int32_t>(i));
    const TokenMask* allowed = below(2, 10) == 1 ? &mask : nullptr;

    Sampler of_all(options, logits.size()), of_few(options, logits.size());
    const size_t needed = of_few.needed_logits(history.size(), allowed);
    EXPECT_LE(needed, logits.size());
    const auto all = of_all.distribution({logits.data(), logits.size()}, history, allowed);
    const auto few = of_few.distribution(highest(logits, needed, allowed), history);
    ASSERT_EQ(few.candidates.size(), all.candidates.size()) << round;
    for (size_t i = 0; i < all.candidates.size(); ++i) {
      ASSERT_EQ(few.candidates[i].id, all.candidates[i].id) << round;
      ASSERT_EQ(few.weights[i], all.weights[i]) << round;
    }
  }
}

TEST(Sampler, NeedsAllLogitsWhereAFilterOrARewardLooksAtThem) {
  const auto needed = [](const SamplingOptions& options, size_t position = 10) {
    return Sampler(options, 1000).needed_logits(position);
  };
  EXPECT_EQ(needed({.temperature = 0}), 1U);
  EXPECT_EQ(needed({.top_k = 40}), 40U);
  EXPECT_EQ(needed({.top_k = 40, .repetition_penalty = 1.1}), 50U);
  EXPECT_EQ(needed({.top_k = 40, .repetition_penalty = 1.1}, 900), 104U) << "the window";
  EXPECT_EQ(needed({.top_k = 40, .dry_multiplier = 1}, 900), 940U);
  EXPECT_EQ(needed({.top_k = 40, .dry_multiplier = 1}, 5000), 1000U);
  for (const SamplingOptions& options :
       std::vector<SamplingOptions>{{},
                                    {.top_p = 0.5},
                                    {.top_k = 40, .top_n_sigma = 1},
                                    {.top_k = 40, .repetition_penalty = 0.9},
                                    {.top_k = 40, .presence_penalty = -1},
                                    {.top_k = 40, .frequency_penalty = -1},
                                    {.temperature = 0, .logit_bias = {{3, 1}}},
                                    {.top_k = 1000},
                                    {.top_k = 5000}})
    EXPECT_EQ(needed(options), 1000U);
  TokenMask mask(1000);
  for (const int32_t id : {3, 5, 900}) mask.insert(id);
  EXPECT_EQ(Sampler({}, 1000).needed_logits(10, &mask), 3U);
}

TEST(Sampler, RefusesAListOfWhichNothingMayBeDrawn) {
  Sampler sampler({.temperature = 0, .logit_bias = {{1, -kInfinity}}}, 4);
  EXPECT_THROW(sampler.distribution(highest({-kInfinity, -kInfinity}, 1), {}), Error);
  EXPECT_THROW(sampler.distribution(highest({-kInfinity, 2}, 2), {}), Error) << "excluded by bias";
  EXPECT_THROW(sampler.distribution(highest({1, std::nanf("")}, 2), {}), Error);
  EXPECT_THROW(sampler.distribution(highest({1, 2, 3, 4, 5}, 2), {}), Error)
      << "another vocabulary";
  EXPECT_EQ(sampler.distribution(highest({1, 2}, 2), {}).at(0.5), 0);
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
