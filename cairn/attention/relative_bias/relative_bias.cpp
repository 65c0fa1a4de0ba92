#include "cairn/attention/relative_bias/relative_bias.h"

#include <algorithm>
#include <cmath>

#include "cairn/attention/arena.h"
#include "cairn/attention/checks.h"
#include "cairn/attention/relative_bias/options.h"
#include "cairn/kernels/dispatch.h"
#include "cairn/tensor/shape.h"

namespace cairn {

RelativeBiasAttention::RelativeBiasAttention(const AttentionOptions& options,
                                             const AttentionGeometry& geometry,
                                             size_t /*context_length*/)
    : geometry_(geometry) {
  constexpr std::string_view kMaking = "making relative_bias attention";
  apply_isa_limit();
  check_geometry(kMaking, geometry);
  const RelativeBiasOptions parsed = read_relative_bias_options(kMaking, options);
  core_.geometry = geometry;
  if (geometry.scale == 0)
    core_.geometry.scale = 1.0F / std::sqrt(static_cast<float>(geometry.head_dim));
  core_.mask = parsed.mask;
  if (parsed.mask != AttentionMask::cross)
    buckets_.emplace(parsed.buckets, parsed.max_distance,
                     parsed.mask == AttentionMask::bidirectional);
}

std::vector<ParameterSpec> RelativeBiasAttention::parameters() const {
  if (!buckets_) return {};
  const auto width = static_cast<double>(std::max<size_t>(geometry_.hidden_size, 1));
  return {{"relative_attention_bias.weight",
           {buckets_->count(), geometry_.heads},
           {Initializer::Kind::normal, 1 / std::sqrt(width)},
           ParameterGroup::vector}};
}

std::optional<RelativeBias> RelativeBiasAttention::bias(
    std::string_view doing, std::span<const View1<const float>> parameters,
    const BucketGradients& gradients) const {
  check_parameters(doing, this->parameters(), parameters);
  if (!buckets_) return std::nullopt;
  const View2<const float> table(parameters[0].data, buckets_->count(), geometry_.heads);
  return RelativeBias(*buckets_, table, gradients);
}

BucketGradients RelativeBiasAttention::take_gradients(Arena& arena, size_t tokens) const {
  if (!buckets_) return {};
  const size_t tiles = most_tiles(tokens);
  return {arena.take<double>(geometry_.heads * tiles * buckets_->count()), tiles};
}

AttentionMemory RelativeBiasAttention::memory(size_t tokens, size_t /*longest*/, DType dtype,
                                              int threads) const {
  Arena arena;
  take_gradients(arena, tokens);
  AttentionMemory memory = softmax_memory(core_, tokens, dtype, threads);
  memory.workspace += arena.used();
  return memory;
}

double RelativeBiasAttention::forward_flops(double context) const {
  return 2.0 * context * static_cast<double>(geometry_.heads) *
         static_cast<double>(geometry_.head_dim + geometry_.value_dim);
}

void RelativeBiasAttention::forward(const AttentionInputs& inputs, const TokenLayout& layout,
                                    AnyView3 out, std::span<std::byte> saved,
                                    std::span<std::byte> workspace, ThreadTeam& team) const {
  constexpr std::string_view kDoing = "relative_bias attention forward";
  const std::optional<RelativeBias> term = bias(kDoing, inputs.parameters);
  softmax_forward(kDoing, core_, inputs, nullptr, layout, out, saved, workspace, team,
                  term ? &*term : nullptr);
}

void RelativeBiasAttention::backward(const AttentionInputs& inputs, const TokenLayout& layout,
                                     AnyView3 out, AnyView3 dout, std::span<const std::byte> saved,
                                     const AttentionGradients& gradients,
                                     std::span<std::byte> workspace, ThreadTeam& team) const {
  constexpr std::string_view kDoing = "relative_bias attention backward";
  check_shape(kDoing, "parameter gradients", {inputs.parameters.size()},
              {gradients.parameters.size()});
  Arena arena(workspace);
  const BucketGradients sums = take_gradients(arena, inputs.q.tokens);
  const std::optional<RelativeBias> term = bias(kDoing, inputs.parameters, sums);
  if (term) std::fill_n(sums.sums, geometry_.heads * sums.query_tiles * buckets_->count(), 0.0);
  softmax_backward(kDoing, core_, inputs, nullptr, layout, out, dout, saved, gradients, nullptr,
                   arena.rest(), team, term ? &*term : nullptr);
  if (!term) return;
  check_shape(kDoing, "gradient of relative_attention_bias.weight",
              {buckets_->count() * geometry_.heads}, {gradients.parameters[0].size});
  add_bucket_gradients(sums, {gradients.parameters[0].data, buckets_->count(), geometry_.heads});
}

}  // namespace cairn
