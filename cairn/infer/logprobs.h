// What the model itself thought of a token: log-probabilities before any filter, penalty or
// constraint.
#pragma once

#include <cstdint>
#include <vector>

#include "cairn/tensor/view.h"

namespace cairn {

struct TokenLogprob {
  int32_t id;
  double logprob;
};

struct TokenLogprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  // the likeliest, falling; of equal ones the lower id first
};

// log softmax(logits) of `id` and of the `top` likeliest tokens.
TokenLogprobs token_logprobs(View1<const float> logits, int32_t id, size_t top);

}  // namespace cairn
