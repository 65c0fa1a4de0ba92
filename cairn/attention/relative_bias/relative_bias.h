// Softmax attention with a learned bias for every distance between query and key, as in T5 (Raffel
// et al. 2020, arXiv:1910.10683, section 2.1): there are no other positions.
//   s[q, k] = scale * q . k + weight[bucket(k's token - q's), head]
//   out[q]  = sum_k softmax_k(s[q, k]) v[k]
// with grouped queries and memory of O(tokens), on the tiles of softmax/. The geometry's scale is
// taken as given; T5 has 1.
// Options:
//   mask          "causal" (default), "bidirectional", or "cross": attention to the tokens of
//   another
//                 stream, all of them and without a bias (TokenLayout::key_offsets)
//   buckets       32; of both directions together, so even in bidirectional attention
//   max_distance  from which on all distances share a bucket, 128; buckets.h has the rest
// Parameter, but for "cross", which has neither of these two options:
// relative_attention_bias.weight [buckets, heads] (not decayed). The layers of a stack usually
// share one table. Sequences may be empty, also on one side of a cross-attention. Saved for
// backward: the logarithm (base 2) of each query's sum.
#pragma once

#include <memory>
#include <optional>

#include "cairn/attention/mechanism.h"
#include "cairn/attention/relative_bias/bias.h"
#include "cairn/attention/softmax/core.h"

namespace cairn {

class RelativeBiasAttention : public AttentionMechanism {
 public:
  // Throws Error (usage) on unknown options, values that do not fit together and on a geometry that
  // is not possible. Any position is possible, whatever the context length.
  RelativeBiasAttention(const AttentionOptions& options, const AttentionGeometry& geometry,
                        size_t context_length);

  std::string_view name() const override { return "relative_bias"; }
  const AttentionGeometry& geometry() const override { return geometry_; }
  std::vector<ParameterSpec> parameters() const override;
  AttentionMask mask() const override { return core_.mask; }

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

  // The term of the scores; none in cross-attention. Throws Error (usage) unless `parameters` fit.
  std::optional<RelativeBias> bias(std::string_view doing,
                                   std::span<const View1<const float>> parameters,
                                   const BucketGradients& gradients = {}) const;

 private:
  struct Row;  // of the reference
  template <class Visit>
  void for_each_row(const Reference& inputs, const TokenLayout& layout, Visit visit) const;
  BucketGradients take_gradients(Arena& arena, size_t tokens) const;

  AttentionGeometry geometry_;
  SoftmaxCore core_;
  std::optional<DistanceBuckets> buckets_;  // none in cross-attention
};

}  // namespace cairn
