// Root-mean-square normalisation. Zhang and Sennrich 2019, arXiv:1910.07467.
//   y = gain * x * r,  r = 1 / sqrt(mean(x^2) + eps), row by row, in f32
//   gain = factor * (offset + weight): plainly the weight, unless the options say otherwise.
// Backward, with g = dy * gain and c = r^2 * mean(g * x):
//   dx = r * (g - x * c)          dweight = sum over rows of factor * dy * x * r
//   x, y, dx, dy  [rows, hidden_size]  rows may be strided; x and dx f32, y and dy f32 or
//                              bf16; y may be x
//   weight        [hidden_size]
// Borrow all memory, allocate none; threads may take disjoint rows. Throw Error (usage) when shapes
// disagree.
#pragma once

#include "cairn/tensor/view.h"

namespace cairn {

struct NormOptions {
  constexpr NormOptions(float e = 1e-5F, float o = 0, float f = 1)  // NOLINT: an eps is an option
      : eps(e), offset(o), factor(f) {}

  float eps;
  float offset;  // 1 where a model stores its gains less one (Gemma)
  float factor;  // a multiplier of the output
};

void rms_norm(View2<const float> x, View1<const float> weight, const NormOptions& options,
              View2<float> y);
void rms_norm(View2<const float> x, View1<const float> weight, const NormOptions& options,
              View2<bf16> y);

// dx is added to if `accumulate`, else overwritten; dweight is always added to.
void rms_norm_backward(View2<const float> x, View1<const float> weight, const NormOptions& options,
                       View2<const float> dy, View2<float> dx, View1<float> dweight,
                       bool accumulate);
void rms_norm_backward(View2<const float> x, View1<const float> weight, const NormOptions& options,
                       View2<const bf16> dy, View2<float> dx, View1<float> dweight,
                       bool accumulate);

}  // namespace cairn
