// The optimiser's passes over memory. AdamW in PyTorch's form (Loshchilov and Hutter 2019,
// arXiv:1711.05101), element by element, for step t:
//   g <- scale * gradient
//   m <- beta1 m + (1 - beta1) g          v <- beta2 v + (1 - beta2) g^2
//   w <- w (1 - lr decay) - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
// One pass reads w, gradient, m and v and writes w, m, v, a zero gradient and, if wanted, w as
// bf16: the step is bound by memory, so nothing is read twice. Arithmetic is f32.
#pragma once

#include <cstdint>

#include "cairn/tensor/view.h"

namespace cairn {

// The scalars of a step, the same for every element of a parameter group.
struct AdamWScalars {
  float scale = 1;  // of the gradient: 1 / targets, times the clip factor
  float beta1 = 0.9F;
  float beta2 = 0.95F;
  float eps = 1e-8F;
  float keep = 1;            // 1 - lr * decay
  float step_size = 0;       // lr / (1 - beta1^t)
  float inverse_sqrt_v = 1;  // 1 / sqrt(1 - beta2^t)
};

// `step` counts from 1. Computed in f64.
AdamWScalars adamw_scalars(double lr, double beta1, double beta2, double eps, double decay,
                           double scale, uint64_t step);

// Updates weights, m and v [n] and sets gradient [n] to zero. `copy` [n] receives the new weights
// rounded to bf16; empty if not wanted. Threads may take disjoint ranges. Throws Error (usage) when
// sizes disagree.
void adamw(const AdamWScalars& scalars, View1<float> weights, View1<float> gradient, View1<float> m,
           View1<float> v, View1<bf16> copy = {});

// Sum of x^2 in f64. Not finite when an element is not (or when the sum overflows f64).
double sum_of_squares(View1<const float> x);

}  // namespace cairn
