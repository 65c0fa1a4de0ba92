// The definition of PaTH attention (core.h) and of its gradient, in float64, O(T^2 d) and the
// obvious order: for each query head, a state row U_i that starts as q_i walks the keys backwards;
// S_ij = U_i k_j, then the maps of token j are applied to every U_i with i >= j. What the room's
// blockwise code is held to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cairn/attention/mechanism.h"

namespace cairn {

// Contiguous arrays in the layouts of PathInputs; log_gate may be empty. The gradients of a problem
// have the same form.
struct PathReference {
  size_t tokens = 0, heads = 1, kv_heads = 1, dim = 1, value_dim = 1, products = 1;
  double scale = 1, gate_scale = 1;
  std::vector<double> q, k, v, w, beta, log_gate;
  std::vector<int32_t> offsets;
};

// out [tokens, heads, value_dim]; `lse` [tokens, heads], natural, if not null.
std::vector<double> path_reference_forward(const PathReference& in,
                                           std::vector<double>* lse = nullptr);
// Of the queries of one sequence; extras: how long the carried query still is and where it points,
// and what gates let pass.
AttentionWeights path_reference_weights(const PathReference& in, const TokenLayout& layout);
// Gradients of sum(out * dout).
PathReference path_reference_backward(const PathReference& in, const std::vector<double>& dout);

}  // namespace cairn
