// The three products of one weight matrix W [out, in] in training:
//   forward   Y = X W^T          backward  dX = dY W          gradient  dW += dY^T X
// with W kept twice in the packed layouts that forward and backward like.
#pragma once

#include "cairn/autograd/operations.h"

namespace cairn {

class WeightProducts {
 public:
  // How Y and dX lie in memory: columns of a wider array (strides in elements), and their types.
  struct Layout {
    size_t y_stride = 0;
    size_t dy_stride = 0;
    DType y_dtype = DType::f32;
    DType dx_dtype = DType::f32;
    bool y_adds = false;  // Y += X W^T
    size_t tokens = 0;    // summed over by the gradient
  };
  WeightProducts(WeightRef weight, const Layout& layout, Recorder& recorder);

  void forward(size_t rows, const void* x, void* y, int thread) const;
  // `add`: dX += dY W; only where dX is f32.
  void backward(size_t rows, const void* dy, void* dx, bool add, int thread) const;
  // The gradient is cut into tiles of kTile rows of W.
  static constexpr size_t kTile = 128;
  size_t gradient_tiles() const { return chunk_count(weight_.values.rows, kTile); }
  // dy and x begin at their first column and row of all tokens.
  void gradient_tile(size_t tile, const void* dy, const void* x, int thread) const;

  size_t packed_bytes() const;
  void allocate();
  void pack_forward();
  void pack_backward();

 private:
  WeightRef weight_;
  DType compute_;
  const Matmul& forward_;
  const Matmul& backward_;
  const Matmul* backward_adding_ = nullptr;
  const Matmul& gradient_;
  AlignedBuffer packed_forward_, packed_backward_;
};

}  // namespace cairn
