// A short causal convolution over time, each channel by itself, that queries and keys may pass
// before they are rotated and compared:
//   y_t[c] = sum over tau of taps[c, kernel - 1 - tau] * x_{t - tau}[c],  tau = 0 .. kernel - 1
// with zeros before the start of a sequence (the depthwise causal Conv1d of Hugging Face models:
// the last tap is the current token's). Internal to the room.
#pragma once

#include "cairn/attention/mechanism.h"

namespace cairn {

// Rows of one sequence are [offsets[s], offsets[s + 1]) of x.
struct Convolution {
  size_t kernel = 1;
  View1<const float> taps;  // [heads * dim, kernel]
  View1<const int32_t> offsets;
};

inline constexpr size_t kMostTaps = 16;

// Floats of scratch a thread needs for heads of size `dim`.
size_t convolution_scratch(size_t dim);

// y [n, heads, dim] of the rows x[first], x[first + 1], ...; x and y are f32 or bf16 each.
void convolve(const Convolution& convolution, const AnyView3& x, size_t first, const AnyView3& y,
              float* scratch, ThreadTeam& team);

// dx is overwritten, dtaps added to. All views have x's tokens.
void convolve_backward(const Convolution& convolution, const AnyView3& x, const AnyView3& dy,
                       const AnyView3& dx, View1<float> dtaps, float* scratch, ThreadTeam& team);

}  // namespace cairn
