// The stick-breaking room: core.h under the contract of attention mechanisms.
// Options:
//   remainder       where the share that no key took goes: "head_bias" (default; a learned vector
//                   per query head, from 0), "value" (the query's own value) or "none"
//   head_norm       true: GroupNorm with one group a query head on the output, weight from 1 and
//                   bias from 0; default false
//   logit_bias      true, or a number: a learned bias of each query head's logits that starts at 0
//                   or there; default false
//   attend_current  true: queries see their own key too; default false
//   exit_threshold  the stick at which a row stops looking back, 2^-24; 0: never
//   gate_floor      smaller shares count as 0; default 0
// There are no positions: rope options are refused.
#pragma once

#include "cairn/attention/stick_breaking/core.h"

namespace cairn {

class StickBreakingAttention : public AttentionMechanism {
 public:
  // Throws Error (usage) on options and geometries that are not possible.
  StickBreakingAttention(const AttentionOptions& options, const AttentionGeometry& geometry,
                         size_t context_length);

  std::string_view name() const override { return "stick_breaking"; }
  const AttentionGeometry& geometry() const override { return core_.geometry; }
  const StickBreaking& core() const { return core_; }
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
  std::unique_ptr<AttentionCache> make_cache(size_t capacity, DType dtype) const override;
  std::vector<double> reference_forward(const Reference& inputs,
                                        const TokenLayout& layout) const override;
  Reference reference_backward(const Reference& inputs, const TokenLayout& layout,
                               std::span<const double> dout) const override;
  AttentionWeights reference_weights(const Reference& inputs,
                                     const TokenLayout& layout) const override;

  // The inputs of the contract as the core takes them. Throws Error (usage) when the number of
  // parameters is wrong.
  StickInputs core_inputs(std::string_view doing, const AttentionInputs& inputs) const;

 private:
  StickBreaking core_;
};

}  // namespace cairn
