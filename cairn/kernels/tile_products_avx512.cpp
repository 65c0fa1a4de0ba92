// The products with AVX-512 VNNI and BF16. A register holds four inputs of each of 16 rows, and
// VPDPBUSD adds the products of unsigned codes and the signed bytes of one token, which are
// broadcast from memory. The codes of a block are unpacked once, then every token takes eight such
// products, one conversion and one or two multiply-adds.
//
// Highway has no names for these instructions: whole functions with their own target.
#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "cairn/kernels/tile_kernels.h"
#include "cairn/kernels/tile_target.h"

#define CAIRN_TARGET                                                              \
  __attribute__((                                                                 \
      target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx512vnni,avx512bf16," \
             "avx2,fma,f16c,bmi2")))

namespace cairn {
namespace {

// Bytes of the stream for each 32 inputs, rounded up.
constexpr size_t stream_bytes(TileKind kind) {
  const TileLayout layout = tile_layout(kind);
  const size_t blocks = layout.unit_inputs / kTileInputs;
  return (layout.header_bytes + layout.body_bytes() + blocks - 1) / blocks;
}

template <size_t kBytes>
CAIRN_INLINE void fetch_ahead(FetchCursor& fetch) {
  CAIRN_UNROLL
  for (size_t i = 0; i < kBytes; i += 64)
    _mm_prefetch(reinterpret_cast<const char*>(fetch.at + i), _MM_HINT_T0);
  fetch.at += kBytes;
  if (fetch.at >= fetch.end) {
    fetch.at = fetch.next;
    fetch.end = fetch.next_end;
  }
}

CAIRN_INLINE __m512 load_halves(const uint8_t* from) {
  return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(from)));
}
CAIRN_INLINE __m512 widen_bytes(__m128i bytes) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
}
CAIRN_INLINE __m512 widen_signed_bytes(__m128i bytes) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}
CAIRN_INLINE __m512i broadcast_int(const void* from) {
  int32_t value = 0;
  __builtin_memcpy(&value, from, 4);
  return _mm512_set1_epi32(value);
}

// Vectors 0 to 7 of a block (kernels/tile_layout.h).
template <TileKind kKind>
CAIRN_INLINE void load_codes(const uint8_t* block, __m512i (&codes)[8]) {
  constexpr TileLayout kLayout = tile_layout(kKind);
  if constexpr (kKind == TileKind::t8) {
    CAIRN_UNROLL
    for (size_t v = 0; v < 8; ++v) codes[v] = _mm512_load_si512(block + 64 * v);
  }
  if constexpr (kLayout.nibbles != 0) {
    const __m512i nibble = _mm512_set1_epi8(15);
    CAIRN_UNROLL
    for (size_t j = 0; j < 4; ++j) {
      const __m512i both = _mm512_load_si512(block + 64 * j);
      codes[2 * j] = _mm512_and_si512(both, nibble);
      codes[2 * j + 1] = _mm512_and_si512(_mm512_srli_epi32(both, 4), nibble);
    }
  }
  if constexpr (kLayout.pair_shift >= 0) {
    // (shifted & mask) | code in one instruction: truth table 0xea.
    const __m512i mask = _mm512_set1_epi8(3 << kLayout.pair_shift);
    CAIRN_UNROLL
    for (int v = 0; v < 8; ++v) {
      const int right = 2 * (v % 4) - kLayout.pair_shift;
      const __m512i pairs = _mm512_load_si512(block + kLayout.pairs_at() + 64 * (v / 4));
      const __m512i shifted = right >= 0 ? _mm512_srli_epi32(pairs, static_cast<unsigned>(right))
                                         : _mm512_slli_epi32(pairs, static_cast<unsigned>(-right));
      codes[v] = kLayout.nibbles != 0 ? _mm512_ternarylogic_epi32(shifted, mask, codes[v], 0xea)
                                      : _mm512_and_si512(shifted, mask);
    }
  }
  if constexpr (kLayout.bit_shift >= 0) {
    const __m512i bit = _mm512_set1_epi8(1 << kLayout.bit_shift);
    CAIRN_UNROLL
    for (size_t v = 0; v < 8; ++v) {
      uint64_t mask = 0;
      __builtin_memcpy(&mask, block + kLayout.bits_at() + 8 * v, 8);
      codes[v] = _mm512_mask_add_epi8(codes[v], mask, codes[v], bit);
    }
  }
}

