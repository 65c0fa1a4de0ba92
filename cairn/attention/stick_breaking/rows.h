// What follows the walk over the keys in each row: the remainder's vector, then the head norm.
// Internal to the room. Rows of one query head stand in tiles [rows][padded_width(value_dim)].
#pragma once

#include "cairn/attention/stick_breaking/core.h"
#include "cairn/attention/tile.h"

namespace cairn {

struct RowEnd {
  const StickBreaking& attention;
  AnyView3 v;
  const StickVectors<const float>& vectors;

  // tile[row] += remainder[row] * w. `token` of v is the first row's; `scratch` holds a tile.
  void add_remainder(size_t token, size_t rows, size_t head, const float* remainder, float* tile,
                     float* scratch) const;
  // The head norm in place, if there is one; what it reads goes to `unnormed` [rows][value_dim]
  // unless that is null.
  void normalize(size_t rows, size_t head, float* tile, float* unnormed) const;

  // Turns the gradient of normalize() into that of its input, in place. Sums for the gradients of
  // weight and bias [value_dim] are added to unless null.
  void normalize_backward(size_t rows, size_t head, const float* unnormed, float* tile,
                          double* dweight, double* dbias) const;
  // dremainder[row] += tile[row] . w, the gradient of the outputs being in `tile`.
  void remainder_backward(size_t token, size_t rows, size_t head, const float* tile,
                          double* dremainder, float* scratch) const;

 private:
  // The vector of the first row and the distance to the next one's; null for none.
  struct Vectors {
    const float* first = nullptr;
    size_t stride = 0;
  };
  Vectors vectors_of(size_t token, size_t rows, size_t head, float* scratch) const;
};

}  // namespace cairn
