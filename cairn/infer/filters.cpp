#include "cairn/infer/filters.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "cairn/kernels/elementwise.h"

namespace cairn {
namespace {

bool by_id(const Candidate& a, const Candidate& b) {
  return a.id < b.id;
}

float highest(const std::vector<Candidate>& candidates) {
  float result = -std::numeric_limits<float>::infinity();
  for (const Candidate& c : candidates) result = std::max(result, c.logit);
  return result;
}

void keep_at_least(std::vector<Candidate>& candidates, float logit) {
  std::erase_if(candidates, [logit](const Candidate& c) { return c.logit < logit; });
}

// Keeps the shortest run, in the order of scratch.ranked (lowest key first, of equal ones the lower
// index), whose weights sum to at least `enough`. Halving where the run must end spares sorting.
void keep_run(std::vector<Candidate>& candidates, double enough, FilterScratch& scratch) {
  using Ranked = FilterScratch::Ranked;
  const auto earlier = [](const Ranked& a, const Ranked& b) {
    return a.key < b.key || (a.key == b.key && a.index < b.index);
  };
  std::vector<Ranked>& ranked = scratch.ranked;
  // Those before `first` belong to the run and weigh `sum`; it ends at `last` or before.
  double sum = 0;
  auto first = ranked.begin(), last = ranked.end();
  while (last - first > 1) {
    const auto middle = first + (last - first) / 2;
    std::nth_element(first, middle, last, earlier);
    const double half = std::accumulate(first, middle, sum, [&](double total, const Ranked& r) {
      return total + scratch.weights[r.index];
    });
    if (half >= enough) {
      last = middle;
    } else {
      sum = half;
      first = middle;
    }
  }
  std::sort(ranked.begin(), last,
            [](const Ranked& a, const Ranked& b) { return a.index < b.index; });
  size_t kept = 0;
  for (auto it = ranked.begin(); it != last; ++it) candidates[kept++] = candidates[it->index];
  candidates.resize(kept);
}

}  // namespace

void FilterScratch::reserve(size_t candidates) {
  weights.reserve(candidates);
  ranked.reserve(candidates);
}

void keep_top_n_sigma(std::vector<Candidate>& candidates, double n) {
  const auto count = static_cast<double>(candidates.size());
  double sum = 0, squares = 0;
  for (const Candidate& c : candidates) sum += c.logit;
  const double mean = sum / count;
  for (const Candidate& c : candidates) squares += (c.logit - mean) * (c.logit - mean);
  keep_at_least(candidates,
                static_cast<float>(highest(candidates) - n * std::sqrt(squares / count)));
}

void keep_top_k(std::vector<Candidate>& candidates, size_t k) {
  if (k >= candidates.size()) return;
  std::nth_element(candidates.begin(), candidates.begin() + static_cast<ptrdiff_t>(k),
                   candidates.end(), ahead);
  candidates.resize(k);
  std::sort(candidates.begin(), candidates.end(), by_id);
}

void keep_typical(std::vector<Candidate>& candidates, double p, FilterScratch& scratch) {
  const double total = softmax_weights(candidates, 1, scratch.weights);
  const double top = highest(candidates), log_total = std::log(total);
  const auto surprise = [&](size_t i) { return log_total - (candidates[i].logit - top); };
  double entropy = 0;
  for (size_t i = 0; i < candidates.size(); ++i)
    entropy += scratch.weights[i] / total * surprise(i);
  scratch.ranked.resize(candidates.size());
  for (size_t i = 0; i < candidates.size(); ++i)
    scratch.ranked[i] = {static_cast<float>(std::abs(surprise(i) - entropy)),
                         static_cast<uint32_t>(i)};
  keep_run(candidates, p * total, scratch);
}

void keep_top_p(std::vector<Candidate>& candidates, double p, FilterScratch& scratch) {
  const double total = softmax_weights(candidates, 1, scratch.weights);
  // All below this weight together are less than half of what the run may leave out: they need not
  // be ranked. Next to p = 1 rounding could be more than that half.
  const double spare = 1 - p > 1e-6 ? (1 - p) * total : 0;
  const double least = spare / (2 * static_cast<double>(candidates.size()));
  scratch.ranked.clear();
  for (size_t i = 0; i < candidates.size(); ++i)
    if (scratch.weights[i] >= least)
      scratch.ranked.push_back({-scratch.weights[i], static_cast<uint32_t>(i)});
  keep_run(candidates, p * total, scratch);
}

void keep_min_p(std::vector<Candidate>& candidates, double p) {
  keep_at_least(candidates, static_cast<float>(highest(candidates) + std::log(p)));
}

void exclude_top_choices(std::vector<Candidate>& candidates, double threshold,
                         FilterScratch& scratch) {
  const double least = threshold * softmax_weights(candidates, 1, scratch.weights);
  size_t above = 0, last = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (scratch.weights[i] < least) continue;
    // Of equal ones the higher id counts as less probable.
    if (above++ == 0 || candidates[i].logit <= candidates[last].logit) last = i;
  }
  if (above < 2) return;
  size_t kept = 0;
  for (size_t i = 0; i < candidates.size(); ++i)
    if (scratch.weights[i] < least || i == last) candidates[kept++] = candidates[i];
  candidates.resize(kept);
}

double softmax_weights(const std::vector<Candidate>& candidates, double temperature,
                       std::vector<float>& weights) {
  const float top = highest(candidates);
  weights.resize(candidates.size());
  // The highest is taken off first: a tiny temperature may then not overflow.
  for (size_t i = 0; i < candidates.size(); ++i)
    weights[i] = static_cast<float>((static_cast<double>(candidates[i].logit) - top) / temperature);
  exp_minus({weights.data(), weights.size()}, 0);
  return std::accumulate(weights.begin(), weights.end(), 0.0);
}

}  // namespace cairn
