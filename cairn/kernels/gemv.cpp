#include "cairn/kernels/gemv.h"

#include <algorithm>

#include "cairn/base/error.h"
#include "cairn/tensor/shape.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/kernels/gemv.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include <hwy/cache_control.h>

#include "cairn/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

// A tile of kRows x kTokens dot products, one vector accumulator each. One accumulator, and not
// several to be added at the end, is what makes the order of sums independent of the tile.
// With kFetch the rows of the next block are asked for meanwhile: rows are too short for the
// processor to see where the memory goes on.
template <size_t kRows, size_t kTokens, bool kFetch, class W>
HWY_INLINE void dot_tile(const W* w, size_t w_stride, const float* x, size_t x_stride, size_t cols,
                         float* y, size_t y_stride) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d), whole = cols - cols % lanes;
  FloatVector sums[kRows][kTokens];
  for (size_t r = 0; r < kRows; ++r)
    for (size_t t = 0; t < kTokens; ++t) sums[r][t] = hn::Zero(d);
  for (size_t k = 0; k < whole; k += lanes) {
    FloatVector in[kTokens];
    for (size_t t = 0; t < kTokens; ++t) in[t] = hn::LoadU(d, x + t * x_stride + k);
    for (size_t r = 0; r < kRows; ++r) {
      const FloatVector weight = load(d, w + r * w_stride + k);
      if constexpr (kFetch) hwy::Prefetch(w + (kRows + r) * w_stride + k);
      for (size_t t = 0; t < kTokens; ++t) sums[r][t] = hn::MulAdd(weight, in[t], sums[r][t]);
    }
  }
  for (size_t r = 0; r < kRows; ++r)
    for (size_t t = 0; t < kTokens; ++t) {
      float sum = hn::GetLane(hn::SumOfLanes(d, sums[r][t]));
      for (size_t k = whole; k < cols; ++k)
        sum += load_one(w + r * w_stride + k) * x[t * x_stride + k];
      y[t * y_stride + r] = sum;
    }
}

// kRows rows of w with all tokens: the rows stay in the first-level cache meanwhile.
template <size_t kRows, class W>
HWY_INLINE void row_block(const W* w, size_t w_stride, View2<const float> x, float* y,
                          size_t y_stride) {
  size_t t = 0;
  const auto tile = [&](auto tokens) {
    constexpr size_t kTokens = decltype(tokens)::value;
    const auto run = [&](auto fetch) {
      dot_tile<kRows, kTokens, decltype(fetch)::value>(w, w_stride, x.data + t * x.stride, x.stride,
                                                       x.cols, y + t * y_stride, y_stride);
      t += kTokens;
    };
    if (t == 0 && kTokens <= x.rows) run(std::true_type());
    while (t + kTokens <= x.rows) run(std::false_type());
  };
  // Accumulators, inputs and a weight must fit in the registers: 32 with AVX-512, 16 before.
  if constexpr (kRows <= 4 && HWY_TARGET == HWY_AVX3) tile(std::integral_constant<size_t, 4>());
  if constexpr (kRows <= 4) tile(std::integral_constant<size_t, 2>());
  tile(std::integral_constant<size_t, 1>());
}

template <class W>
void gemv_rows(View2<const W> w, View2<const float> x, View2<float> y) {
  size_t r = 0;
  const auto blocks = [&](auto rows) {
    constexpr size_t kRows = decltype(rows)::value;
    for (; r + kRows <= w.rows; r += kRows)
      row_block<kRows>(w.data + r * w.stride, w.stride, x, y.data + r, y.stride);
  };
  // Eight sums in flight hide the latency of the multiply-add when there is one token.
  if (x.rows == 1) blocks(std::integral_constant<size_t, 8>());
  blocks(std::integral_constant<size_t, 4>());
  blocks(std::integral_constant<size_t, 1>());
}

void gemv_f32(View2<const float> w, View2<const float> x, View2<float> y) {
  gemv_rows(w, x, y);
}
void gemv_bf16(View2<const bf16> w, View2<const float> x, View2<float> y) {
  gemv_rows(w, x, y);
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
HWY_EXPORT(gemv_f32);
HWY_EXPORT(gemv_bf16);

namespace {

constexpr size_t kChunkBytes = 32768;

template <class W>
void check(View2<const W> w, View2<const float> x, View2<float> y) {
  check_shape("gemv", "x", {x.rows, w.cols}, {x.rows, x.cols});
  check_shape("gemv", "y", {x.rows, w.rows}, {y.rows, y.cols});
}

// Rows a chunk: a multiple of 8, so that only the last chunk of a matrix has narrow tiles.
size_t chunk_rows(const AnyView2& w) {
  const size_t row_bytes = std::max<size_t>(1, w.cols * dtype_size(w.dtype));
  return std::max<size_t>(8, kChunkBytes / row_bytes / 8 * 8);
}

size_t chunks_of(const AnyView2& w) {
  return chunk_count(w.rows, chunk_rows(w));
}

void run_chunk(const GemvPart& part, size_t chunk, View2<const float> x) {
  const size_t grain = chunk_rows(part.w), begin = chunk * grain;
  const size_t rows = std::min(grain, part.w.rows - begin);
  const View2<float> y = part.y.cols_slice(begin, rows);
  if (part.w.dtype == DType::bf16)
    HWY_DYNAMIC_DISPATCH(gemv_bf16)(part.w.as<const bf16>().rows_slice(begin, rows), x, y);
  else
    HWY_DYNAMIC_DISPATCH(gemv_f32)(part.w.as<const float>().rows_slice(begin, rows), x, y);
}

void check(const GemvPart& part, View2<const float> x) {
  if (part.w.dtype == DType::bf16) return check(part.w.as<const bf16>(), x, part.y);
  if (part.w.dtype == DType::f32) return check(part.w.as<const float>(), x, part.y);
  throw Error({.kind = ErrorKind::usage,
               .doing = "gemv",
               .expected = "weights in f32 or bf16",
               .found = std::string(dtype_name(part.w.dtype))});
}

}  // namespace

void gemv(View2<const float> w, View2<const float> x, View2<float> y) {
  check(w, x, y);
  HWY_DYNAMIC_DISPATCH(gemv_f32)(w, x, y);
}

void gemv(View2<const bf16> w, View2<const float> x, View2<float> y) {
  check(w, x, y);
  HWY_DYNAMIC_DISPATCH(gemv_bf16)(w, x, y);
}

void gemv(std::span<const GemvPart> parts, View2<const float> x, ThreadTeam& team) {
  size_t chunks = 0;
  for (const GemvPart& part : parts) {
    check(part, x);
    chunks += chunks_of(part.w);
  }
  team.run(chunks, [&](size_t chunk, int /*thread*/) {
    for (const GemvPart& part : parts) {
      const size_t count = chunks_of(part.w);
      if (chunk < count) return run_chunk(part, chunk, x);
      chunk -= count;
    }
  });
}

}  // namespace cairn
#endif
