#include "cairn/attention/path/matrix.h"

namespace cairn {

void transpose_matrix(Right from, size_t rows, size_t columns, Result to) {
  constexpr size_t kSide = 8;  // both sides of a square of this size stay in L1
  for (size_t i0 = 0; i0 < rows; i0 += kSide) {
    const size_t i1 = std::min(rows, i0 + kSide);
    for (size_t j0 = 0; j0 < columns; j0 += kSide) {
      const size_t j1 = std::min(columns, j0 + kSide);
      for (size_t j = j0; j < j1; ++j)
        for (size_t i = i0; i < i1; ++i)
          to.data[j * to.stride + i] = from.data[i * from.stride + j];
    }
  }
}

}  // namespace cairn
