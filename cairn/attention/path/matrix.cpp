#include "cairn/attention/path/matrix.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/attention/path/matrix.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include "cairn/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

void transpose_scalar(const Right& from, size_t row, size_t rows, size_t column, size_t columns,
                      const Result& to) {
  for (size_t j = column; j < columns; ++j)
    for (size_t i = row; i < rows; ++i) to.data[j * to.stride + i] = from.data[i * from.stride + j];
}

#if HWY_TARGET == HWY_SCALAR
void transpose(Right from, size_t rows, size_t columns, Result to) {
  transpose_scalar(from, 0, rows, 0, columns, to);
}
#else
// Squares of four in registers: element pairs, then pairs of pairs.
void transpose(Right from, size_t rows, size_t columns, Result to) {
  const hn::FixedTag<float, 4> d;
  const hn::Repartition<double, decltype(d)> pairs;
  const auto cast = [&](auto v) { return hn::BitCast(pairs, v); };
  const size_t whole_rows = rows / 4 * 4, whole_columns = columns / 4 * 4;
  for (size_t i = 0; i < whole_rows; i += 4)
    for (size_t j = 0; j < whole_columns; j += 4) {
      const float* source = from.data + i * from.stride + j;
      const auto a = hn::LoadU(d, source), b = hn::LoadU(d, source + from.stride);
      const auto c = hn::LoadU(d, source + 2 * from.stride);
      const auto e = hn::LoadU(d, source + 3 * from.stride);
      const auto ab_low = cast(hn::InterleaveLower(d, a, b));
      const auto ab_high = cast(hn::InterleaveUpper(d, a, b));
      const auto ce_low = cast(hn::InterleaveLower(d, c, e));
      const auto ce_high = cast(hn::InterleaveUpper(d, c, e));
      float* target = to.data + j * to.stride + i;
      const auto store = [&](auto v, size_t row) {
        hn::StoreU(hn::BitCast(d, v), d, target + row * to.stride);
      };
      store(hn::InterleaveLower(pairs, ab_low, ce_low), 0);
      store(hn::InterleaveUpper(pairs, ab_low, ce_low), 1);
      store(hn::InterleaveLower(pairs, ab_high, ce_high), 2);
      store(hn::InterleaveUpper(pairs, ab_high, ce_high), 3);
    }
  transpose_scalar(from, whole_rows, rows, 0, columns, to);
  transpose_scalar(from, 0, whole_rows, whole_columns, columns, to);
}
#endif

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
HWY_EXPORT(transpose);

namespace {

struct Range {
  size_t begin, end;
};
// What quarter `quarter` of the rows needs of an axis of `size`.
Range range_of(Part part, size_t quarter, size_t size) {
  const size_t step = size / 4;
  return {part == Part::late ? quarter * step : 0,
          part == Part::early ? (quarter + 1) * step : size};
}

void multiply_quarters(const TileKernel& f32, ProductSize n, Parts parts, Left a, Right b, Result c,
                       bool add) {
  const size_t rows = n.rows / 4;
  for (size_t quarter = 0; quarter < 4; ++quarter) {
    const Range depth = range_of(parts.depth, quarter, n.depth);
    const Range columns = range_of(parts.columns, quarter, n.columns);
    const size_t row = quarter * rows;
    multiply_into(f32, {rows, columns.end - columns.begin, depth.end - depth.begin},
                  {a.data + row * a.row + depth.begin * a.depth, a.row, a.depth},
                  {b.data + depth.begin * b.stride + columns.begin, b.stride},
                  {c.data + row * c.stride + columns.begin, c.stride}, add);
  }
}

}  // namespace

void multiply_parts(const TileKernel& f32, ProductSize n, Parts parts, Left a, Right b, Result c) {
  multiply_quarters(f32, n, parts, a, b, c, false);
}

void multiply_add_parts(const TileKernel& f32, ProductSize n, Parts parts, Left a, Right b,
                        Result c) {
  multiply_quarters(f32, n, parts, a, b, c, true);
}

void transpose_matrix(Right from, size_t rows, size_t columns, Result to) {
  HWY_DYNAMIC_DISPATCH(transpose)(from, rows, columns, to);
}

}  // namespace cairn
#endif
