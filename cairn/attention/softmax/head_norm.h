// RMSNorm of each head of queries or keys before they are rotated and compared, as Qwen3 and Gemma
// 3 have it (Henry et al. 2020, arXiv:2010.04245, with a gain): one gain [dim] for all heads.
// Internal to the room.
#pragma once

#include "cairn/attention/mechanism.h"
#include "cairn/kernels/norms.h"

namespace cairn {

struct HeadNorm {
  View1<const float> weight;  // [dim]
  NormOptions options;
};

// Floats of scratch a thread needs for heads of size `dim`.
size_t head_norm_scratch(size_t dim);
// Floats that backward needs for all threads together.
size_t head_norm_partials(size_t tokens, size_t dim);

// y [tokens, heads, dim] = the heads of x, normed; x and y are f32 or bf16 each.
void normalise_heads(const HeadNorm& norm, const AnyView3& x, const AnyView3& y, float* scratch,
                     ThreadTeam& team);

// dx is overwritten, dweight added to; sums are taken in the order of tokens.
void normalise_heads_backward(const HeadNorm& norm, const AnyView3& x, const AnyView3& dy,
                              const AnyView3& dx, View1<float> dweight, float* partials,
                              float* scratch, ThreadTeam& team);

}  // namespace cairn
