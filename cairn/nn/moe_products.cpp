#include "cairn/nn/moe_products.h"

#include <algorithm>

namespace cairn::moe {
namespace {

constexpr size_t kGradientRows = 128;  // of a tile

}  // namespace

StackProducts::StackProducts(const WeightRef& weight, size_t experts, Recorder& recorder)
    : weight_(weight), out_(weight.values.rows / experts), compute_(recorder.compute) {
  const size_t in = weight.values.cols;
  forward_ = &recorder.products.get({.n = out_,
                                     .k = in,
                                     .operands = compute_,
                                     .result = compute_,
                                     .transpose_b = true,
                                     .packed_b = true},
                                    kBlock);
  forward_f32_ = &recorder.products.get(
      {.n = out_, .k = in, .operands = compute_, .transpose_b = true, .packed_b = true}, kBlock);
  backward_ =
      &recorder.products.get({.n = in, .k = out_, .operands = compute_, .packed_b = true}, kBlock);
  gradient_ = &recorder.products.get({.n = in,
                                      .k = kBlock,
                                      .operands = compute_,
                                      .transpose_a = true,
                                      .accumulate = true,
                                      .lda = out_});
  bytes_ = std::max(std::max(forward_->packed_bytes(), forward_f32_->packed_bytes()),
                    backward_->packed_bytes());
  packed_forward_ = recorder.tape.scratch(experts * bytes_, Lifetime::forward);
  packed_backward_ = recorder.tape.scratch(experts * bytes_, Lifetime::backward);
}

void StackProducts::pack(const Tape& tape, size_t expert, bool wide, int thread) const {
  const Matmul& product = tape.in_backward() ? *backward_ : wide ? *forward_f32_ : *forward_;
  product.pack(weight_.values[expert * out_].data, packed(tape, expert), thread);
}

void StackProducts::forward(const Tape& tape, size_t expert, bool wide, const AnyView2& x,
                            const AnyView2& y, int thread) const {
  (wide ? forward_f32_ : forward_)->run(kBlock, x.data, packed(tape, expert), y.data, thread);
}

void StackProducts::backward(const Tape& tape, size_t expert, const AnyView2& dy,
                             const AnyView2& dx, int thread) const {
  backward_->run(kBlock, dy.data, packed(tape, expert), dx.data, thread);
}

size_t StackProducts::tiles() const {
  return chunk_count(out_, kGradientRows);
}

void StackProducts::gradient(size_t expert, size_t tile, const AnyView2& dy, const AnyView2& x,
                             int thread) const {
  const size_t begin = tile * kGradientRows;
  gradient_->run(std::min(kGradientRows, out_ - begin), at(dy, 0, begin), x.data,
                 weight_.gradient[expert * out_ + begin].data, thread);
}

std::byte* StackProducts::packed(const Tape& tape, size_t expert) const {
  return tape.memory(tape.in_backward() ? packed_backward_ : packed_forward_).data() +
         expert * bytes_;
}

}  // namespace cairn::moe
