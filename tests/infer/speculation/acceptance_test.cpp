#include "cairn/infer/speculation/acceptance.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cairn/base/random.h"

namespace cairn {
namespace {

struct Target {
  std::vector<Candidate> candidates;
  std::vector<float> weights;
  double total = 0;
  explicit Target(const std::vector<float>& by_id) {
    for (size_t id = 0; id < by_id.size(); ++id) {
      if (by_id[id] == 0) continue;
      candidates.push_back({0, static_cast<int32_t>(id)});
      weights.push_back(by_id[id]);
      total += by_id[id];
    }
  }
  TokenDistribution view() const { return {candidates, weights, total}; }
};

std::vector<TokenProbability> proposer(const std::vector<double>& by_id) {
  std::vector<TokenProbability> q;
  for (size_t id = 0; id < by_id.size(); ++id)
    if (by_id[id] > 0) q.push_back({static_cast<int32_t>(id), by_id[id]});
  return q;
}

TEST(DecideToken, ACertainProposalIsAcceptedWhereTheDrawIsIt) {
  const Target p({1, 2, 1, 0});
  for (double draw = 0.01; draw < 1; draw += 0.02)
    for (const int32_t proposed : {0, 1, 2, 3})
      EXPECT_EQ(decide_token(p.view(), proposed, {}, draw, 0.5), p.view().at(draw));
}

// Chi-squared of 200 thousand decisions against p, whatever q proposes.
TEST(DecideToken, TheDistributionIsThatOfTheModelAlone) {
  const std::vector<float> p_weights = {3, 0, 1, 4, 0, 2};
  const Target p(p_weights);
  const RandomStream stream(3, "acceptance");
  for (const auto& q_weights : std::vector<std::vector<double>>{
           {0.3, 0, 0.1, 0.4, 0, 0.2},        // the same
           {0.05, 0.4, 0.05, 0.1, 0.3, 0.1},  // with tokens that p excludes
           {0, 0, 1, 0, 0, 0},
           {0.5, 0, 0, 0.5, 0, 0}}) {
    const std::vector<TokenProbability> q = proposer(q_weights);
    std::vector<double> counts(6);
    size_t accepted = 0;
    constexpr uint64_t kDraws = 200'000;
    for (uint64_t i = 0; i < kDraws; ++i) {
      double point = stream.uniform(i, 0);
      int32_t proposed = q.back().id;
      for (const TokenProbability& t : q) {
        if (point < t.probability) {
          proposed = t.id;
          break;
        }
        point -= t.probability;
      }
      const int32_t id =
          decide_token(p.view(), proposed, q, stream.uniform(i, 1), stream.uniform(i, 2));
      accepted += id == proposed ? 1 : 0;
      ++counts[static_cast<size_t>(id)];
    }
    double chi = 0, overlap = 0;
    for (size_t id = 0; id < 6; ++id) {
      const double expected = kDraws * p_weights[id] / p.total;
      overlap += std::min<double>(p_weights[id] / p.total, q_weights[id]);
      if (expected == 0) {
        EXPECT_EQ(counts[id], 0);
      } else {
        chi += (counts[id] - expected) * (counts[id] - expected) / expected;
      }
    }
    EXPECT_LT(chi, 16.3) << "three degrees of freedom, one in a thousand";
    EXPECT_NEAR(static_cast<double>(accepted) / kDraws, overlap, 0.005) << "as often as possible";
  }
}

TEST(ProposalLength, GrowsWithAcceptanceAndGivesUpHopelessKinds) {
  ProposalLength lengths(7);
  for (int i = 0; i < 30; ++i) lengths.record(0, 7, 7);
  EXPECT_EQ(lengths.next(0), 7U);
  for (int i = 0; i < 30; ++i) lengths.record(1, 7, 0);
  size_t tried = 0;
  for (int i = 0; i < 240; ++i) tried += lengths.next(1);
  EXPECT_GT(tried, 0U) << "texts change";
  EXPECT_LE(tried, 20U);
  EXPECT_EQ(lengths.next(0), 7U) << "kinds are apart";
}

TEST(ProposalLength, DearPassesMakeItShorter) {
  ProposalLength cheap(16), dear(16);
  for (int i = 0; i < 40; ++i) {
    for (ProposalLength* lengths : {&cheap, &dear}) {
      lengths->record_pass(1, 1);
      lengths->record(0, 4, 3);
    }
    cheap.record_pass(8, 1.05);
    dear.record_pass(8, 3);
  }
  EXPECT_GT(cheap.next(0), dear.next(0));
}

}  // namespace
}  // namespace cairn
