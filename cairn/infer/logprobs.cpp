#include "cairn/infer/logprobs.h"

#include <algorithm>
#include <cmath>

#include "cairn/infer/filters.h"

namespace cairn {

TokenLogprobs token_logprobs(View1<const float> logits, int32_t id, size_t top) {
  const float highest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - highest);
  const double log_sum = highest + std::log(sum);
  const auto of = [&](int32_t token) {
    return TokenLogprob{token, logits[static_cast<size_t>(token)] - log_sum};
  };
  TokenLogprobs result{of(id), {}};
  if (top == 0) return result;
  std::vector<Candidate> best;
  select_top_k(logits, top, best);
  std::sort(best.begin(), best.end(), [](const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
  });
  for (const Candidate& candidate : best) result.top.push_back(of(candidate.id));
  return result;
}

}  // namespace cairn
