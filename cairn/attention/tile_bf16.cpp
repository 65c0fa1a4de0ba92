// Tile products and packing of bf16 pairs through AVX512-BF16. VDPBF16PS multiplies two pairs and
// adds both products to an f32 lane: twice the multiply-adds of f32 a cycle. The register block is
// that of tile_f32.cpp. Highway 1.0.3 has no name for the instruction, so these are whole functions
// with their own target attribute; the portable twin is the f32 kernel, which a test holds equal.

#include "cairn/attention/avx512_bf16.h"
#include "cairn/attention/tile.h"
#include "cairn/base/cpu.h"

namespace cairn {
namespace {

template <int R, int V>
CAIRN_AVX512_BF16_INLINE void product_block(const TileProduct& p, const uint32_t* __restrict a,
                                            const uint32_t* __restrict b, float* __restrict c) {
  __m512 sum[R][V];
  for (int i = 0; i < R; ++i)
    for (int j = 0; j < V; ++j)
      sum[i][j] = p.accumulate ? _mm512_load_ps(c + i * p.c_row + j * 16) : _mm512_setzero_ps();
  for (size_t k = 0; k < p.depth; ++k) {
    __m512i right[V];
    for (int j = 0; j < V; ++j) right[j] = _mm512_load_si512(b + k * p.b_depth + j * 16);
    for (int i = 0; i < R; ++i) {
      const __m512i left = _mm512_set1_epi32(static_cast<int>(a[i * p.a_row + k * p.a_depth]));
      for (int j = 0; j < V; ++j)
        sum[i][j] = _mm512_dpbf16_ps(sum[i][j], (__m512bh)left, (__m512bh)right[j]);
    }
  }
  for (int i = 0; i < R; ++i)
    for (int j = 0; j < V; ++j) _mm512_store_ps(c + i * p.c_row + j * 16, sum[i][j]);
}

template <int R, int V>
CAIRN_AVX512_BF16 __attribute__((noinline)) size_t product_rows(const TileProduct& p, size_t row,
                                                                size_t column) {
  const auto* a = static_cast<const uint32_t*>(p.a);
  const auto* b = static_cast<const uint32_t*>(p.b);
  for (; row + R <= p.rows; row += R)
    product_block<R, V>(p, a + row * p.a_row, b + column, p.c + row * p.c_row + column);
  return row;
}

template <int V>
void product_columns(const TileProduct& p, size_t column) {
  size_t row = product_rows<12, V>(p, 0, column);
  row = product_rows<8, V>(p, row, column);
  row = product_rows<4, V>(p, row, column);
  row = product_rows<2, V>(p, row, column);
  product_rows<1, V>(p, row, column);
}

void product(const TileProduct& p) {
  size_t column = 0;
  for (; column + 32 <= p.columns; column += 32) product_columns<2>(p, column);
  if (column < p.columns) product_columns<1>(p, column);
}

CAIRN_AVX512_BF16 void to_rows(const float* from, size_t dim, void* to) {
  auto* result = static_cast<uint16_t*>(to);
  const size_t width = padded_width(dim);
  for (size_t i = 0; i < kTile * width; i += 16)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(result + i),
                        (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(from + i)));
}

CAIRN_AVX512_BF16 void to_paired(const float* from, size_t dim, void* to) {
  auto* result = static_cast<uint32_t*>(to);
  const size_t width = padded_width(dim);
  for (size_t token = 0; token < kTile; token += 2) {
    const float* row = from + token * width;
    for (size_t i = 0; i < width; i += 16) {
      const __m512i halves = to_bf16(_mm512_loadu_ps(row + width + i), _mm512_loadu_ps(row + i));
      _mm512_storeu_si512(result + token / 2 * width + i, interleave_halves(halves));
    }
  }
}

// Transposes 16 x 16 words in registers: within pairs, then quadruples of words, then among the
// four 128-bit lanes of a register.
CAIRN_AVX512_BF16_INLINE void transpose_words(__m512i* r) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

CAIRN_AVX512_BF16 void to_columns(const float* from, size_t dim, void* to) {
  auto* result = static_cast<uint32_t*>(to);
  const size_t width = padded_width(dim), depth = (dim + 1) / 2;
  for (size_t token = 0; token < kTile; token += 16) {
    for (size_t word = 0; word < depth; word += 16) {
      __m512i block[16];
      for (size_t i = 0; i < 16; ++i) {
        const float* row = from + (token + i) * width + 2 * word;
        const bool whole = 2 * word + 32 <= width;
        const __m512 high = whole ? _mm512_loadu_ps(row + 16) : _mm512_setzero_ps();
        block[i] = to_bf16(high, _mm512_loadu_ps(row));
      }
      transpose_words(block);
      for (size_t i = 0; i < 16 && word + i < depth; ++i)
        _mm512_storeu_si512(result + (word + i) * kTile + token, block[i]);
    }
  }
}

constexpr TileKernel kTable{
    .name = "AVX512_BF16",
    .pair = 2,
    .product = product,
    .to_rows = to_rows,
    .to_columns = to_columns,
    .to_paired = to_paired,
};

}  // namespace

const TileKernel* bf16_tile_kernel() {
  return usable_isa() >= Isa::avx512_bf16 ? &kTable : nullptr;
}

}  // namespace cairn
