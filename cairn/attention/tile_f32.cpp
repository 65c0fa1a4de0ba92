// Tile products and packing through Highway.
//
// The product keeps a block of C in registers: R rows by two vectors of columns. Per step of the
// summed axis that is R broadcasts of A, two loads of B and 2 R multiply-adds; with R = 12 on
// AVX-512 (24 accumulators of 32 registers) there are 14 loads for 24 multiply-adds, and 24
// independent sums hide the latency of four cycles on two units. AVX2 has 16 registers: R = 6.

#include <algorithm>
#include <cstring>

#include "cairn/attention/rotary.h"
#include "cairn/attention/tile.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/attention/tile_f32.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include "cairn/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

#if HWY_TARGET <= HWY_AVX3
constexpr int kBlockRows = 12;
#else
constexpr int kBlockRows = 6;
#endif

// Accumulators as an array that the compiler keeps in registers because all loops have constant
// length.
template <int R, int V>
HWY_INLINE void product_block(const TileProduct& p, const float* HWY_RESTRICT a,
                              const float* HWY_RESTRICT b, float* HWY_RESTRICT c) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  FloatVector sum[R][V];
  for (int i = 0; i < R; ++i)
    for (int j = 0; j < V; ++j)
      sum[i][j] = p.accumulate ? hn::Load(d, c + i * p.c_row + j * lanes) : hn::Zero(d);
  for (size_t k = 0; k < p.depth; ++k) {
    FloatVector right[V];
    for (int j = 0; j < V; ++j) right[j] = hn::Load(d, b + k * p.b_depth + j * lanes);
    for (int i = 0; i < R; ++i) {
      const FloatVector left = hn::Set(d, a[i * p.a_row + k * p.a_depth]);
      for (int j = 0; j < V; ++j) sum[i][j] = hn::MulAdd(left, right[j], sum[i][j]);
    }
  }
  for (int i = 0; i < R; ++i)
    for (int j = 0; j < V; ++j) hn::Store(sum[i][j], d, c + i * p.c_row + j * lanes);
}

template <int R, int V>
HWY_NOINLINE size_t product_rows(const TileProduct& p, size_t row, size_t column) {
  const auto* a = static_cast<const float*>(p.a);
  const auto* b = static_cast<const float*>(p.b);
  for (; row + R <= p.rows; row += R)
    product_block<R, V>(p, a + row * p.a_row, b + column, p.c + row * p.c_row + column);
  return row;
}

template <int V>
void product_columns(const TileProduct& p, size_t column) {
  size_t row = product_rows<kBlockRows, V>(p, 0, column);
  if constexpr (kBlockRows > 8) row = product_rows<8, V>(p, row, column);
  row = product_rows<4, V>(p, row, column);
  row = product_rows<2, V>(p, row, column);
  product_rows<1, V>(p, row, column);
}

void product(const TileProduct& p) {
  const size_t lanes = hn::Lanes(FloatTag());
  size_t column = 0;
  for (; column + 2 * lanes <= p.columns; column += 2 * lanes) product_columns<2>(p, column);
  if (column < p.columns) product_columns<1>(p, column);
}

void copy_rows(const float* from, size_t dim, void* to) {
  std::memcpy(to, from, kTile * padded_width(dim) * sizeof(float));
}

void transpose(const float* from, size_t dim, void* to) {
  auto* result = static_cast<float*>(to);
  const size_t width = padded_width(dim);
  for (size_t token = 0; token < kTile; ++token)
    for (size_t i = 0; i < dim; ++i) result[i * kTile + token] = from[token * width + i];
}

// One pair of vectors turned by the angle that `coarse` and `fine` add up to; direction -1 turns
// back.
struct Turn {
  const float* coarse;
  const float* fine;
  size_t half;
  float direction;
};

template <class V, class D>
HWY_INLINE void turn(const Turn& by, D d, size_t i, V& low, V& high) {
  const V cos_a = hn::LoadU(d, by.coarse + i), sin_a = hn::LoadU(d, by.coarse + by.half + i);
  const V cos_b = hn::LoadU(d, by.fine + i), sin_b = hn::LoadU(d, by.fine + by.half + i);
  const V cos = hn::NegMulAdd(sin_a, sin_b, hn::Mul(cos_a, cos_b));
  const V sin = hn::Mul(hn::Set(d, by.direction), hn::MulAdd(sin_a, cos_b, hn::Mul(cos_a, sin_b)));
  const V x = low, y = high;
  low = hn::NegMulAdd(y, sin, hn::Mul(x, cos));
  high = hn::MulAdd(x, sin, hn::Mul(y, cos));
}

HWY_INLINE Turn turn_of(const RotaryRows& rotary, size_t row, float direction) {
  const auto position = static_cast<size_t>(rotary.positions[row]);
  return {rotary.table->coarse(position), rotary.table->fine(position), rotary.table->dim() / 2,
          direction};
}

HWY_INLINE void turn_one(const Turn& by, size_t i, float& low, float& high) {
  const float* a = by.coarse + i;
  const float* b = by.fine + i;
  const float cos = a[0] * b[0] - a[by.half] * b[by.half];
  const float sin = by.direction * (a[by.half] * b[0] + a[0] * b[by.half]);
  const float x = low, y = high;
  low = x * cos - y * sin;
  high = y * cos + x * sin;
}

