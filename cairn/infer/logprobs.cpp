#include "cairn/infer/logprobs.h"

#include <algorithm>
#include <cmath>

#include "cairn/infer/top_logits.h"

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
  TopLogits highest_logits;
  highest_logits.begin(std::min(top, logits.size));
  highest_logits.add(logits, 0);
  const std::span<const Candidate> kept = highest_logits.candidates();
  std::vector<Candidate> best(kept.begin(), kept.end());
  std::sort(best.begin(), best.end(), ahead);
  for (const Candidate& candidate : best) result.top.push_back(of(candidate.id));
  return result;
}

}  // namespace cairn
