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
      gradient_(recorder.products.get(gradient_form(weight, layout, compute_))) {
  if (layout.dx_dtype == DType::f32)
    backward_adding_ = &recorder.products.get(backward_form(weight, layout, compute_, true));
}

void WeightProducts::forward(size_t rows, const void* x, void* y, int thread) const {
  forward_.run(rows, x, packed_forward_.data(), y, thread);
}

void WeightProducts::backward(size_t rows, const void* dy, void* dx, bool add, int thread) const {
  (add ? *backward_adding_ : backward_).run(rows, dy, packed_backward_.data(), dx, thread);
}

void WeightProducts::gradient_tile(size_t tile, const void* dy, const void* x, int thread) const {
  const size_t begin = tile * kTile;
  const size_t rows = std::min(kTile, weight_.values.rows - begin);
  const auto* columns = static_cast<const std::byte*>(dy) + begin * dtype_size(compute_);
  gradient_.run(rows, columns, x, weight_.gradient[begin].data, thread);
}

size_t WeightProducts::packed_bytes() const {
  return forward_.packed_bytes() + backward_.packed_bytes();
}

void WeightProducts::allocate() {
  packed_forward_ = AlignedBuffer(forward_.packed_bytes());
  packed_backward_ = AlignedBuffer(backward_.packed_bytes());
}

void WeightProducts::pack_forward() {
  forward_.pack(weight_.values.data, packed_forward_.data());
}
void WeightProducts::pack_backward() {
  backward_.pack(weight_.values.data, packed_backward_.data());
}

}  // namespace cairn