// What turns the sums of a block into weights' units: scales of its (first and last 16) inputs and
// offsets, already with their sign.
struct BlockScales {
  __m512 first, last, first_offset, last_offset;
};

// d and offset: of the unit; fine: the unit's scales; b: the block in it.
template <TileKind kKind>
CAIRN_INLINE BlockScales block_scales(__m512 d, __m512 offset, const uint8_t* fine, size_t b) {
  BlockScales s{d, d, offset, offset};
  if constexpr (tile_layout(kKind).scale_bytes == 0) return s;
  const auto* bytes = reinterpret_cast<const __m128i*>(fine) + 2 * b;
  const __m128i one = _mm_load_si128(bytes), two = _mm_load_si128(bytes + 1);
  const __m512 minus = _mm512_sub_ps(_mm512_setzero_ps(), offset);
  if constexpr (kKind == TileKind::t4k || kKind == TileKind::t5k) {
    s.first = _mm512_mul_ps(d, widen_bytes(one));
    s.first_offset = _mm512_mul_ps(minus, widen_bytes(two));
  } else if constexpr (kKind == TileKind::t2k) {
    const __m128i low = _mm_set1_epi8(15);
    s.first = _mm512_mul_ps(d, widen_bytes(_mm_and_si128(one, low)));
    s.last = _mm512_mul_ps(d, widen_bytes(_mm_and_si128(two, low)));
    s.first_offset = _mm512_mul_ps(minus, widen_bytes(_mm_and_si128(_mm_srli_epi16(one, 4), low)));
    s.last_offset = _mm512_mul_ps(minus, widen_bytes(_mm_and_si128(_mm_srli_epi16(two, 4), low)));
  } else {
    s.first = _mm512_mul_ps(d, widen_signed_bytes(one));
    s.last = _mm512_mul_ps(d, widen_signed_bytes(two));
  }
  return s;
}

// Where integer sums begin: at minus the code of weight 0 times the bytes' sum.
template <TileKind kKind>
CAIRN_INLINE __m512i start_of(const ByteRecord& x) {
  if constexpr (kKind == TileKind::t4s) return _mm512_set1_epi32(x.minus_8);
  if constexpr (kKind == TileKind::t5s) return _mm512_slli_epi32(_mm512_set1_epi32(x.minus_8), 1);
  if constexpr (kKind == TileKind::t8) return _mm512_set1_epi32(x.minus_128);
  return _mm512_setzero_si512();
}
template <TileKind kKind>
CAIRN_INLINE __m512i start_of_half(int32_t minus_sum) {
  if constexpr (kKind == TileKind::t3k) return _mm512_slli_epi32(_mm512_set1_epi32(minus_sum), 2);
  if constexpr (kKind == TileKind::t6k) return _mm512_slli_epi32(_mm512_set1_epi32(minus_sum), 5);
  return _mm512_setzero_si512();
}

template <size_t kFirst, size_t kLast>
CAIRN_INLINE __m512i dot(const __m512i (&codes)[8], const ByteRecord& x, __m512i sum) {
  CAIRN_UNROLL
  for (size_t v = kFirst; v < kLast; ++v)
    sum = _mm512_dpbusd_epi32(sum, codes[v], broadcast_int(x.q + 4 * v));
  return sum;
}

// One block of one token added to its sums.
template <TileKind kKind>
CAIRN_INLINE __m512 add_block(const __m512i (&codes)[8], const BlockScales& s, const ByteRecord& x,
                              __m512 sum) {
  if constexpr (has_two_scales(kKind)) {
    const __m512i first = dot<0, 4>(codes, x, start_of_half<kKind>(x.minus_low));
    const __m512i last = dot<4, 8>(codes, x, start_of_half<kKind>(x.minus_high));
    const __m512 scaled = _mm512_fmadd_ps(_mm512_cvtepi32_ps(last), s.last,
                                          _mm512_mul_ps(_mm512_cvtepi32_ps(first), s.first));
    sum = _mm512_fmadd_ps(scaled, _mm512_set1_ps(x.scale), sum);
  } else {
    // Two sums, so that a short pass does not wait for the latency of eight products.
    const __m512i all = _mm512_add_epi32(dot<0, 4>(codes, x, start_of<kKind>(x)),
                                         dot<4, 8>(codes, x, _mm512_setzero_si512()));
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(all), _mm512_mul_ps(s.first, _mm512_set1_ps(x.scale)),
                          sum);
  }
  if constexpr (kKind == TileKind::t2k) {
    sum = _mm512_fmadd_ps(s.first_offset, _mm512_set1_ps(x.scaled_low), sum);
    sum = _mm512_fmadd_ps(s.last_offset, _mm512_set1_ps(x.scaled_high), sum);
  } else if constexpr (has_offset(kKind)) {
    sum = _mm512_fmadd_ps(s.first_offset, _mm512_set1_ps(x.scaled_sum), sum);
  }
  return sum;
}

