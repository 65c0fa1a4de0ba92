#include "cairn/attention/path/core.h"

#include <cmath>

#include "cairn/attention/checks.h"
#include "cairn/attention/path/backward.h"
#include "cairn/attention/path/forward.h"
#include "cairn/base/error.h"
#include "cairn/tensor/shape.h"

namespace cairn {
namespace {

void check_gradients(std::string_view doing, const PathTask& task, const PathGradients& g) {
  const PathInputs& in = task.in;
  check_heads(doing, "dq", g.dq, in.q.tokens, task.heads, in.q.dim, g.dq.dtype);
  check_heads(doing, "dk", g.dk, in.q.tokens, task.kv_heads, in.q.dim, g.dk.dtype);
  check_heads(doing, "dv", g.dv, in.q.tokens, task.kv_heads, in.v.dim, g.dv.dtype);
  check_shape(doing, "dw", {in.w.tokens, task.kv_heads, in.q.dim},
              {g.dw.tokens, g.dw.heads, g.dw.dim});
  check_shape(doing, "dbeta", {in.beta.rows, task.kv_heads}, {g.dbeta.rows, g.dbeta.cols});
  if (g.dlog_gate.cols != 0)
    check_shape(doing, "dlog_gate", {in.log_gate.rows, in.log_gate.cols},
                {g.dlog_gate.rows, g.dlog_gate.cols});
}

// Throws for the first value of a row that `good` refuses.
[[noreturn]] void refuse_value(const char* name, size_t row, size_t head, const char* expected,
                               double found) {
  throw Error({.kind = ErrorKind::usage,
               .doing = "checking the inputs of PaTH attention",
               .subject = std::string(name) + " of row " + std::to_string(row) + ", head " +
                          std::to_string(head),
               .expected = expected,
               .found = std::to_string(found)});
}

template <class T>
void check_finite_rows(const char* name, const View3<const T>& view) {
  for (size_t t = 0; t < view.tokens; ++t)
    for (size_t h = 0; h < view.heads; ++h)
      for (size_t i = 0; i < view.dim; ++i) {
        const float value = as_float(view.at(t, h)[i]);
        if (!std::isfinite(value)) refuse_value(name, t, h, "finite numbers", value);
      }
}

void check_finite(const char* name, const AnyView3& view) {
  if (view.dtype == DType::bf16)
    check_finite_rows(name, view.as<const bf16>());
  else
    check_finite_rows(name, view.as<const float>());
}

}  // namespace

size_t path_workspace(const PathInputs& inputs, int threads) {
  PathInputs shapes = inputs;
  shapes.offsets = {};
  PathTask task = make_task("sizing PaTH attention", shapes);
  const size_t tokens = inputs.q.tokens, tiles = most_tiles(tokens);
  Arena tables;
  plan_task(task, tokens, tables, nullptr);
  return tables.used() + most_up_to(tiles, [&](size_t t) {
           return std::max(path_forward_workspace(task, t, threads),
                           path_backward_workspace(task, t, threads));
         });
}

void path_attention(const PathInputs& inputs, AnyView3 out, float* log2_sum,
                    std::span<std::byte> workspace, ThreadTeam& team) {
  constexpr std::string_view kDoing = "PaTH attention forward";
  PathTask task = make_task(kDoing, inputs);
  const size_t tokens = inputs.q.tokens;
  check_heads(kDoing, "out", out, tokens, task.heads, task.value_dim, out.dtype);
  if (tokens == 0) return;
  Arena arena(workspace);
  plan_task(task, tokens, arena, &team);
  run_path_forward(task, out, log2_sum, arena, team);
}

void path_attention_backward(const PathInputs& inputs, AnyView3 out, AnyView3 dout,
                             const float* log2_sum, const PathGradients& gradients,
                             std::span<std::byte> workspace, ThreadTeam& team) {
  constexpr std::string_view kDoing = "PaTH attention backward";
  PathTask task = make_task(kDoing, inputs);
  const size_t tokens = inputs.q.tokens;
  check_heads(kDoing, "out", out, tokens, task.heads, task.value_dim, out.dtype);
  check_heads(kDoing, "dout", dout, tokens, task.heads, task.value_dim, out.dtype);
  check_gradients(kDoing, task, gradients);
  if (tokens == 0) return;
  Arena arena(workspace);
  plan_task(task, tokens, arena, &team);
  run_path_backward(task, out, dout, log2_sum, gradients, arena, team);
}

void check_path_values(const PathInputs& in) {
  check_finite("q", in.q);
  check_finite("k", in.k);
  check_finite("v", in.v);
  for (size_t row = 0; row < in.w.tokens; ++row)
    for (size_t head = 0; head < in.w.heads; ++head) {
      const float beta = in.beta.data[row * in.beta.stride + head];
      if (!(beta >= 0 && beta <= 2)) refuse_value("beta", row, head, "0 to 2", beta);
      double square = 0;
      for (size_t i = 0; i < in.w.dim; ++i) square += std::pow(in.w.at(row, head)[i], 2);
      const double length = std::sqrt(square);
      if (!std::isfinite(length)) refuse_value("w", row, head, "finite numbers", length);
      if (beta != 0 && !(length >= 0.99 && length <= 1.01))
        refuse_value("the length of w", row, head, "0.99 to 1.01", length);
    }
  for (size_t row = 0; row < in.log_gate.rows; ++row)
    for (size_t head = 0; head < in.log_gate.cols; ++head) {
      const float value = in.log_gate.data[row * in.log_gate.stride + head];
      if (!(value <= 0) || !std::isfinite(value))
        refuse_value("log_gate", row, head, "finite numbers not above 0", value);
    }
}

}  // namespace cairn
