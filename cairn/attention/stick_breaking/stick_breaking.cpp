#include "cairn/attention/stick_breaking/stick_breaking.h"

#include <cmath>

#include "cairn/attention/checks.h"
#include "cairn/attention/stick_breaking/reference.h"
#include "cairn/kernels/dispatch.h"
#include "cairn/tensor/shape.h"

namespace cairn {
namespace {

// Hands out the parameters that the options ask for, in the order of parameters().
template <class Vectors, class Take>
Vectors split_parameters(const StickBreakingOptions& options, Take take) {
  Vectors result;
  if (options.remainder == StickRemainder::head_bias) result.remainder = take();
  if (options.head_norm) {
    result.norm_weight = take();
    result.norm_bias = take();
  }
  if (options.logit_bias) result.logit_bias = take();
  return result;
}

StickReference core_reference(const StickBreaking& core,
                              const AttentionMechanism::Reference& inputs) {
  struct Vectors {
    std::vector<double> remainder, norm_weight, norm_bias, logit_bias;
  };
  size_t next = 0;
  auto vectors =
      split_parameters<Vectors>(core.options, [&] { return inputs.parameters.at(next++); });
  return {inputs.q,
          inputs.k,
          inputs.v,
          std::move(vectors.remainder),
          vectors.norm_weight,
          vectors.norm_bias,
          vectors.logit_bias};
}

}  // namespace

StickBreakingAttention::StickBreakingAttention(const AttentionOptions& options,
                                               const AttentionGeometry& geometry,
                                               size_t /*context_length*/)
    : core_{geometry, parse_stick_breaking_options(options)} {
  apply_isa_limit();
  check_geometry("making stick-breaking attention", geometry);
  if (geometry.scale == 0)
    core_.geometry.scale = 1.0F / std::sqrt(static_cast<float>(geometry.head_dim));
}

std::vector<ParameterSpec> StickBreakingAttention::parameters() const {
  const AttentionGeometry& g = core_.geometry;
  const auto vector = [](std::string name, Shape shape, double start) {
    return ParameterSpec{std::move(name),
                         std::move(shape),
                         {Initializer::Kind::constant, start},
                         ParameterGroup::vector};
  };
  std::vector<ParameterSpec> specs;
  if (core_.options.remainder == StickRemainder::head_bias)
    specs.push_back(vector("remainder_bias", {g.heads, g.value_dim}, 0));
  if (core_.options.head_norm) {
    specs.push_back(vector("head_norm.weight", {g.heads * g.value_dim}, 1));
    specs.push_back(vector("head_norm.bias", {g.heads * g.value_dim}, 0));
  }
  if (core_.options.logit_bias)
    specs.push_back(vector("logit_bias", {g.heads}, core_.options.logit_bias_start));
  return specs;
}

StickInputs StickBreakingAttention::core_inputs(std::string_view doing,
                                                const AttentionInputs& inputs) const {
  check_parameters(doing, parameters(), inputs.parameters);
  size_t next = 0;
  return {inputs.q, inputs.k, inputs.v,
          split_parameters<StickVectors<const float>>(core_.options,
                                                      [&] { return inputs.parameters[next++]; })};
}

AttentionMemory StickBreakingAttention::memory(size_t tokens, size_t longest, DType dtype,
                                               int threads) const {
  return stick_breaking_memory(core_, tokens, longest, dtype, threads);
}

double StickBreakingAttention::forward_flops(double context) const {
  const AttentionGeometry& g = core_.geometry;
  return 2.0 * context * static_cast<double>(g.heads) *
         static_cast<double>(g.head_dim + g.value_dim);
}

void StickBreakingAttention::forward(const AttentionInputs& inputs, const TokenLayout& layout,
                                     AnyView3 out, std::span<std::byte> saved,
                                     std::span<std::byte> workspace, ThreadTeam& team) const {
  constexpr std::string_view kDoing = "stick-breaking attention forward";
  check_layout(kDoing, layout, inputs.q.tokens, EmptySequences::allowed);
  stick_breaking_forward(core_, core_inputs(kDoing, inputs), layout.offsets, out, {}, saved,
                         workspace, team);
}

void StickBreakingAttention::backward(const AttentionInputs& inputs, const TokenLayout& layout,
                                      AnyView3 /*out*/, AnyView3 dout,
                                      std::span<const std::byte> saved,
                                      const AttentionGradients& gradients,
                                      std::span<std::byte> workspace, ThreadTeam& team) const {
  constexpr std::string_view kDoing = "stick-breaking attention backward";
  check_layout(kDoing, layout, inputs.q.tokens, EmptySequences::allowed);
  const StickInputs in = core_inputs(kDoing, inputs);
  check_shape(kDoing, "parameter gradients", {inputs.parameters.size()},
              {gradients.parameters.size()});
  size_t next = 0;
  const StickGradients to{gradients.dq, gradients.dk, gradients.dv,
                          split_parameters<StickVectors<float>>(
                              core_.options, [&] { return gradients.parameters[next++]; })};
  stick_breaking_backward(core_, in, layout.offsets, dout, {}, saved, to, workspace, team);
}

std::optional<AttentionStatistics> StickBreakingAttention::statistics(
    const TokenLayout& layout, std::span<const std::byte> saved) const {
  return stick_breaking_statistics(core_, layout.offsets, saved);
}

std::vector<double> StickBreakingAttention::reference_forward(const Reference& inputs,
                                                              const TokenLayout& layout) const {
  return stick_breaking_reference(core_, core_reference(core_, inputs), layout.offsets).out;
}

AttentionWeights StickBreakingAttention::reference_weights(const Reference& inputs,
                                                           const TokenLayout& layout) const {
  return stick_breaking_reference_weights(core_, core_reference(core_, inputs), layout);
}

AttentionMechanism::Reference StickBreakingAttention::reference_backward(
    const Reference& inputs, const TokenLayout& layout, std::span<const double> dout) const {
  const StickReference grad = stick_breaking_reference_backward(
      core_, core_reference(core_, inputs), layout.offsets, dout, {});
  Reference result{std::vector<double>(inputs.x.size()), grad.q, grad.k, grad.v, {}};
  for (const auto* vector : {&grad.remainder, &grad.norm_weight, &grad.norm_bias, &grad.logit_bias})
    if (!vector->empty()) result.parameters.push_back(*vector);
  return result;
}

}  // namespace cairn
