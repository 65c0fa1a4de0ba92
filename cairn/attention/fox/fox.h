// The room of the Forgetting Transformer (Lin, Nikishin, He, Courville 2025, arXiv:2503.02130):
// softmax attention with a data-dependent forget gate for each query head,
//   f_t = sigmoid(f_proj.weight x_t + f_proj.bias),
// where x is the normed hidden state; core.h has the rest.
// Options:
//   gate_scale  factor of the summed log gates in the scores: a number of 0 or more, 1 (default) as
//               published, or "inv_sqrt_d" for 1/sqrt(head_dim)
//   gate_bias   where f_proj.bias starts, 0 (default): gates start at sigmoid(gate_bias)
//   position    "none" (default) or "rope"; then rope_theta, rope_scaling, ... as in softmax.h
//   window      as in softmax.h
// Parameters: f_proj.weight [heads, hidden_size], f_proj.bias [heads] (not decayed).
// Saved for backward: the logarithm of each query's sum, the gates, the first tile visited.
#pragma once

#include <memory>
#include <optional>

#include "cairn/attention/fox/core.h"
#include "cairn/attention/mechanism.h"
#include "cairn/attention/softmax/options.h"

namespace cairn {

class FoxAttention : public AttentionMechanism {
 public:
  // Throws Error (usage) on unknown options and on a geometry that is not possible.
  FoxAttention(const AttentionOptions& options, const AttentionGeometry& geometry,
               size_t context_length);

  std::string_view name() const override { return "fox"; }
  const AttentionGeometry& geometry() const override { return geometry_; }
  std::vector<ParameterSpec> parameters() const override;
  bool uses_hidden_state() const override { return true; }
  const FoxCore& core() const { return core_; }

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
  std::unique_ptr<AttentionCache> make_cache(size_t capacity, DType dtype) const override;
  std::vector<double> reference_forward(const Reference& inputs,
                                        const TokenLayout& layout) const override;
  Reference reference_backward(const Reference& inputs, const TokenLayout& layout,
                               std::span<const double> dout) const override;
  AttentionWeights reference_weights(const Reference& inputs,
                                     const TokenLayout& layout) const override;

  // Throws Error (usage) unless x and the parameters fit q.
  void check_gate_inputs(std::string_view doing, const AttentionInputs& inputs) const;
  View2<const float> gate_weight(const AttentionInputs& inputs) const {
    return {inputs.parameters[0].data, geometry_.heads, geometry_.hidden_size};
  }

 private:
  struct Space;  // how `saved` and `workspace` are laid out
  void check(std::string_view doing, const AttentionInputs& inputs,
             const TokenLayout& layout) const;
  // [tokens, heads]
  std::vector<double> reference_log_forget(const Reference& inputs) const;

  AttentionGeometry geometry_;
  double gate_bias_ = 0;
  std::optional<RotaryTable> rotary_;
  FoxCore core_;
};

}  // namespace cairn
