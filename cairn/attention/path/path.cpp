#include "cairn/attention/path/path.h"

#include <cmath>

#include "cairn/attention/checks.h"
#include "cairn/kernels/dispatch.h"
#include "cairn/tensor/shape.h"

namespace cairn {
namespace {

const AttentionGeometry& checked(const AttentionGeometry& g, const PathOptions& options) {
  constexpr std::string_view kDoing = "making PaTH attention";
  check_geometry(kDoing, g);
  if (g.hidden_size == 0) refuse(kDoing, "hidden_size", "at least 1", "0");
  if (options.rope_on_w && g.head_dim % 2 != 0)
    refuse(kDoing, "head_dim", "an even number for rope_on_w", std::to_string(g.head_dim));
  return g;
}

template <class T>
AnyView3 rows_view(T* data, size_t tokens, size_t heads, size_t dim) {
  return View3<T>(data, tokens, heads, dim);
}

}  // namespace

PathAttention::PathAttention(const AttentionOptions& options, const AttentionGeometry& geometry,
                             size_t context_length)
    : options_(parse_path_options(options)),
      geometry_(checked(geometry, options_)),
      scale_(geometry.scale),
      context_(context_length),
      front_(options_, geometry_, context_length) {
  apply_isa_limit();
  if (scale_ == 0) scale_ = 1.0F / std::sqrt(static_cast<float>(geometry.head_dim));
}

void PathAttention::check_inputs(std::string_view doing, const AttentionInputs& inputs,
                                 View1<const int32_t> positions) const {
  const AttentionGeometry& g = geometry_;
  const size_t tokens = inputs.q.tokens;
  check_queries_keys_values(doing, g, inputs);
  check_shape(doing, "x", {tokens, g.hidden_size}, {inputs.x.rows, inputs.x.cols});
  if (inputs.x.dtype != DType::f32 && inputs.x.dtype != DType::bf16)
    refuse(doing, "x", "f32 or bf16", std::string(dtype_name(inputs.x.dtype)));
  check_parameters(doing, front_.parameters(), inputs.parameters);
  if (!options_.rope_on_w) return;
  check_shape(doing, "positions", {tokens}, {positions.size});
  for (const int32_t position : positions)
    if (position < 0 || static_cast<size_t>(position) >= context_)
      refuse(doing, "positions",
             "0 to " + std::to_string(context_) + " (context length), end excluded",
             std::to_string(position));
}

PathInputs PathAttention::core_inputs(const AttentionInputs& inputs, const FrontRows& rows,
                                      View1<const int32_t> offsets) const {
  const AttentionGeometry& g = geometry_;
  const size_t tokens = inputs.q.tokens, maps = tokens * options_.products;
  PathInputs in;
  in.q = rows.q != nullptr ? rows_view(rows.q, tokens, g.heads, g.head_dim) : inputs.q;
  in.k = rows.k != nullptr ? rows_view(rows.k, tokens, g.kv_heads, g.head_dim) : inputs.k;
  in.v = inputs.v;
  in.w = View3<const float>(rows.w, maps, g.kv_heads, g.head_dim);
  in.beta = View2<const float>(rows.beta, maps, g.kv_heads);
  if (options_.gate) in.log_gate = View2<const float>(rows.log_gate, tokens, g.heads);
  in.offsets = offsets;
  in.products = options_.products;
  in.scale = scale_;
  in.gate_scale = static_cast<float>(options_.gate_scale);
  in.compute = inputs.q.dtype;
  return in;
}

namespace {

// Shapes alone, for sizes.
AttentionInputs empty_inputs(const AttentionGeometry& g, size_t tokens, DType dtype) {
  AttentionInputs in;
  in.q.tokens = in.k.tokens = in.v.tokens = tokens;
  in.q.heads = g.heads;
  in.k.heads = in.v.heads = g.kv_heads;
  in.q.dim = in.k.dim = g.head_dim;
  in.v.dim = g.value_dim;
  in.q.dtype = in.k.dtype = in.v.dtype = dtype;
  return in;
}

}  // namespace

AttentionMemory PathAttention::memory(size_t tokens, size_t /*longest*/, DType dtype,
                                      int threads) const {
  Arena arena;
  const FrontRows rows = front_.take_rows(arena, tokens);
  front_.take_weights(arena, true);
  front_.take_gradients(arena, tokens);
  const size_t front = std::max(front_.forward_workspace(tokens, threads),
                                front_.backward_workspace(tokens, threads));
  const PathInputs in = core_inputs(empty_inputs(geometry_, tokens, dtype), rows, {});
  return {.saved = geometry_.heads * tokens * sizeof(float),
          .workspace = arena.used() + std::max(front, path_workspace(in, threads))};
}

// Scores and values; to the maps, per key: about dim^2 of a transition for every sqrt(context)
// tokens, not counted, as the projections are not.
double PathAttention::forward_flops(double context) const {
  return 2.0 * context * static_cast<double>(geometry_.heads) *
         static_cast<double>(geometry_.head_dim + geometry_.value_dim);
}

void PathAttention::forward(const AttentionInputs& inputs, const TokenLayout& layout, AnyView3 out,
                            std::span<std::byte> saved, std::span<std::byte> workspace,
                            ThreadTeam& team) const {
  constexpr std::string_view kDoing = "PaTH attention forward";
  const size_t tokens = inputs.q.tokens;
  check_inputs(kDoing, inputs, layout.positions);
  check_layout(kDoing, layout, tokens);
  check_heads(kDoing, "out", out, tokens, geometry_.heads, geometry_.value_dim, inputs.q.dtype);
  check_bytes(kDoing, "saved", geometry_.heads * tokens * sizeof(float), saved.size());
  if (tokens == 0) return;
  Arena arena(workspace);
  const FrontRows rows = front_.take_rows(arena, tokens);
  const FrontWeights weights = front_.take_weights(arena, false);
  front_.forward(inputs, layout, weights, rows, arena, team);
  path_attention(core_inputs(inputs, rows, layout.offsets), out,
                 reinterpret_cast<float*>(saved.data()), arena.rest(), team);
}

void PathAttention::backward(const AttentionInputs& inputs, const TokenLayout& layout, AnyView3 out,
                             AnyView3 dout, std::span<const std::byte> saved,
                             const AttentionGradients& gradients, std::span<std::byte> workspace,
                             ThreadTeam& team) const {
  constexpr std::string_view kDoing = "PaTH attention backward";
  const AttentionGeometry& g = geometry_;
  const size_t tokens = inputs.q.tokens, maps = tokens * options_.products;
  const DType dtype = inputs.q.dtype;
  check_inputs(kDoing, inputs, layout.positions);
  check_layout(kDoing, layout, tokens);
  check_heads(kDoing, "out", out, tokens, g.heads, g.value_dim, dtype);
  check_heads(kDoing, "dout", dout, tokens, g.heads, g.value_dim, dtype);
  check_heads(kDoing, "dq", gradients.dq, tokens, g.heads, g.head_dim, dtype);
  check_heads(kDoing, "dk", gradients.dk, tokens, g.kv_heads, g.head_dim, dtype);
  check_heads(kDoing, "dv", gradients.dv, tokens, g.kv_heads, g.value_dim, dtype);
  check_shape(kDoing, "dx", {tokens, g.hidden_size}, {gradients.dx.rows, gradients.dx.cols});
  check_shape(kDoing, "gradients of parameters", {inputs.parameters.size()},
              {gradients.parameters.size()});
  check_bytes(kDoing, "saved", g.heads * tokens * sizeof(float), saved.size());
  if (tokens == 0) return;
  Arena arena(workspace);
  const FrontRows rows = front_.take_rows(arena, tokens);
  const FrontWeights weights = front_.take_weights(arena, true);
  const PathFront::Gradients own = front_.take_gradients(arena, tokens);
  front_.forward(inputs, layout, weights, rows, arena, team);
  PathGradients core;
  core.dq = own.dq != nullptr ? rows_view(own.dq, tokens, g.heads, g.head_dim) : gradients.dq;
  core.dk = own.dk != nullptr ? rows_view(own.dk, tokens, g.kv_heads, g.head_dim) : gradients.dk;
  core.dv = gradients.dv;
  core.dw = View3<float>(own.dw, maps, g.kv_heads, g.head_dim);
  core.dbeta = View2<float>(own.dbeta, maps, g.kv_heads);
  if (options_.gate) core.dlog_gate = View2<float>(own.dlog_gate, tokens, g.heads);
  path_attention_backward(core_inputs(inputs, rows, layout.offsets), out, dout,
                          reinterpret_cast<const float*>(saved.data()), core, arena.rest(), team);
  front_.backward(inputs, layout, weights, rows, own, gradients, arena, team);
}

}  // namespace cairn
