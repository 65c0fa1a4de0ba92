// The rooms "path" and "path_fox": PaTH attention (Yang et al. 2025, arXiv:2505.16381) with its
// front end, and the same with the forget gate of FoX (arXiv:2503.02130). The attention itself is
// in core.h, the front end in front.h, options in options.h.
//
// Parameters, named as in the reference checkpoints: w_proj.0.weight, w_proj.1.weight (or
// w_proj.weight at path_rank 0), w_conv1d.weight [channels, 1, kernel], bt_proj.weight and .bias,
// g_proj.weight and .bias ("path_fox"), q_norm.weight and k_norm.weight (qk_norm), path_alpha
// (rope_on_w). Channels are ordered [map of the token, key head, dim].
//
// Saved for backward: the logarithm (base 2) of each query's sum, f32 [heads, tokens]. The front
// end is computed again: it costs a few percent of attention, and w is as large as k.
#pragma once

#include <memory>

#include "cairn/attention/mechanism.h"
#include "cairn/attention/path/front.h"

namespace cairn {

class PathAttention : public AttentionMechanism {
 public:
  // Throws Error (usage) on unknown options and on a geometry that is not possible.
  PathAttention(const AttentionOptions& options, const AttentionGeometry& geometry,
                size_t context_length);

  std::string_view name() const override { return options_.gate ? "path_fox" : "path"; }
  const AttentionGeometry& geometry() const override { return geometry_; }
  const PathOptions& options() const { return options_; }
  const PathFront& front() const { return front_; }
  float scale() const { return scale_; }

  std::vector<ParameterSpec> parameters() const override { return front_.parameters(); }
  bool uses_hidden_state() const override { return true; }
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
  AttentionWeights reference_weights(const Reference& inputs,
                                     const TokenLayout& layout) const override;

  // Throws Error (usage) unless views and parameters fit geometry and options, agree in tokens and
  // type, and (with rope_on_w) all positions lie below the context length.
  void check_inputs(std::string_view doing, const AttentionInputs& inputs,
                    View1<const int32_t> positions) const;
  // The core's inputs over what the front end made.
  PathInputs core_inputs(const AttentionInputs& inputs, const FrontRows& rows,
                         View1<const int32_t> offsets) const;

 private:
  PathOptions options_;
  AttentionGeometry geometry_;
  float scale_;
  size_t context_;
  PathFront front_;
};

}  // namespace cairn
