#include "cairn/attention/fox/fox.h"

#include <cmath>

#include "cairn/attention/arena.h"
#include "cairn/attention/checks.h"
#include "cairn/attention/fox/gate.h"
#include "cairn/base/error.h"
#include "cairn/kernels/dispatch.h"
#include "cairn/tensor/shape.h"

namespace cairn {
namespace {

constexpr std::string_view kMaking = "making fox attention";

[[noreturn]] void refuse(std::string subject, std::string expected, std::string found) {
  throw Error({.kind = ErrorKind::usage,
               .doing = std::string(kMaking),
               .subject = std::move(subject),
               .expected = std::move(expected),
               .found = std::move(found)});
}

SoftmaxOptions read_options(const AttentionOptions& options, const AttentionGeometry& geometry) {
  const SoftmaxOptions parsed = read_softmax_options(kMaking, options, geometry, PositionKind::none,
                                                     {"gate_scale", "gate_bias"});
  if (parsed.position == PositionKind::alibi)
    refuse("option position", "\"none\" or \"rope\": gates replace slopes", "alibi");
  if (parsed.qk_conv > 0) refuse("option qk_conv", "none in this room", "qk_conv");
  if (parsed.qk_norm) refuse("option qk_norm", "none in this room", "qk_norm");
  // What is pruned is decided by norms.
  if (parsed.rope_scaling.kind == RotaryScaling::Kind::yarn ||
      parsed.rope_scaling.kind == RotaryScaling::Kind::longrope)
    refuse("option rope_scaling", "one that keeps norms", "yarn or longrope");
  return parsed;
}

float read_gate_scale(const AttentionOptions& options, size_t head_dim) {
  const auto option = options.values.find("gate_scale");
  if (option == options.values.end()) return 1;
  if (const auto* word = std::get_if<std::string>(&option->second)) {
    if (*word == "inv_sqrt_d") return 1.0F / std::sqrt(static_cast<float>(head_dim));
    refuse("option gate_scale", "a number of 0 or more, or \"inv_sqrt_d\"", *word);
  }
  return static_cast<float>(real_option(kMaking, "gate_scale", option->second, 0, 1e6));
}

}  // namespace

// What a call keeps beside the core's own memory; of `saved` the core has the beginning.
struct FoxAttention::Space {
  View2<float> log_forget;   // in `saved`
  View2<float> dlog_forget;  // in the workspace
  float* scratch;

