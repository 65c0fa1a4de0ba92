#include "cairn/infer/expert_routes.h"

#include <algorithm>

#include "cairn/kernels/routing.h"

namespace cairn {

ExpertRoutes::ExpertRoutes(size_t all_experts, size_t count, size_t most_tokens)
    : per_token(count),
      experts(most_tokens * count),
      weights(most_tokens * count),
      slots(most_tokens * count),
      tokens(most_tokens * count),
      first(all_experts + 1) {}

void ExpertRoutes::route(View2<const float> logits) {
  const size_t chosen = logits.rows * per_token;
  for (size_t t = 0; t < logits.rows; ++t)
    choose_experts(logits[t], per_token, &experts[t * per_token], &weights[t * per_token]);
  // first[e + 1] counts the slots of e, then says where those of e end.
  std::fill(first.begin(), first.end(), 0);
  for (size_t i = 0; i < chosen; ++i) ++first[static_cast<size_t>(experts[i]) + 1];
  for (size_t e = 1; e < first.size(); ++e) first[e] += first[e - 1];
  // Each expert's start moves to its end while its slots are dealt out, and back again.
  for (size_t i = 0; i < chosen; ++i) {
    const size_t slot = first[static_cast<size_t>(experts[i])]++;
    slots[i] = slot;
    tokens[slot] = i / per_token;
  }
  std::copy_backward(first.begin(), first.end() - 1, first.end());
  first[0] = 0;
}

}  // namespace cairn