template <class From, class To>
HWY_INLINE void rotate_row(const From* from, float scale, const Turn& by, To* to) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d), half = by.half;
  const auto factor = hn::Set(d, scale);
  size_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    auto low = hn::Mul(load(d, from + i), factor), high = hn::Mul(load(d, from + half + i), factor);
    turn(by, d, i, low, high);
    store(low, d, to + i);
    store(high, d, to + half + i);
  }
  for (; i < half; ++i) {
    float low = load_one(from + i) * scale, high = load_one(from + half + i) * scale;
    turn_one(by, i, low, high);
    store_one(low, to + i);
    store_one(high, to + half + i);
  }
}

template <class From, class To>
HWY_INLINE void copy_row(const From* from, float scale, size_t n, To* to) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  const auto factor = hn::Set(d, scale);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) store(hn::Mul(load(d, from + i), factor), d, to + i);
  for (; i < n; ++i) store_one(load_one(from + i) * scale, to + i);
}

constexpr size_t kAhead = 8;  // rows to prefetch

template <class T>
void load_rows(View2<const T> from, RotaryRows rotary, float* to) {
  const size_t width = padded_width(from.cols);
  for (size_t row = 0; row < from.rows; ++row) {
    const T* source = from.data + row * from.stride;
    float* target = to + row * width;
    // Rows of one head lie far apart, each too short for the hardware to guess the next.
    if (row + kAhead < from.rows)
      for (size_t i = 0; i < from.cols; i += 64 / sizeof(T))
        __builtin_prefetch(source + kAhead * from.stride + i);
    size_t turned = 0;
    if (rotary.table != nullptr) {
      rotate_row(source, 1.0F, turn_of(rotary, row, 1.0F), target);
      turned = rotary.table->dim();
    }
    copy_row(source + turned, 1.0F, from.cols - turned, target + turned);
    std::fill(target + from.cols, target + width, 0.0F);
  }
  std::fill(to + from.rows * width, to + kTile * width, 0.0F);
}

template <class T>
void unload_rows(const float* from, float scale, RotaryRows rotary, View2<T> to) {
  const size_t width = padded_width(to.cols);
  for (size_t row = 0; row < to.rows; ++row) {
    const float* source = from + row * width;
    T* target = to.data + row * to.stride;
    size_t turned = 0;
    if (rotary.table != nullptr) {
      rotate_row(source, scale, turn_of(rotary, row, -1.0F), target);
      turned = rotary.table->dim();
    }
    copy_row(source + turned, scale, to.cols - turned, target + turned);
  }
}

template <class T>
void dot_rows(View2<const T> a, View2<const T> b, float* result) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  for (size_t row = 0; row < a.rows; ++row) {
    const T* x = a.data + row * a.stride;
    const T* y = b.data + row * b.stride;
    auto sums = hn::Zero(d);
    size_t i = 0;
    for (; i + lanes <= a.cols; i += lanes) sums = hn::MulAdd(load(d, x + i), load(d, y + i), sums);
    float sum = hn::GetLane(hn::SumOfLanes(d, sums));
    for (; i < a.cols; ++i) sum += load_one(x + i) * load_one(y + i);
    result[row] = sum;
  }
}

void load_any(AnyView2 from, RotaryRows rotary, float* to) {
  if (from.dtype == DType::bf16)
    load_rows(from.as<const bf16>(), rotary, to);
  else
    load_rows(from.as<const float>(), rotary, to);
}

void unload_any(const float* from, float scale, RotaryRows rotary, AnyView2 to) {
  if (to.dtype == DType::bf16)
    unload_rows(from, scale, rotary, to.as<bf16>());
  else
    unload_rows(from, scale, rotary, to.as<float>());
}

void dot_any(AnyView2 a, AnyView2 b, float* result) {
  if (a.dtype == DType::bf16)
    dot_rows(a.as<const bf16>(), b.as<const bf16>(), result);
  else
    dot_rows(a.as<const float>(), b.as<const float>(), result);
}

const TileKernel& kernel_table() {
  static const TileKernel table{
      .name = hwy::TargetName(HWY_TARGET),
      .pair = 1,
      .product = product,
      .to_rows = copy_rows,
      .to_columns = transpose,
      .to_paired = copy_rows,
  };
  return table;
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
HWY_EXPORT(kernel_table);
HWY_EXPORT(load_any);
HWY_EXPORT(unload_any);
HWY_EXPORT(dot_any);

const TileKernel& f32_tile_kernel() {
  return HWY_DYNAMIC_DISPATCH(kernel_table)();
}

const TileKernel& tile_kernel_for(DType dtype) {
  const TileKernel* paired = dtype == DType::bf16 ? bf16_tile_kernel() : nullptr;
  return paired != nullptr ? *paired : f32_tile_kernel();
}

void load_tile(AnyView2 from, RotaryRows rotary, float* to) {
  HWY_DYNAMIC_DISPATCH(load_any)(from, rotary, to);
}

void unload_tile(const float* from, float scale, RotaryRows rotary, AnyView2 to) {
  HWY_DYNAMIC_DISPATCH(unload_any)(from, scale, rotary, to);
}

void dot_tile_rows(AnyView2 a, AnyView2 b, float* result) {
  HWY_DYNAMIC_DISPATCH(dot_any)(a, b, result);
}

}  // namespace cairn
#endif
