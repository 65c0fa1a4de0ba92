// Softmax attention as plain functions on views, with what its relatives add to it:
//   s[i, j] = scale * rotate(q_i) . rotate(k_j) + potential[i] - potential[j]
//   out_i   = sum_j softmax_j(s[i, .]) v_j          over the last `window` keys of i's sequence
// Without a potential this is softmax.h, with one it is ALiBi or the Forgetting Transformer.
// Instead of potentials there may be any term that fills tiles (bias.h): relative_bias/ has one.
//
// With potentials that fall along a sequence, tiles of old keys are left out where all their
// weights together are provably below 2^-24: a key weighs at most
//   exp(scale * |q_i| (|k_j| + |k_i|) + potential[i] - potential[j])
// since the query's own key weighs at most 1. The bound costs a norm a token (Lin et al. 2025,
// arXiv:2504.06949, prune by a threshold of the same form).
//
// All functions are thread-safe, borrow all memory and allocate nothing. Results are the same for
// any number of threads.
#pragma once

#include "cairn/attention/mechanism.h"
#include "cairn/attention/plan.h"
#include "cairn/attention/rotary.h"
#include "cairn/attention/softmax/bias.h"

namespace cairn {

struct SoftmaxCore {
  AttentionGeometry geometry;  // scale must be the one in use, not 0
  const RotaryTable* rotary = nullptr;
  size_t window = 0;    // keys that a query sees, its own included; 0: all
  bool biased = false;  // whether potentials are given
  // Other masks go without rotation, window and potentials; their references are the rooms'.
  AttentionMask mask = AttentionMask::causal;
};

// Falling (or level) along each sequence, any finite start; null unless core.biased.
using Potentials = const double*;  // [heads, tokens]

AttentionMemory softmax_memory(const SoftmaxCore& core, size_t tokens, DType dtype, int threads);

// q, k, v, layout (positions are read with a rotary table only; sequences may be empty) and out as
// in mechanism.h. `bias` only without potentials.
// Throws Error (usage) on shapes or memory that do not fit; `doing` opens its message.
void softmax_forward(std::string_view doing, const SoftmaxCore& core, const AttentionInputs& inputs,
                     Potentials potentials, const TokenLayout& layout, AnyView3 out,
                     std::span<std::byte> saved, std::span<std::byte> workspace, ThreadTeam& team,
                     const ScoreBias* bias = nullptr);

// Gradients of sum(out * dout). dpotential [heads, tokens] is overwritten; it may be null.
void softmax_backward(std::string_view doing, const SoftmaxCore& core,
                      const AttentionInputs& inputs, Potentials potentials,
                      const TokenLayout& layout, AnyView3 out, AnyView3 dout,
                      std::span<const std::byte> saved, const AttentionGradients& gradients,
                      double* dpotential, std::span<std::byte> workspace, ThreadTeam& team,
                      const ScoreBias* bias = nullptr);

// Of the forward pass that left `saved`; empty without potentials.
std::optional<AttentionStatistics> softmax_statistics(const SoftmaxCore& core,
                                                      const TokenLayout& layout,
                                                      std::span<const std::byte> saved);

// Makes each query of a plan see its own and the window - 1 keys before it, as far as they are of
// its sequence.
void narrow_to_window(TilePlan& plan, size_t window);

// The definition, in float64. Potentials as above.
std::vector<double> softmax_reference_forward(const SoftmaxCore& core,
                                              const AttentionMechanism::Reference& inputs,
                                              Potentials potentials, const TokenLayout& layout);
// Its gradients; those of parameters and x are left empty.
AttentionMechanism::Reference softmax_reference_backward(
    const SoftmaxCore& core, const AttentionMechanism::Reference& inputs, Potentials potentials,
    const TokenLayout& layout, std::span<const double> dout, double* dpotential);

// The weights of all queries of one sequence.
AttentionWeights softmax_reference_weights(const SoftmaxCore& core,
                                           const AttentionMechanism::Reference& inputs,
                                           Potentials potentials, const TokenLayout& layout);

}  // namespace cairn
