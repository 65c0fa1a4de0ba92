// Each filter beside its definition, written slowly in float64 over sorted lists.
#include "cairn/infer/filters.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cairn/base/random.h"

namespace cairn {
namespace {

using Candidates = std::vector<Candidate>;

// Logits of several shapes: spread, peaked, with ties.
Candidates random_candidates(size_t count, uint64_t seed) {
  const RandomStream stream(seed, "filters");
  Candidates result;
  for (size_t i = 0; i < count; ++i) {
    double logit = stream.normal(i) * (seed % 3 == 0 ? 0.3 : 3);
    if (seed % 3 == 2) logit = std::floor(logit);  // ties
    result.push_back({static_cast<float>(logit), static_cast<int32_t>(3 * i)});
  }
  return result;
}

std::vector<int32_t> ids(const Candidates& candidates) {
  std::vector<int32_t> result;
  for (const Candidate& c : candidates) result.push_back(c.id);
  return result;
}

std::vector<double> probabilities(const Candidates& candidates) {
  std::vector<double> p;
  for (const Candidate& c : candidates) p.push_back(std::exp(static_cast<double>(c.logit)));
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& value : p) value /= sum;
  return p;
}

// Indices in rising order of `key`, ties in rising order of ids.
template <class Key>
std::vector<size_t> order_by(const Candidates& candidates, Key key) {
  std::vector<size_t> order(candidates.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return key(a) < key(b); });
  return order;
}

std::vector<int32_t> chosen(const Candidates& candidates, std::vector<size_t> indices) {
  std::sort(indices.begin(), indices.end());
  std::vector<int32_t> result;
  for (const size_t i : indices) result.push_back(candidates[i].id);
  return result;
}

// The shortest start of `order` whose probabilities sum to at least `enough`.
std::vector<size_t> run_of(const std::vector<size_t>& order, const std::vector<double>& p,
                           double enough) {
  std::vector<size_t> kept;
  double sum = 0;
  for (const size_t i : order) {
    kept.push_back(i);
    sum += p[i];
    if (sum >= enough) break;
  }
  return kept;
}

class Filters : public testing::TestWithParam<std::tuple<size_t, uint64_t>> {
 protected:
  const Candidates all = random_candidates(std::get<0>(GetParam()), std::get<1>(GetParam()));
  const std::vector<double> p = probabilities(all);
  Candidates left = all;
  FilterScratch scratch;
};

TEST_P(Filters, TopNSigmaKeepsLogitsNearTheHighest) {
  for (const double n : {0.01, 0.7, 1.9, 100.0}) {
    double mean = 0, variance = 0, top = all[0].logit;
    for (const Candidate& c : all) mean += c.logit / static_cast<double>(all.size());
    for (const Candidate& c : all) {
      variance += (c.logit - mean) * (c.logit - mean) / static_cast<double>(all.size());
      top = std::max<double>(top, c.logit);
    }
    std::vector<size_t> kept;
    for (size_t i = 0; i < all.size(); ++i)
      if (all[i].logit >= static_cast<float>(top - n * std::sqrt(variance))) kept.push_back(i);
    left = all;
    keep_top_n_sigma(left, n);
    EXPECT_EQ(ids(left), chosen(all, kept)) << n;
  }
}

TEST_P(Filters, TopKKeepsTheHighestFromCandidatesAndFromLogits) {
  const std::vector<size_t> order = order_by(all, [&](size_t i) { return -all[i].logit; });
  std::vector<float> logits(all.size() * 3, -std::numeric_limits<float>::infinity());
  for (const Candidate& c : all) logits[static_cast<size_t>(c.id)] = c.logit;
  for (const size_t k : {size_t{1}, size_t{2}, size_t{17}, all.size(), all.size() + 5}) {
    const std::vector<size_t> kept(
        order.begin(), order.begin() + static_cast<ptrdiff_t>(std::min(k, order.size())));
    left = all;
    keep_top_k(left, k);
    EXPECT_EQ(ids(left), chosen(all, kept)) << k;
    TopLogits top;
    top.begin(k);
    top.add({logits.data(), logits.size()}, 0);
    top.sort();
    EXPECT_EQ(ids({top.candidates().begin(), top.candidates().end()}), chosen(all, kept)) << k;
  }
}

TEST_P(Filters, TypicalKeepsTheTokensOfTypicalSurprise) {
  double entropy = 0;
  for (const double value : p) entropy -= value * std::log(value);
  const std::vector<size_t> order = order_by(
      all, [&](size_t i) { return static_cast<float>(std::abs(-std::log(p[i]) - entropy)); });
  for (const double share : {0.05, 0.3, 0.83}) {
    left = all;
    keep_typical(left, share, scratch);
    EXPECT_EQ(ids(left), chosen(all, run_of(order, p, share))) << share;
  }
}

TEST_P(Filters, TopPKeepsTheShortestRunThatReachesIt) {
  const std::vector<size_t> order = order_by(all, [&](size_t i) { return -all[i].logit; });
  for (const double share : {0.013, 0.31, 0.83, 0.957}) {
    left = all;
    keep_top_p(left, share, scratch);
    EXPECT_EQ(ids(left), chosen(all, run_of(order, p, share))) << share;
  }
}

TEST_P(Filters, MinPKeepsTokensNotMuchRarerThanTheBest) {
  const double best = *std::max_element(p.begin(), p.end());
  for (const double share : {0.0101, 0.213, 0.997}) {
    std::vector<size_t> kept;
    for (size_t i = 0; i < all.size(); ++i)
      if (p[i] >= share * best) kept.push_back(i);
    left = all;
    keep_min_p(left, share);
    EXPECT_EQ(ids(left), chosen(all, kept)) << share;
  }
}

TEST_P(Filters, XtcLeavesTheLeastOfTheTopChoices) {
  for (const double threshold : {0.0007, 0.0213, 0.1117, 0.48}) {
    std::vector<size_t> order = order_by(all, [&](size_t i) { return -all[i].logit; });
    size_t above = 0;
    while (above < order.size() && p[order[above]] >= threshold) ++above;
    if (above >= 2) order.erase(order.begin(), order.begin() + static_cast<ptrdiff_t>(above - 1));
    left = all;
    exclude_top_choices(left, threshold, scratch);
    EXPECT_EQ(ids(left), chosen(all, order)) << threshold;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Filters,
                         testing::Combine(testing::Values(1, 2, 40, 1000),
                                          testing::Values(1, 2, 3, 4, 5, 6)));

TEST(SoftmaxWeights, AreRelativeToTheHighestAtAnyTemperature) {
  const Candidates candidates = random_candidates(100, 4);
  for (const double temperature : {0.3, 1.0, 7.0}) {
    std::vector<float> weights;
    const double total = softmax_weights(candidates, temperature, weights);
    double sum = 0;
    std::vector<double> expected;
    for (const Candidate& c : candidates) expected.push_back(std::exp(c.logit / temperature));
    for (const double value : expected) sum += value;
    for (size_t i = 0; i < candidates.size(); ++i)
      EXPECT_NEAR(weights[i] / total, expected[i] / sum, 1e-6);
  }
}

}  // namespace
}  // namespace cairn
