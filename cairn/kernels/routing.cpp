#include "cairn/kernels/routing.h"

#include <cmath>

namespace cairn {

void choose_experts(View1<const float> logits, size_t count, int32_t* experts, float* weights) {
  // Insertion into the few best so far: a NaN never enters while numbers are left to choose from.
  size_t held = 0;
  for (size_t expert = 0; expert < logits.size; ++expert) {
    const float logit = logits[expert];
    if (held == count && !(logit > weights[count - 1])) continue;
    size_t at = held < count ? held++ : count - 1;
    for (; at > 0 && logit > weights[at - 1]; --at) {
      weights[at] = weights[at - 1];
      experts[at] = experts[at - 1];
    }
    weights[at] = logit;
    experts[at] = static_cast<int32_t>(expert);
  }
  float sum = 0;
  const float highest = weights[0];
  for (size_t i = 0; i < count; ++i) sum += weights[i] = std::exp(weights[i] - highest);
  for (size_t i = 0; i < count; ++i) weights[i] /= sum;
}

}  // namespace cairn