// One row group of quantised weights.
template <TileKind kKind, size_t kTokens>
CAIRN_INLINE void sum_group(const uint8_t* group, const ByteRecord* x, size_t units,
                            FetchCursor& fetch, __m512 (&sums)[kTokens]) {
  constexpr TileLayout kLayout = tile_layout(kKind);
  for (size_t u = 0; u < units; ++u) {
    const uint8_t* header = group + kLayout.header_at(u);
    const uint8_t* body = group + kLayout.body_at(u);
    const __m512 d = load_halves(header);
    const __m512 offset = has_offset(kKind) ? load_halves(header + 32) : _mm512_setzero_ps();
    const uint8_t* block = body + kLayout.scale_bytes;
    for (size_t b = 0; b < kLayout.unit_inputs / kTileInputs; ++b) {
      fetch_ahead<stream_bytes(kKind)>(fetch);
      __m512i codes[8];
      load_codes<kKind>(block, codes);
      const BlockScales scales = block_scales<kKind>(d, offset, body, b);
      CAIRN_UNROLL
      for (size_t t = 0; t < kTokens; ++t) sums[t] = add_block<kKind>(codes, scales, x[t], sums[t]);
      block += kLayout.block_bytes;
      x += kTokens;
    }
  }
}

// One row group of plain weights: two sums a token, of even and of odd inputs or pairs, so that
// multiply-adds overlap when there is one token.
template <TileKind kKind, size_t kTokens>
CAIRN_INLINE void sum_plain_group(const uint8_t* group, const uint8_t* x, size_t blocks,
                                  FetchCursor& fetch, __m512 (&sums)[kTokens]) {
  constexpr size_t kRecord = activation_record_bytes(tile_activation(kKind));
  constexpr size_t kSteps = kKind == TileKind::tb16 ? 8 : 16;  // two lines, or two inputs each
  constexpr size_t kStep = tile_layout(kKind).block_bytes / kSteps;
  __m512 odd[kTokens];
  CAIRN_UNROLL
  for (size_t t = 0; t < kTokens; ++t) odd[t] = _mm512_setzero_ps();
  for (size_t b = 0; b < blocks; ++b, x += kTokens * kRecord)
    for (size_t i = 0; i < kSteps; ++i, group += kStep) {
      fetch_ahead<kStep>(fetch);
      const uint8_t* in = x + 8 * i;
      if constexpr (kKind == TileKind::tb16) {
        const auto w = reinterpret_cast<__m512bh>(_mm512_load_si512(group));
        const auto v = reinterpret_cast<__m512bh>(_mm512_load_si512(group + 64));
        CAIRN_UNROLL
        for (size_t t = 0; t < kTokens; ++t) {
          const auto one = reinterpret_cast<__m512bh>(broadcast_int(in + t * kRecord));
          const auto two = reinterpret_cast<__m512bh>(broadcast_int(in + t * kRecord + 4));
          sums[t] = _mm512_dpbf16_ps(sums[t], w, one);
          odd[t] = _mm512_dpbf16_ps(odd[t], v, two);
        }
      } else {
        constexpr bool kHalf = kKind == TileKind::tf16;
        const __m512 w = kHalf ? load_halves(group) : _mm512_load_ps(group);
        const __m512 v = kHalf ? load_halves(group + 32) : _mm512_load_ps(group + 64);
        CAIRN_UNROLL
        for (size_t t = 0; t < kTokens; ++t) {
          const auto one = _mm512_castsi512_ps(broadcast_int(in + t * kRecord));
          const auto two = _mm512_castsi512_ps(broadcast_int(in + t * kRecord + 4));
          sums[t] = _mm512_fmadd_ps(w, one, sums[t]);
          odd[t] = _mm512_fmadd_ps(v, two, odd[t]);
        }
      }
    }
  CAIRN_UNROLL
  for (size_t t = 0; t < kTokens; ++t) sums[t] = _mm512_add_ps(sums[t], odd[t]);
}

