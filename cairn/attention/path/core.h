// PaTH attention on given directions and strengths: softmax attention whose logits see keys through
// a product of data-dependent, Householder-like maps (Yang et al. 2025, arXiv:2505.16381), with the
// forget gate of FoX (arXiv:2503.02130) if wanted. For one query head, with 0-based positions:
//
//   H_t     = I - beta_t w_t w_t^T                            symmetric, identity where beta_t = 0
//   S_ij    = k_j^T H_{j+1} H_{j+2} ... H_i q_i,  j <= i
//   logit   = scale * S_ij + gate_scale * (c_i - c_j),        c_t = sum of log_gate up to t
//   out_i   = sum_j softmax_j(logit_ij) v_j
//
// A key is not touched by its own map, a query is. Along w_t the map has the eigenvalue 1 - beta_t,
// in [-1, 1]: it keeps, forgets or flips what lies along w_t. With `products` = n, a token owns n
// maps, applied in the order of their rows (DeltaProduct-like).
//
// Time is O(tokens^2), memory O(tokens). Blocks of tokens are treated through the UT transform
// (section 3 of the paper); schedule and signs are in block.h and forward.cpp.
#pragma once

#include <cstddef>
#include <span>

#include "cairn/attention/mechanism.h"

namespace cairn {

// Borrowed views. q, k, v may be f32 or bf16 each; w, beta and log_gate are f32 always: rounded to
// bf16, w would be longer than one in half of the cases and long products would grow.
struct PathInputs {
  AnyView3 q;               // [tokens, heads, dim]
  AnyView3 k;               // [tokens, kv_heads, dim]
  AnyView3 v;               // [tokens, kv_heads, value_dim]
  View3<const float> w;     // [tokens * products, kv_heads, dim], |w| = 1 (see check_path_values)
  View2<const float> beta;  // [tokens * products, kv_heads], in [0, 2]
  View2<const float> log_gate;   // [tokens, heads], <= 0; empty: no gate
  View1<const int32_t> offsets;  // [sequences + 1]; sequences do not see each other
  size_t products = 1;           // maps a token, 1 to 4
  float scale = 0;               // 0 means 1/sqrt(dim)
  float gate_scale = 1;
  DType compute = DType::f32;  // operands of the large products; bf16 only changes speed without
                               // AVX512-BF16, where they are f32 in any case
  size_t block_tiles = 0;      // tiles of 64 tokens in a super-block; 0: chosen by cost
};

// dq, dk, dv, dw, dbeta and dlog_gate are overwritten; dlog_gate may be empty without a gate.
struct PathGradients {
  AnyView3 dq, dk, dv;
  View3<float> dw;
  View2<float> dbeta;
  View2<float> dlog_gate;
};

// Bytes of workspace that forward and backward need; `inputs` may have null data.
size_t path_workspace(const PathInputs& inputs, int threads);

// out [tokens, heads, value_dim], f32 or bf16. log2_sum [heads, tokens], contiguous: the logarithm
// to base 2 of each query's sum of exponentials (times ln 2: the log-sum-exp), for backward; may be
// null. Throws Error (usage) on shapes that disagree. The same bits for any number of threads.
void path_attention(const PathInputs& inputs, AnyView3 out, float* log2_sum,
                    std::span<std::byte> workspace, ThreadTeam& team);

// Gradients of sum(out * dout); out and log2_sum as forward left them.
void path_attention_backward(const PathInputs& inputs, AnyView3 out, AnyView3 dout,
                             const float* log2_sum, const PathGradients& gradients,
                             std::span<std::byte> workspace, ThreadTeam& team);

// Throws Error (usage) unless every value is finite, |w| lies in [0.99, 1.01] (maps with beta = 0
// excepted), beta in [0, 2] and log_gate is not positive. One pass over the inputs: for callers
// whose values come from outside.
void check_path_values(const PathInputs& inputs);

}  // namespace cairn
