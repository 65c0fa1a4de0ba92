#include "cairn/attention/softmax/softmax.h"

#include <cmath>

#include "cairn/attention/checks.h"
#include "cairn/attention/softmax/backward.h"
#include "cairn/attention/softmax/forward.h"
#include "cairn/base/error.h"
#include "cairn/kernels/dispatch.h"
#include "cairn/tensor/shape.h"

namespace cairn {
namespace {

constexpr std::string_view kMaking = "making softmax attention";

[[noreturn]] void refuse(std::string subject, std::string expected, std::string found) {
  throw Error({.kind = ErrorKind::usage,
               .doing = std::string(kMaking),
               .subject = std::move(subject),
               .expected = std::move(expected),
               .found = std::move(found)});
}

struct ParsedOptions {
  bool rotate = true;
  double theta = 10000;
};

ParsedOptions parse_options(const AttentionOptions& options) {
  ParsedOptions parsed;
  for (const auto& [key, value] : options.values) {
    if (key == "position") {
      const auto* word = std::get_if<std::string>(&value);
      if (word == nullptr || (*word != "rope" && *word != "none"))
        refuse("option position", "\"rope\" or \"none\"", word == nullptr ? "not a string" : *word);
      parsed.rotate = *word == "rope";
    } else if (key == "rope_theta") {
      parsed.theta = number_option(kMaking, key, value);
      if (!(parsed.theta > 0) || !std::isfinite(parsed.theta))
        refuse("option rope_theta", "a positive number", std::to_string(parsed.theta));
    } else {
      refuse("option " + key, "position, rope_theta", key);
    }
  }
  return parsed;
}

TilePlan plan_for(Arena& arena, const TokenLayout& layout, size_t tokens) {
  TilePlan plan = take_plan(arena, most_tiles(tokens));
  fill_plan(plan, layout.offsets);
  return plan;
}

}  // namespace

SoftmaxAttention::SoftmaxAttention(const AttentionOptions& options,
                                   const AttentionGeometry& geometry, size_t context_length)
    : geometry_(geometry), scale_(geometry.scale) {
  apply_isa_limit();
  const ParsedOptions parsed = parse_options(options);
  check_geometry(kMaking, geometry);
  if (scale_ == 0) scale_ = 1.0F / std::sqrt(static_cast<float>(geometry.head_dim));
  theta_ = parsed.theta;
  if (!parsed.rotate) return;
  if (geometry.head_dim % 2 != 0)
    refuse("head_dim", "an even number for position \"rope\" (or position \"none\")",
           std::to_string(geometry.head_dim));
  rotary_.emplace(geometry.head_dim, theta_, context_length);
}

void SoftmaxAttention::check_inputs(std::string_view doing, const AttentionInputs& inputs,
                                    View1<const int32_t> positions) const {
  check_queries_keys_values(doing, geometry_, inputs);
  if (!rotary_) return;
  check_shape(doing, "positions", {inputs.q.tokens}, {positions.size});
  for (const int32_t position : positions) {
    if (position >= 0 && static_cast<size_t>(position) < rotary_->positions()) continue;
    throw Error({.kind = ErrorKind::usage,
                 .doing = std::string(doing),
                 .subject = "positions",
                 .expected = "0 to " + std::to_string(rotary_->positions()) +
                             " (context length), end excluded",
                 .found = std::to_string(position)});
  }
}

AttentionMemory SoftmaxAttention::memory(size_t tokens, size_t /*longest*/, DType dtype,
                                         int threads) const {
  const TileKernel& kernel = tile_kernel_for(dtype);
  const size_t tiles = most_tiles(tokens);
  Arena plan;
  take_plan(plan, tiles);
  const size_t forward = forward_workspace(geometry_, kernel, tiles, threads);
  const size_t backward = backward_workspace(geometry_, kernel, tiles, threads);
  return {.saved = geometry_.heads * tokens * sizeof(float),
          .workspace = plan.used() + std::max(forward, backward)};
}

double SoftmaxAttention::forward_flops(double context) const {
  return 2.0 * context * static_cast<double>(geometry_.heads) *
         static_cast<double>(geometry_.head_dim + geometry_.value_dim);
}

void SoftmaxAttention::forward(const AttentionInputs& inputs, const TokenLayout& layout,
                               AnyView3 out, std::span<std::byte> saved,
                               std::span<std::byte> workspace, ThreadTeam& team) const {
  constexpr std::string_view kDoing = "softmax attention forward";
  const size_t tokens = inputs.q.tokens;
  check_inputs(kDoing, inputs, layout.positions);
  check_offsets(kDoing, layout.offsets, tokens);
  check_heads(kDoing, "out", out, tokens, geometry_.heads, geometry_.value_dim, inputs.q.dtype);
  check_bytes(kDoing, "saved", geometry_.heads * tokens * sizeof(float), saved.size());
  if (tokens == 0) return;
  Arena arena(workspace);
  ForwardTask task;
  task.q = inputs.q;
  task.k = inputs.k;
  task.v = inputs.v;
  task.out = out;
  task.rotate_q = task.rotate_k = {rotary(), layout.positions.data};
  task.scale = scale_;
  task.plan = plan_for(arena, layout, tokens);
  task.query_tiles = task.plan.tiles;
  task.query_tile = task.plan.tile;
  task.log2_sum = reinterpret_cast<float*>(saved.data());
  run_forward(task, geometry_, tile_kernel_for(inputs.q.dtype), arena, team);
}

void SoftmaxAttention::backward(const AttentionInputs& inputs, const TokenLayout& layout,
                                AnyView3 out, AnyView3 dout, std::span<const std::byte> saved,
                                const AttentionGradients& gradients, std::span<std::byte> workspace,
                                ThreadTeam& team) const {
  constexpr std::string_view kDoing = "softmax attention backward";
  const AttentionGeometry& g = geometry_;
  const size_t tokens = inputs.q.tokens;
  const DType dtype = inputs.q.dtype;
  check_inputs(kDoing, inputs, layout.positions);
  check_offsets(kDoing, layout.offsets, tokens);
  check_heads(kDoing, "out", out, tokens, g.heads, g.value_dim, dtype);
  check_heads(kDoing, "dout", dout, tokens, g.heads, g.value_dim, dtype);
  check_heads(kDoing, "dq", gradients.dq, tokens, g.heads, g.head_dim, dtype);
  check_heads(kDoing, "dk", gradients.dk, tokens, g.kv_heads, g.head_dim, dtype);
  check_heads(kDoing, "dv", gradients.dv, tokens, g.kv_heads, g.value_dim, dtype);
  check_bytes(kDoing, "saved", g.heads * tokens * sizeof(float), saved.size());
  if (tokens == 0) return;
  Arena arena(workspace);
  BackwardTask task;
  task.q = inputs.q;
  task.k = inputs.k;
  task.v = inputs.v;
  task.out = out;
  task.dout = dout;
  task.dq = gradients.dq;
  task.dk = gradients.dk;
  task.dv = gradients.dv;
  task.rotary = {rotary(), layout.positions.data};
  task.scale = scale_;
  task.plan = plan_for(arena, layout, tokens);
  task.log2_sum = reinterpret_cast<const float*>(saved.data());
  run_backward(task, g, tile_kernel_for(dtype), arena, team);
}

}  // namespace cairn