// kCols: of the weights; 0: as the call says.
template <TileKind kKind, size_t kTokens, size_t kCols = 0>
CAIRN_TARGET void multiply(const TileCall& call) {
  constexpr TileLayout kLayout = tile_layout(kKind);
  const size_t cols = kCols != 0 ? kCols : call.cols;
  const size_t units = (cols + kLayout.unit_inputs - 1) / kLayout.unit_inputs;
  const size_t group_bytes = kLayout.group_bytes(units);
  FetchCursor fetch = call.fetch;
  const uint8_t* group = call.tiles;
  for (size_t row = 0; row < call.rows; row += kTileRows, group += group_bytes) {
    __m512 sums[kTokens];
    CAIRN_UNROLL
    for (size_t t = 0; t < kTokens; ++t) sums[t] = _mm512_setzero_ps();
    if constexpr (kLayout.header_bytes == 0)
      sum_plain_group<kKind>(group, call.records, units, fetch, sums);
    else
      sum_group<kKind>(group, reinterpret_cast<const ByteRecord*>(call.records), units, fetch,
                       sums);
    const size_t rows = std::min(kTileRows, call.rows - row);
    const auto mask = static_cast<__mmask16>(0xffffU >> (kTileRows - rows));
    CAIRN_UNROLL
    for (size_t t = 0; t < kTokens; ++t)
      _mm512_mask_storeu_ps(call.y + t * call.y_stride + row, mask, sums[t]);
  }
}

using Multiply = void (*)(const TileCall&);

// Widths of well-known small models.
constexpr size_t kConstantCols[] = {288, 384, 512, 576, 768, 960, 1024, 1536, 2048};

template <TileKind kKind>
constexpr Multiply kByTokens[kTileTokens] = {
    multiply<kKind, 1>, multiply<kKind, 2>, multiply<kKind, 3>, multiply<kKind, 4>,
    multiply<kKind, 5>, multiply<kKind, 6>, multiply<kKind, 7>, multiply<kKind, 8>};

template <TileKind kKind, size_t... kIndex>
Multiply constant_instance(size_t cols, std::index_sequence<kIndex...> /*all*/) {
  constexpr Multiply kInstances[] = {multiply<kKind, 1, kConstantCols[kIndex]>...};
  const auto* const found = std::find(std::begin(kConstantCols), std::end(kConstantCols), cols);
  return found == std::end(kConstantCols) ? nullptr : kInstances[found - kConstantCols];
}

// For one token and weights of so many columns, or null. Of kinds that gain: these two 2-4 % out of
// the second-level cache (`cairn bench gemv --cols 576 --threads 1`, Zen 4); t8 is bound by that
// cache and gains nothing.
Multiply constant_instance(TileKind kind, size_t cols) {
  constexpr auto kAll = std::make_index_sequence<std::size(kConstantCols)>();
  if (kind == TileKind::t4s) return constant_instance<TileKind::t4s>(cols, kAll);
  if (kind == TileKind::tb16) return constant_instance<TileKind::tb16>(cols, kAll);
  return nullptr;
}

const Multiply* instances_of(TileKind kind) {
  switch (kind) {
    case TileKind::t4s:
      return kByTokens<TileKind::t4s>;
    case TileKind::t4a:
      return kByTokens<TileKind::t4a>;
    case TileKind::t5s:
      return kByTokens<TileKind::t5s>;
    case TileKind::t5a:
      return kByTokens<TileKind::t5a>;
    case TileKind::t8:
      return kByTokens<TileKind::t8>;
    case TileKind::t2k:
      return kByTokens<TileKind::t2k>;
    case TileKind::t3k:
      return kByTokens<TileKind::t3k>;
    case TileKind::t4k:
      return kByTokens<TileKind::t4k>;
    case TileKind::t5k:
      return kByTokens<TileKind::t5k>;
    case TileKind::t6k:
      return kByTokens<TileKind::t6k>;
    case TileKind::tb16:
      return kByTokens<TileKind::tb16>;
    case TileKind::tf16:
      return kByTokens<TileKind::tf16>;
    case TileKind::tf32:
      break;
  }
  return kByTokens<TileKind::tf32>;
}

}  // namespace

void multiply_avx512(const TileCall& call) {
  if (call.constant_cols && call.tokens == 1)
    if (const Multiply constant = constant_instance(call.kind, call.cols)) return constant(call);
  instances_of(call.kind)[call.tokens - 1](call);
}

bool has_constant_cols_avx512(TileKind kind, size_t cols) {
  return constant_instance(kind, cols) != nullptr;
}

}  // namespace cairn
