// Small row-major f32 matrices in scratch memory, on top of the f32 tile product. Rows are padded
// to multiples of kWidth and begin on 64-byte boundaries. Internal to the room.
#pragma once

#include <algorithm>
#include <cstddef>

#include "cairn/attention/tile.h"

namespace cairn {

// A left operand: element (i, k) at data[i * row + k * depth].
struct Left {
  const float* data;
  size_t row, depth;
};
inline Left plain(const float* data, size_t stride) {
  return {data, stride, 1};
}
inline Left transposed(const float* data, size_t stride) {
  return {data, 1, stride};
}

// Rows of floats: a right operand or a result.
struct Right {
  const float* data;
  size_t stride;
};
struct Result {
  float* data;
  size_t stride;
};

struct ProductSize {
  size_t rows, columns, depth;
};

inline void multiply_into(const TileKernel& f32, ProductSize n, Left a, Right b, Result c,
                          bool add) {
  f32.product({.rows = n.rows,
               .columns = n.columns,
               .depth = n.depth,
               .a = a.data,
               .a_row = a.row,
               .a_depth = a.depth,
               .b = b.data,
               .b_depth = b.stride,
               .c = c.data,
               .c_row = c.stride,
               .accumulate = add});
}
// c = a b and c += a b.
inline void multiply(const TileKernel& f32, ProductSize n, Left a, Right b, Result c) {
  multiply_into(f32, n, a, b, c, false);
}
inline void multiply_add(const TileKernel& f32, ProductSize n, Left a, Right b, Result c) {
  multiply_into(f32, n, a, b, c, true);
}

// Of products along the tokens of a tile much is known to be zero, or not wanted. Their axes of
// tokens (or of the maps of tokens) are cut into quarters; quarter r of the rows needs of another
// such axis all quarters, the quarters up to its own or those from its own on.
enum class Part { all, early, late };
struct Parts {
  Part depth = Part::all, columns = Part::all;
};
// c = a b and c += a b for the wanted parts; the others of c are neither read nor written. n.rows
// and every axis that is cut are multiples of 4 * kWidth.
void multiply_parts(const TileKernel& f32, ProductSize n, Parts parts, Left a, Right b, Result c);
void multiply_add_parts(const TileKernel& f32, ProductSize n, Parts parts, Left a, Right b,
                        Result c);

// to[j][i] = from[i][j] for rows x columns of `from`.
void transpose_matrix(Right from, size_t rows, size_t columns, Result to);
// m += the identity of size n.
inline void add_identity(Result m, size_t n) {
  for (size_t i = 0; i < n; ++i) m.data[i * m.stride + i] += 1.0F;
}
inline void add_to(const float* from, size_t n, float* to) {
  for (size_t i = 0; i < n; ++i) to[i] += from[i];
}

}  // namespace cairn
