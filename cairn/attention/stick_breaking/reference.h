// The definition of core.h in float64 and the obvious order, O(T^2): what the fast code is held to.
// Arrays are contiguous: q [tokens, heads, head_dim], k and v [tokens, kv_heads, dim], out and dout
// [tokens, heads, value_dim], remainder and dremainder [tokens, heads].
#pragma once

#include <vector>

#include "cairn/attention/stick_breaking/core.h"

namespace cairn {

struct StickReference {
  std::vector<double> q, k, v;
  std::vector<double> remainder, norm_weight, norm_bias, logit_bias;  // empty without the option
};

struct StickReferenceResult {
  std::vector<double> out, remainder;
};

StickReferenceResult stick_breaking_reference(const StickBreaking& attention,
                                              const StickReference& in,
                                              View1<const int32_t> offsets);
// Gradients of sum(out * dout) + sum(remainder * dremainder), in the shapes of `in`; dremainder may
// be empty.
StickReference stick_breaking_reference_backward(const StickBreaking& attention,
                                                 const StickReference& in,
                                                 View1<const int32_t> offsets,
                                                 std::span<const double> dout,
                                                 std::span<const double> dremainder);

// The share of each key, and as an extra the stick that reaches it, of the queries of one sequence.
AttentionWeights stick_breaking_reference_weights(const StickBreaking& attention,
                                                  const StickReference& in,
                                                  const TokenLayout& layout);

// Epsilon of the head norm, added to the variance.
inline constexpr double kHeadNormEpsilon = 1e-5;

}  // namespace cairn
