// Softmax attention (Vaswani et al. 2017, arXiv:1706.03762), causal, with grouped queries (Ainslie
// et al. 2023, arXiv:2305.13245), computed tile by tile so that memory grows with tokens, not with
// their square (Dao et al. 2022, arXiv:2205.14135).
//   s[q, k] = scale * rotate(q) . rotate(k) - slope * (q's token - k's),
//   out[q]  = sum_k softmax_k(s[q, k]) v[k]
// Options:
//   position    "rope" (default): queries and keys turn with their position, see rotary.h;
//               "alibi": scores fall by a slope of the head a token (Press et al. 2022,
//               arXiv:2108.12409); "none"
//   rope_theta  base of the rotary frequencies, 10000
//   rope_dim    how many of a head's dimensions turn, from the first on, head_dim
//   rope_scaling "none" (default), "linear", "ntk", "llama3", "yarn", "dynamic" or "longrope" (see
//               rotary.h), for reading further than the model was trained; rope_factor how much
//               further, 1; for the last four rope_original_context, 8192; for llama3
//               rope_low_freq_factor, 1, and rope_high_freq_factor, 4; for yarn rope_beta_fast, 32,
//               and rope_beta_slow, 1; for longrope rope_short_factors and rope_long_factors
//               [rope_dim / 2]; for yarn and longrope rope_attention_factor, see rotary.h
//   window      how many keys a query sees, its own included; 0 (default): all
//   qk_conv     taps of a short causal convolution on queries and keys, see convolution.h; 0
//               (default): none. Parameters q_conv1d.weight, k_conv1d.weight [channels, taps].
//   qk_norm     whether each head of queries and keys is normed, see head_norm.h; false. Parameters
//               q_norm.weight, k_norm.weight [head_dim]; qk_norm_eps, 1e-6; qk_norm_offset, 0
// Saved for backward: the logarithm (base 2) of each query's sum, and queries and keys that were
// convolved or normed.
#pragma once

#include <memory>
#include <optional>

#include "cairn/attention/mechanism.h"
#include "cairn/attention/rotary.h"
#include "cairn/attention/softmax/core.h"
#include "cairn/attention/softmax/options.h"
#include "cairn/kernels/norms.h"

namespace cairn {

class SoftmaxAttention : public AttentionMechanism {
 public:
  // Throws Error (usage) on unknown options, on a geometry that is not possible and on "rope" with
  // an odd head_dim. `context_length` bounds positions when they rotate.
  SoftmaxAttention(const AttentionOptions& options, const AttentionGeometry& geometry,
                   size_t context_length);

  std::string_view name() const override { return "softmax"; }
  const AttentionGeometry& geometry() const override { return geometry_; }
  std::vector<ParameterSpec> parameters() const override;

  AttentionMemory memory(size_t tokens, size_t longest, DType dtype, int threads) const override;
  double forward_flops(double context) const override;
  void forward(const AttentionInputs& inputs, const TokenLayout& layout, AnyView3 out,
               std::span<std::byte> saved, std::span<std::byte> workspace,
               ThreadTeam& team) const override;
  void backward(const AttentionInputs& inputs, const TokenLayout& layout, AnyView3 out,
                AnyView3 dout, std::span<const std::byte> saved,
                const AttentionGradients& gradients, std::span<std::byte> workspace,
                ThreadTeam& team) const override;
  std::optional<AttentionStatistics> statistics(const TokenLayout& layout,
                                                std::span<const std::byte> saved) const override;
  std::optional<PlainSoftmax> plain_softmax() const override;
  std::unique_ptr<AttentionCache> make_cache(size_t capacity, DType dtype) const override;
  std::vector<double> reference_forward(const Reference& inputs,
                                        const TokenLayout& layout) const override;
  Reference reference_backward(const Reference& inputs, const TokenLayout& layout,
                               std::span<const double> dout) const override;
  AttentionWeights reference_weights(const Reference& inputs,
                                     const TokenLayout& layout) const override;

 private:
  struct Space;  // how `saved` and `workspace` are laid out
  void check(std::string_view doing, const AttentionInputs& inputs,
             const TokenLayout& layout) const;
  void fill_potentials(size_t tokens, double* potentials) const;
  std::vector<double> reference_potentials(size_t tokens) const;
  // The inputs with queries and keys as attention compares them.
  Reference reference_compared(const Reference& inputs, const TokenLayout& layout) const;
  Reference reference_compared_back(const Reference& inputs, const TokenLayout& layout,
                                    Reference gradients) const;
  NormOptions norm_options() const;
  bool changes_queries() const { return options_.qk_conv > 0 || options_.qk_norm; }

  AttentionGeometry geometry_;
  SoftmaxOptions options_;
  std::optional<RotaryTable> rotary_;
  std::vector<double> slopes_;  // [heads] with "alibi", else empty
  SoftmaxCore core_;
};

}  // namespace cairn
