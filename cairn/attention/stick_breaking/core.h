// Stick-breaking attention as plain functions on views: Tan, Yang, Courville, Panda, Shen, "Scaling
// Stick-Breaking Attention", ICLR 2025, arXiv:2410.17980. Each query walks back over the earlier
// keys of its sequence, and every key takes a share of what newer keys left of a stick of length 1:
//   z_ij = scale * q_i . k_j + logit_bias_h       logit
//   beta_ij = sigmoid(z_ij)                       share of what is left
//   S_ij = prod_{j < l < i} (1 - beta_il)         what is left when the walk reaches key j
//   A_ij = beta_ij S_ij                           weight
//   r_i  = prod_{l < i} (1 - beta_il)             remainder; sum_j A_ij + r_i = 1
//   o_i  = sum_j A_ij v_j + r_i w_i               w_i by option: 0, v_i, or a learned vector
// With attend_current the walk starts at the query's own key. There are no positions.
//
// Tiles are visited newest first. Inside a tile the consumed share is summed in f32, across tiles
// the stick is carried in f64: many tiny gates are neither absorbed by a 1 nor drift. A row block
// stops when the sticks of all its rows are at most exit_threshold; what is left still goes to w_i,
// so that an output moves by at most exit_threshold * max |v_j - w_i|. With
//   g_ij = dout_i . v_j,   dr_i = drem_i + dout_i . w_i,
//   U    = dr_i at the oldest key; then, towards newer keys, U <- U + beta_ij (g_ij - U),
// the gradient of a logit is
//   dz_ij = beta_ij (1 - beta_ij) S_ij (g_ij - U),
// a form in which nothing cancels and nothing grows. Backward starts where forward stopped.
//
// All functions are thread-safe, borrow all memory and allocate nothing. Results do not depend on
// the number of threads, nor on what else is in the batch: a sequence gives the same bits alone.
// A NaN in q stays in its row, one in k in the rows that see it; one in v spreads in its tile.
#pragma once

#include "cairn/attention/mechanism.h"
#include "cairn/attention/stick_breaking/options.h"

namespace cairn {

struct StickBreaking {
  AttentionGeometry geometry;  // scale must be the one in use, not 0
  StickBreakingOptions options;
};

// Learned vectors; those that the options do not ask for are empty. Of gradients: added to.
template <class T>
struct StickVectors {
  View1<T> remainder;    // [heads * value_dim], remainder "head_bias"
  View1<T> norm_weight;  // [heads * value_dim]
  View1<T> norm_bias;    // [heads * value_dim]
  View1<T> logit_bias;   // [heads]
};

// f32 or bf16, all of one type; rows may be strided.
struct StickInputs {
  AnyView3 q;  // [tokens, heads, head_dim]
  AnyView3 k;  // [tokens, kv_heads, head_dim]
  AnyView3 v;  // [tokens, kv_heads, value_dim]
  StickVectors<const float> vectors;
};

// dq, dk, dv are overwritten and have the type of q, k, v.
struct StickGradients {
  AnyView3 dq, dk, dv;
  StickVectors<float> vectors;
};

// Bytes for `tokens` tokens whose longest sequence is `longest`. `saved` holds the remainders,
// where each row block stopped, and sticks: at every tile boundary for sequences of up to 8192
// tokens, at every second up to 16384, and so on, so that it is never more than 268 bytes a token
// and head.
AttentionMemory stick_breaking_memory(const StickBreaking& attention, size_t tokens, size_t longest,
                                      DType dtype, int threads);

// out [tokens, heads, value_dim]; remainder [tokens, heads] receives r, or is empty. `offsets`
// [sequences + 1] start at 0 and end at tokens; sequences may be empty.
// Throws Error (usage) on views, offsets or memory that do not fit.
void stick_breaking_forward(const StickBreaking& attention, const StickInputs& inputs,
                            View1<const int32_t> offsets, AnyView3 out, View2<float> remainder,
                            std::span<std::byte> saved, std::span<std::byte> workspace,
                            ThreadTeam& team);

// Gradients of sum(out * dout) + sum(r * dremainder); dremainder [tokens, heads] may be empty.
// Inputs and saved as forward left them.
void stick_breaking_backward(const StickBreaking& attention, const StickInputs& inputs,
                             View1<const int32_t> offsets, AnyView3 dout,
                             View2<const float> dremainder, std::span<const std::byte> saved,
                             const StickGradients& gradients, std::span<std::byte> workspace,
                             ThreadTeam& team);

// Of the forward pass that left `saved`.
AttentionStatistics stick_breaking_statistics(const StickBreaking& attention,
                                              View1<const int32_t> offsets,
                                              std::span<const std::byte> saved);

}  // namespace cairn
