// The matrices of all experts, stacked, as a mixture multiplies them: each packed for itself,
// blocks of one expert's rows at a time.
#pragma once

#include "cairn/autograd/operations.h"
#include "cairn/nn/moe_rows.h"

namespace cairn::moe {

// The products of a stack of matrices [experts * out, in]. Threads may take disjoint experts,
// blocks or tiles.
class StackProducts {
 public:
  StackProducts(const WeightRef& weight, size_t experts, Recorder& recorder);

  GradientRange block() const { return weight_.block; }
  void pack(const Tape& tape, size_t expert, bool wide, int thread) const;
  // y = x W_e^T in the compute type, or with `wide` in f32; as packed.
  void forward(const Tape& tape, size_t expert, bool wide, const AnyView2& x, const AnyView2& y,
               int thread) const;
  // dx = dy W_e in f32.
  void backward(const Tape& tape, size_t expert, const AnyView2& dy, const AnyView2& dx,
                int thread) const;
  // Of rows of a weight matrix, each of which one gradient unit owns.
  size_t tiles() const;
  // dW_e += dy^T x for one tile of rows.
  void gradient(size_t expert, size_t tile, const AnyView2& dy, const AnyView2& x,
                int thread) const;

 private:
  std::byte* packed(const Tape& tape, size_t expert) const;

  WeightRef weight_;
  size_t out_, bytes_ = 0;
  DType compute_;
  const Matmul *forward_, *forward_f32_, *backward_, *gradient_;
  Scratch packed_forward_, packed_backward_;
};

}  // namespace cairn::moe
