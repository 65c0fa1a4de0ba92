#include "cairn/autograd/weight_products.h"

#include <algorithm>

namespace cairn {
namespace {

MatmulForm forward_form(const WeightRef& weight, const WeightProducts::Layout& layout,
                        DType compute) {
  return {.n = weight.values.rows,
          .k = weight.values.cols,
          .operands = compute,
          .result = layout.y_dtype,
          .transpose_b = true,
          .packed_b = true,
          .accumulate = layout.y_adds,
          .ldc = layout.y_stride};
}

MatmulForm backward_form(const WeightRef& weight, const WeightProducts::Layout& layout,
                         DType compute, bool add) {
  return {.n = weight.values.cols,
          .k = weight.values.rows,
          .operands = compute,
          .result = layout.dx_dtype,
          .packed_b = true,
          .accumulate = add,
          .lda = layout.dy_stride};
}

MatmulForm gradient_form(const WeightRef& weight, const WeightProducts::Layout& layout,
                         DType compute) {
  return {.n = weight.values.cols,
          .k = layout.tokens,
          .operands = compute,
          .result = DType::f32,
          .transpose_a = true,
          .accumulate = true,
          .lda = layout.dy_stride};
}

}  // namespace

WeightProducts::WeightProducts(WeightRef weight, const Layout& layout, Recorder& recorder)
    : weight_(weight),
      compute_(recorder.compute),
      forward_(recorder.products.get(forward_form(weight, layout, compute_))),
      backward_(recorder.products.get(backward_form(weight, layout, compute_, false))),
      gradient_(recorder.products.get(gradient_form(weight, layout, compute_), tile_rows())) {
  if (layout.dx_dtype == DType::f32)
    backward_adding_ = &recorder.products.get(backward_form(weight, layout, compute_, true));
  packed_forward_ = recorder.tape.scratch(forward_.packed_bytes(), Lifetime::forward);
  packed_backward_ = recorder.tape.scratch(backward_.packed_bytes(), Lifetime::backward);
}

void WeightProducts::pack(const Tape& tape, int thread) const {
  const Matmul& product = tape.in_backward() ? backward_ : forward_;
  product.pack(weight_.values.data,
               tape.memory(tape.in_backward() ? packed_backward_ : packed_forward_).data(), thread);
}

void WeightProducts::forward(const Tape& tape, const Rows& rows, const void* x, void* y) const {
  forward_.run(rows.count, x, tape.memory(packed_forward_).data(), y, rows.thread);
}

void WeightProducts::backward(const Tape& tape, const Rows& rows, const void* dy, void* dx,
                              bool add) const {
  const Matmul& product = add ? *backward_adding_ : backward_;
  product.run(rows.count, dy, tape.memory(packed_backward_).data(), dx, rows.thread);
}

void WeightProducts::gradient_tile(size_t tile, const void* dy, const void* x, int thread) const {
  const size_t begin = tile * tile_rows();
  const size_t rows = std::min(tile_rows(), weight_.values.rows - begin);
  const auto* columns = static_cast<const std::byte*>(dy) + begin * dtype_size(compute_);
  gradient_.run(rows, columns, x, weight_.gradient[begin].data, thread);
}

}  // namespace cairn