  Space(const FoxAttention& a, size_t tokens, DType dtype, int threads, Arena& saved,
        Arena& workspace) {
    const AttentionGeometry& g = a.geometry_;
    saved.take<std::byte>(fox_memory(a.core_, tokens, dtype, threads).saved);
    log_forget = {saved.take<float>(tokens * g.heads), tokens, g.heads};
    dlog_forget = {workspace.take<float>(tokens * g.heads), tokens, g.heads};
    scratch = workspace.take<float>(gate_scratch(g.hidden_size) * threads);
  }
};

FoxAttention::FoxAttention(const AttentionOptions& options, const AttentionGeometry& geometry,
                           size_t context_length)
    : geometry_(geometry) {
  apply_isa_limit();
  check_geometry(kMaking, geometry);
  if (geometry.hidden_size == 0) refuse("hidden_size", "1 or more", "0");
  const SoftmaxOptions parsed = read_options(options, geometry);
  if (const auto bias = options.values.find("gate_bias"); bias != options.values.end())
    gate_bias_ = real_option(kMaking, "gate_bias", bias->second, -100, 100);
  if (parsed.position == PositionKind::rope) rotary_.emplace(parsed.rotary_table(context_length));
  core_.softmax.geometry = geometry;
  if (geometry.scale == 0)
    core_.softmax.geometry.scale = 1.0F / std::sqrt(static_cast<float>(geometry.head_dim));
  core_.softmax.rotary = rotary_ ? &*rotary_ : nullptr;
  core_.softmax.window = parsed.window;
  core_.softmax.biased = true;
  core_.gate_scale = read_gate_scale(options, geometry.head_dim);
}

std::vector<ParameterSpec> FoxAttention::parameters() const {
  const Shape weight = {geometry_.heads, geometry_.hidden_size};
  return {{"f_proj.weight", weight, {}, ParameterGroup::matrix},
          {"f_proj.bias",
           {geometry_.heads},
           {Initializer::Kind::constant, gate_bias_},
           ParameterGroup::vector}};
}

AttentionMemory FoxAttention::memory(size_t tokens, size_t /*longest*/, DType dtype,
                                     int threads) const {
  Arena saved, workspace;
  const Space space(*this, tokens, dtype, threads, saved, workspace);
  return {.saved = saved.used(),
          .workspace = workspace.used() + fox_memory(core_, tokens, dtype, threads).workspace};
}

double FoxAttention::forward_flops(double context) const {
  const size_t window = core_.softmax.window;
  if (window > 0) context = std::min(context, static_cast<double>(window));
  return 2.0 * static_cast<double>(geometry_.heads) *
         (context * static_cast<double>(geometry_.head_dim + geometry_.value_dim) +
          static_cast<double>(geometry_.hidden_size));
}

void FoxAttention::check_gate_inputs(std::string_view doing, const AttentionInputs& inputs) const {
  check_queries_keys_values(doing, geometry_, inputs);
  check_shape(doing, "x", {inputs.q.tokens, geometry_.hidden_size}, {inputs.x.rows, inputs.x.cols});
  if (inputs.x.dtype != DType::f32 && inputs.x.dtype != DType::bf16)
    throw Error({.kind = ErrorKind::usage,
                 .doing = std::string(doing),
                 .subject = "x",
                 .expected = "f32 or bf16",
                 .found = std::string(dtype_name(inputs.x.dtype))});
  check_parameters(doing, parameters(), inputs.parameters);
}

void FoxAttention::check(std::string_view doing, const AttentionInputs& inputs,
                         const TokenLayout& layout) const {
  check_gate_inputs(doing, inputs);
  check_layout(doing, layout, inputs.q.tokens);
  if (rotary_) check_positions(doing, layout.positions, inputs.q.tokens, rotary_->positions());
}

void FoxAttention::forward(const AttentionInputs& inputs, const TokenLayout& layout, AnyView3 out,
                           std::span<std::byte> saved, std::span<std::byte> workspace,
                           ThreadTeam& team) const {
  constexpr std::string_view kDoing = "fox attention forward";
  check(kDoing, inputs, layout);
  const size_t tokens = inputs.q.tokens;
  const AttentionMemory needed = memory(tokens, tokens, inputs.q.dtype, team.size());
  check_bytes(kDoing, "saved", needed.saved, saved.size());
  check_bytes(kDoing, "workspace", needed.workspace, workspace.size());
  Arena kept(saved), arena(workspace);
  const Space space(*this, tokens, inputs.q.dtype, team.size(), kept, arena);
  forget_gates(inputs.x, gate_weight(inputs), inputs.parameters[1], space.log_forget, space.scratch,
               team);
  fox_forward(kDoing, core_, inputs, space.log_forget, layout, out, saved,
              workspace.subspan(arena.used()), team);
}

void FoxAttention::backward(const AttentionInputs& inputs, const TokenLayout& layout, AnyView3 out,
                            AnyView3 dout, std::span<const std::byte> saved,
                            const AttentionGradients& gradients, std::span<std::byte> workspace,
                            ThreadTeam& team) const {
  constexpr std::string_view kDoing = "fox attention backward";
  check(kDoing, inputs, layout);
  const AttentionGeometry& g = geometry_;
  const size_t tokens = inputs.q.tokens;
  const AttentionMemory needed = memory(tokens, tokens, inputs.q.dtype, team.size());
  check_bytes(kDoing, "saved", needed.saved, saved.size());
  check_bytes(kDoing, "workspace", needed.workspace, workspace.size());
  check_shape(kDoing, "dx", {tokens, g.hidden_size}, {gradients.dx.rows, gradients.dx.cols});
  check_shape(kDoing, "parameter gradients", {2}, {gradients.parameters.size()});
  Arena kept({const_cast<std::byte*>(saved.data()), saved.size()}), arena(workspace);
  const Space space(*this, tokens, inputs.q.dtype, team.size(), kept, arena);
  fox_backward(kDoing, core_, inputs, space.log_forget, layout, out, dout, saved, gradients,
               space.dlog_forget, workspace.subspan(arena.used()), team);
  forget_gates_backward(inputs.x, gate_weight(inputs), space.log_forget, space.dlog_forget,
                        gradients.dx, {gradients.parameters[0].data, g.heads, g.hidden_size},
                        gradients.parameters[1], team);
}

std::optional<AttentionStatistics> FoxAttention::statistics(
    const TokenLayout& layout, std::span<const std::byte> saved) const {
  return softmax_statistics(core_.softmax, layout, saved);
}

}  // namespace cairn
