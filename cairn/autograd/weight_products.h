// The three products of one weight matrix W [out, in] in training:
//   forward   Y = X W^T          backward  dX = dY W          gradient  dW += dY^T X
// with W packed before each pass into the layout that its product likes.
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
  // Belongs to the operation that is recorded next.
  WeightProducts(WeightRef weight, const Layout& layout, Recorder& recorder);

  // Packs W for the pass that the tape is in; the rows of that pass follow.
  void pack(const Tape& tape, int thread) const;
  void forward(const Tape& tape, const Rows& rows, const void* x, void* y) const;
  // `add`: dX += dY W; only where dX is f32.
  void backward(const Tape& tape, const Rows& rows, const void* dy, void* dx, bool add) const;
  // The gradient is cut into tiles of rows of W.
  GradientRange block() const { return weight_.block; }
  size_t gradient_tiles() const { return chunk_count(weight_.values.rows, tile_rows()); }
  // dy and x begin at their first column and row of all tokens.
  void gradient_tile(size_t tile, const void* dy, const void* x, int thread) const;

 private:
  size_t tile_rows() const { return Matmul::gradient_rows(weight_.values.rows); }

  WeightRef weight_;
  DType compute_;
  const Matmul& forward_;
  const Matmul& backward_;
  const Matmul* backward_adding_ = nullptr;
  const Matmul& gradient_;
  Scratch packed_forward_, packed_backward_;
};

}  // namespace cairn
