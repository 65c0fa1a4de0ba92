#include "cairn/infer/speculation/acceptance.h"

#include <algorithm>

namespace cairn {
namespace {

double probability_in(std::span<const TokenProbability> q, int32_t id) {
  const auto found =
      std::lower_bound(q.begin(), q.end(), id,
                       [](const TokenProbability& t, int32_t wanted) { return t.id < wanted; });
  return found != q.end() && found->id == id ? found->probability : 0;
}

// Calls body(candidate index, max(p - q, 0)).
template <class Body>
void for_each_rest(const TokenDistribution& p, std::span<const TokenProbability> q, Body body) {
  for (size_t i = 0; i < p.candidates.size(); ++i) {
    const double rest = p.weights[i] / p.total - probability_in(q, p.candidates[i].id);
    if (rest > 0) body(i, rest);
  }
}

}  // namespace

int32_t decide_token(const TokenDistribution& p, int32_t proposed,
                     std::span<const TokenProbability> q, double draw, double accept) {
  if (q.empty()) return p.at(draw);
  const double of_q = probability_in(q, proposed);
  if (of_q > 0 && accept * of_q < p.probability(proposed)) return proposed;
  double total = 0;
  for_each_rest(p, q, [&](size_t, double rest) { total += rest; });
  if (total <= 0) return p.at(draw);  // p equals q but for rounding
  double sum = 0;
  int32_t chosen = -1;
  for_each_rest(p, q, [&](size_t i, double rest) {
    if (chosen >= 0 && sum > draw * total) return;
    sum += rest;
    chosen = p.candidates[i].id;
  });
  return chosen;
}

size_t ProposalLength::next(size_t kind) {
  // Proposals that are hopeless are tried again now and then: texts change.
  constexpr size_t kPatience = 24;
  constexpr size_t kTrial = 2;
  constexpr double kWorthwhile = 1.02;
  const double a = std::min(acceptance_[kind], 0.99);
  size_t best = 0;
  double best_rate = kWorthwhile, expected = 1, power = 1;
  for (size_t k = 1; k <= most_; ++k) {
    power *= a;
    expected += power;  // (1 - a^(k+1)) / (1 - a)
    const double rate = expected / (1 + cost_of_token_ * static_cast<double>(k));
    if (rate > best_rate) {
      best_rate = rate;
      best = k;
    }
  }
  if (best > 0) {
    skipped_[kind] = 0;
    return best;
  }
  if (++skipped_[kind] < kPatience) return 0;
  skipped_[kind] = 0;
  return std::min(kTrial, most_);
}

void ProposalLength::record(size_t kind, size_t proposed, size_t accepted) {
  constexpr double kRate = 0.15;
  double& estimate = acceptance_[kind];
  for (size_t i = 0; i < accepted; ++i) estimate += kRate * (1 - estimate);
  if (accepted < proposed) estimate -= kRate * estimate;
}

void ProposalLength::record_pass(size_t tokens, double seconds) {
  constexpr double kRate = 0.1;
  if (tokens == 1) {
    single_seconds_ =
        single_seconds_ == 0 ? seconds : single_seconds_ + kRate * (seconds - single_seconds_);
  } else if (single_seconds_ > 0) {
    const double cost = (seconds / single_seconds_ - 1) / static_cast<double>(tokens - 1);
    cost_of_token_ += kRate * (std::clamp(cost, 0.0, 1.0) - cost_of_token_);
  }
}

}  // namespace cairn
