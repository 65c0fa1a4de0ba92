// Softmax attention (Vaswani et al. 2017, arXiv:1706.03762), causal, with grouped queries (Ainslie
// et al. 2023, arXiv:2305.13245), computed tile by tile so that memory grows with tokens, not with
// their square (Dao et al. 2022, arXiv:2205.14135).
//   s[q, k] = scale * rotate(q) . rotate(k),  out[q] = sum_k softmax_k(s[q, k]) v[k]
// Options:
//   position    "rope" (default): queries and keys turn with their position, see rotary.h; "none"
//   rope_theta  base of the rotary frequencies, 10000
// Saved for backward: the logarithm (base 2) of each query's sum, f32 [heads, tokens].
#pragma once

#include <memory>
#include <optional>

#include "cairn/attention/mechanism.h"
#include "cairn/attention/rotary.h"

namespace cairn {

class SoftmaxAttention : public AttentionMechanism {
 public:
  // Throws Error (usage) on unknown options, on a geometry that is not possible and on "rope" with
  // an odd head_dim. `context_length` bounds positions when they rotate.
  SoftmaxAttention(const AttentionOptions& options, const AttentionGeometry& geometry,
                   size_t context_length);

  std::string_view name() const override { return "softmax"; }
  const AttentionGeometry& geometry() const override { return geometry_; }
  // The scale of scores, 1/sqrt(head_dim) unless the geometry says otherwise.
  float scale() const { return scale_; }
  // Null without rotation.
  const RotaryTable* rotary() const { return rotary_ ? &*rotary_ : nullptr; }

  AttentionMemory memory(size_t tokens, size_t longest, DType dtype, int threads) const override;
  double forward_flops(double context) const override;
  void forward(const AttentionInputs& inputs, const TokenLayout& layout, AnyView3 out,
               std::span<std::byte> saved, std::span<std::byte> workspace,
               ThreadTeam& team) const override;
  void backward(const AttentionInputs& inputs, const TokenLayout& layout, AnyView3 out,
                AnyView3 dout, std::span<const std::byte> saved,
                const AttentionGradients& gradients, std::span<std::byte> workspace,
                ThreadTeam& team) const override;
  std::unique_ptr<AttentionCache> make_cache(size_t capacity, DType dtype) const override;
  std::vector<double> reference_forward(const Reference& inputs,
                                        const TokenLayout& layout) const override;
  Reference reference_backward(const Reference& inputs, const TokenLayout& layout,
                               std::span<const double> dout) const override;

  // Throws Error (usage) unless the views fit the geometry, agree in tokens and type, and (with
  // rotation) all positions lie below the context length.
  void check_inputs(std::string_view doing, const AttentionInputs& inputs,
                    View1<const int32_t> positions) const;

 private:
  AttentionGeometry geometry_;
  float scale_;
  double theta_ = 10000;
  std::optional<RotaryTable> rotary_;
};

}  // namespace cairn
