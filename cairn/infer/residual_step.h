// The residual stream between the products of a decode pass: one sweep adds a branch and takes the
// sum of squares that the next RMSNorm divides by. Sums are f32 in an order that depends on n
// alone.
#pragma once

#include <cstddef>

namespace cairn {

// sum of x[i]^2
float sum_of_squares(const float* x, size_t n);
// x[i] += factor * branch[i], or factor * branch[i] * gain[i] where gain is not null; the sum of
// squares of the new x.
float add_branch(const float* branch, float factor, const float* gain, size_t n, float* x);
// y[i] = x[i] * factor * gain[i]; y may be x.
void scale_by(const float* x, float factor, const float* gain, size_t n, float* y);

}  // namespace cairn
