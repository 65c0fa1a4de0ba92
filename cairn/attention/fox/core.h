// The Forgetting Transformer's attention as plain functions on views (Lin, Nikishin, He, Courville
// 2025, arXiv:2503.02130): softmax attention whose scores fall with every token that a gate lets
// pass less than whole.
//   c_t     = sum of log_forget over the tokens of t's sequence up to t     (in float64)
//   s[i, j] = scale * q_i . k_j + gate_scale * (c_i - c_j),   j <= i
//   out_i   = sum_j softmax_j(s[i, .]) v_j
// The gate of a token weakens all keys before it, its own not; its gradient is the sum over what
// passes it:
//   dlog_forget_t = gate_scale * sum of ds[i, j] over j < t <= i of t's sequence.
// Tiles of keys that the gates have provably closed are left out, see softmax/core.h.
//
// All functions are thread-safe, borrow all memory and allocate nothing (those in float64 do).
// Results are the same for any number of threads.
#pragma once

#include "cairn/attention/softmax/core.h"

namespace cairn {

struct FoxCore {
  SoftmaxCore softmax;   // biased must be true
  float gate_scale = 1;  // 0 or more
};

// `saved` and `workspace` as in mechanism.h.
AttentionMemory fox_memory(const FoxCore& core, size_t tokens, DType dtype, int threads);

// log_forget [tokens, heads], at most 0 and finite: not checked. Throws Error (usage) on shapes or
// memory that do not fit.
void fox_forward(std::string_view doing, const FoxCore& core, const AttentionInputs& inputs,
                 View2<const float> log_forget, const TokenLayout& layout, AnyView3 out,
                 std::span<std::byte> saved, std::span<std::byte> workspace, ThreadTeam& team);

// dlog_forget [tokens, heads] is overwritten.
void fox_backward(std::string_view doing, const FoxCore& core, const AttentionInputs& inputs,
                  View2<const float> log_forget, const TokenLayout& layout, AnyView3 out,
                  AnyView3 dout, std::span<const std::byte> saved,
                  const AttentionGradients& gradients, View2<float> dlog_forget,
                  std::span<std::byte> workspace, ThreadTeam& team);

// The definition, in float64; log_forget and its gradient are [tokens, heads].
std::vector<double> fox_reference_forward(const FoxCore& core,
                                          const AttentionMechanism::Reference& inputs,
                                          std::span<const double> log_forget,
                                          const TokenLayout& layout);
AttentionMechanism::Reference fox_reference_backward(const FoxCore& core,
                                                     const AttentionMechanism::Reference& inputs,
                                                     std::span<const double> log_forget,
                                                     const TokenLayout& layout,
                                                     std::span<const double> dout,
                                                     std::span<double> dlog_forget);

// gate_scale * c of each token: [heads, tokens].
void fox_potentials(double gate_scale, View2<const float> log_forget, View1<const int32_t> offsets,
                    double* potentials);
std::vector<double> fox_reference_potentials(double gate_scale, std::span<const double> log_forget,
                                             size_t heads, View1<const int32_t> offsets);

}  // namespace cairn
