// The products with AVX2: the same tiles, eight rows at a time. VPMADDUBSW adds pairs of products
// in 16 bits, which saturate; so as many vectors are added in 16 bits as the largest code allows
// (127 * 2 * code a vector), and t8, whose codes are too large for a single one, goes through
// |weight| * (sign(weight) * byte), at most 128 * 127 * 2 = 32512.
#include <algorithm>
#include <cstring>

#include "cairn/kernels/tile_kernels.h"
#include "cairn/kernels/tile_target.h"

#define CAIRN_TARGET __attribute__((target("avx2,fma,f16c,bmi2")))

namespace cairn {
namespace {

// Vectors whose pairs of products may be added in 16 bits.
constexpr size_t vectors_in_16_bits(TileKind kind) {
  const TileLayout layout = tile_layout(kind);
  if (kind == TileKind::t8) return 1;
  if (layout.nibbles == 0) return 4;     // codes to 7; sums are of 16 inputs
  if (layout.pair_shift >= 0) return 2;  // to 63
  return layout.bit_shift >= 0 ? 4 : 8;  // to 31; to 15
}

CAIRN_INLINE __m256i load_line(const uint8_t* at) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(at));
}
CAIRN_INLINE __m256 load_halves(const uint8_t* at) {
  return _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(at)));
}
CAIRN_INLINE __m256i broadcast_int(const void* from) {
  int32_t value = 0;
  __builtin_memcpy(&value, from, 4);
  return _mm256_set1_epi32(value);
}
CAIRN_INLINE __m128i load_8_bytes(const uint8_t* at) {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(at));
}

// `bit` in each byte whose bit of the mask is set.
CAIRN_INLINE __m256i spread_bits(const uint8_t* mask, int bit) {
  const __m256i which =
      _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const __m256i bits = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
  const __m256i bytes = _mm256_shuffle_epi8(broadcast_int(mask), which);
  const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bits), bits);
  return _mm256_and_si256(set, _mm256_set1_epi8(static_cast<char>(bit)));
}

// Vectors 0 to 7 of rows 8 * half to 8 * half + 7. Of t8: the weights themselves, signed.
template <TileKind kKind>
CAIRN_INLINE void load_codes(const uint8_t* block, size_t half, __m256i (&codes)[8]) {
  constexpr TileLayout kLayout = tile_layout(kKind);
  block += 32 * half;
  const __m256i nibble = _mm256_set1_epi8(15);
  CAIRN_UNROLL
  for (size_t v = 0; v < 8; ++v) {
    codes[v] = _mm256_setzero_si256();
    if constexpr (kKind == TileKind::t8)
      codes[v] = _mm256_xor_si256(load_line(block + 64 * v), _mm256_set1_epi8(-128));
    if constexpr (kLayout.nibbles != 0) {
      const __m256i both = load_line(block + 64 * (v / 2));
      codes[v] = _mm256_and_si256(v % 2 == 0 ? both : _mm256_srli_epi32(both, 4), nibble);
    }
    if constexpr (kLayout.pair_shift >= 0) {
      const __m256i pairs = load_line(block + kLayout.pairs_at() + 64 * (v / 4));
      const __m256i two = _mm256_and_si256(_mm256_srli_epi32(pairs, static_cast<int>(2 * (v % 4))),
                                           _mm256_set1_epi8(3));
      codes[v] = _mm256_or_si256(codes[v], _mm256_slli_epi32(two, kLayout.pair_shift));
    }
    if constexpr (kLayout.bit_shift >= 0)
      codes[v] = _mm256_or_si256(
          codes[v], spread_bits(block - 32 * half + kLayout.bits_at() + 8 * v + 4 * half,
                                1 << kLayout.bit_shift));
  }
}

struct BlockScales {
  __m256 first, last, first_offset, last_offset;
};

template <TileKind kKind>
CAIRN_INLINE BlockScales block_scales(__m256 d, __m256 offset, const uint8_t* fine) {
  BlockScales s{d, d, offset, offset};
  if constexpr (tile_layout(kKind).scale_bytes == 0) return s;
  const __m128i one = load_8_bytes(fine), two = load_8_bytes(fine + 16);
  const __m256 minus = _mm256_sub_ps(_mm256_setzero_ps(), offset);
  if constexpr (kKind == TileKind::t3k || kKind == TileKind::t6k) {
    s.first = _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(one)));
    s.last = _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(two)));
    return s;
  }
  const __m256i wide = _mm256_cvtepu8_epi32(one), wider = _mm256_cvtepu8_epi32(two);
  if constexpr (kKind == TileKind::t2k) {
    const __m256i low = _mm256_set1_epi32(15);
    s.first = _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_and_si256(wide, low)));
    s.last = _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_and_si256(wider, low)));
    s.first_offset = _mm256_mul_ps(minus, _mm256_cvtepi32_ps(_mm256_srli_epi32(wide, 4)));
    s.last_offset = _mm256_mul_ps(minus, _mm256_cvtepi32_ps(_mm256_srli_epi32(wider, 4)));
  } else {
    s.first = _mm256_mul_ps(d, _mm256_cvtepi32_ps(wide));
    s.first_offset = _mm256_mul_ps(minus, _mm256_cvtepi32_ps(wider));
  }
  return s;
}

// Sums of vectors kFirst to kLast - 1, from `start` on.
template <TileKind kKind, size_t kFirst, size_t kLast>
CAIRN_INLINE __m256i dot(const __m256i (&codes)[8], const ByteRecord& x, int32_t start) {
  constexpr size_t kTogether = std::min(vectors_in_16_bits(kKind), kLast - kFirst);
  __m256i sum = _mm256_set1_epi32(start);
  CAIRN_UNROLL
  for (size_t v = kFirst; v < kLast; v += kTogether) {
    __m256i pairs = _mm256_setzero_si256();
    CAIRN_UNROLL
    for (size_t i = v; i < v + kTogether; ++i) {
      const __m256i bytes = broadcast_int(x.q + 4 * i);
      const __m256i products =
          kKind == TileKind::t8
              ? _mm256_maddubs_epi16(_mm256_abs_epi8(codes[i]), _mm256_sign_epi8(bytes, codes[i]))
              : _mm256_maddubs_epi16(codes[i], bytes);
      pairs = _mm256_add_epi16(pairs, products);
    }
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  return sum;
}

template <TileKind kKind>
CAIRN_INLINE __m256 add_block(const __m256i (&codes)[8], const BlockScales& s, const ByteRecord& x,
                              __m256 sum) {
  constexpr int32_t kZero = kKind == TileKind::t8 ? 0 : tile_layout(kKind).zero;
  if constexpr (has_two_scales(kKind)) {
    const __m256i first = dot<kKind, 0, 4>(codes, x, kZero * x.minus_low);
    const __m256i last = dot<kKind, 4, 8>(codes, x, kZero * x.minus_high);
    const __m256 scaled = _mm256_fmadd_ps(_mm256_cvtepi32_ps(last), s.last,
                                          _mm256_mul_ps(_mm256_cvtepi32_ps(first), s.first));
    sum = _mm256_fmadd_ps(scaled, _mm256_set1_ps(x.scale), sum);
  } else {
    const __m256i all = dot<kKind, 0, 8>(codes, x, kZero * (x.minus_low + x.minus_high));
    sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(all), _mm256_mul_ps(s.first, _mm256_set1_ps(x.scale)),
                          sum);
  }
  if constexpr (kKind == TileKind::t2k) {
    sum = _mm256_fmadd_ps(s.first_offset, _mm256_set1_ps(x.scaled_low), sum);
    sum = _mm256_fmadd_ps(s.last_offset, _mm256_set1_ps(x.scaled_high), sum);
  } else if constexpr (has_offset(kKind)) {
    sum = _mm256_fmadd_ps(s.first_offset, _mm256_set1_ps(x.scaled_sum), sum);
  }
  return sum;
}

// Half a row group with kTokens tokens of a group whose records lie `stride` apart, block by block.
template <TileKind kKind, size_t kTokens>
CAIRN_INLINE void sum_group(const uint8_t* group, size_t half, const ByteRecord* x, size_t stride,
                            size_t units, __m256 (&sums)[kTokens]) {
  constexpr TileLayout kLayout = tile_layout(kKind);
  for (size_t u = 0; u < units; ++u) {
    const uint8_t* header = group + kLayout.header_at(u) + 16 * half;
    const uint8_t* body = group + kLayout.body_at(u);
    const __m256 d = load_halves(header);
    const __m256 offset = has_offset(kKind) ? load_halves(header + 32) : _mm256_setzero_ps();
    for (size_t b = 0; b < kLayout.unit_inputs / kTileInputs; ++b, x += stride) {
      __m256i codes[8];
      load_codes<kKind>(body + kLayout.scale_bytes + b * kLayout.block_bytes, half, codes);
      const BlockScales scales = block_scales<kKind>(d, offset, body + 32 * b + 8 * half);
      CAIRN_UNROLL
      for (size_t t = 0; t < kTokens; ++t) sums[t] = add_block<kKind>(codes, scales, x[t], sums[t]);
    }
  }
}

// The first and the second of each lane's pair, in f32.
CAIRN_INLINE __m256 low_bf16(__m256i pairs) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
}
CAIRN_INLINE __m256 high_bf16(__m256i pairs) {
  return _mm256_castsi256_ps(
      _mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int32_t>(0xffff0000))));
}

// Weights of inputs or pairs 2i and 2i + 1 for eight rows, in f32; of bf16 four inputs.
template <TileKind kKind>
CAIRN_INLINE void load_plain(const uint8_t* at, size_t half, __m256 (&w)[4]) {
  if constexpr (kKind == TileKind::tb16) {
    const __m256i first = load_line(at + 32 * half), second = load_line(at + 64 + 32 * half);
    w[0] = low_bf16(first);
    w[1] = high_bf16(first);
    w[2] = low_bf16(second);
    w[3] = high_bf16(second);
  } else if constexpr (kKind == TileKind::tf16) {
    w[0] = load_halves(at + 16 * half);
    w[1] = load_halves(at + 32 + 16 * half);
  } else {
    w[0] = _mm256_castsi256_ps(load_line(at + 32 * half));
    w[1] = _mm256_castsi256_ps(load_line(at + 64 + 32 * half));
  }
}

template <TileKind kKind, size_t kTokens>
CAIRN_INLINE void sum_plain_group(const uint8_t* group, size_t half, const uint8_t* x,
                                  size_t stride, size_t blocks, __m256 (&sums)[kTokens]) {
  constexpr size_t kRecord = activation_record_bytes(tile_activation(kKind));
  constexpr size_t kSteps = kKind == TileKind::tb16 ? 8 : 16;
  constexpr size_t kStep = tile_layout(kKind).block_bytes / kSteps;
  __m256 odd[kTokens];
  CAIRN_UNROLL
  for (size_t t = 0; t < kTokens; ++t) odd[t] = _mm256_setzero_ps();
  for (size_t b = 0; b < blocks; ++b, x += stride * kRecord)
    for (size_t i = 0; i < kSteps; ++i, group += kStep) {
      __m256 w[4];
      load_plain<kKind>(group, half, w);
      CAIRN_UNROLL
      for (size_t t = 0; t < kTokens; ++t) {
        const __m256i one = broadcast_int(x + t * kRecord + 8 * i);
        const __m256i two = broadcast_int(x + t * kRecord + 8 * i + 4);
        if constexpr (kKind == TileKind::tb16) {
          sums[t] = _mm256_fmadd_ps(w[0], low_bf16(one), sums[t]);
          sums[t] = _mm256_fmadd_ps(w[1], high_bf16(one), sums[t]);
          odd[t] = _mm256_fmadd_ps(w[2], low_bf16(two), odd[t]);
          odd[t] = _mm256_fmadd_ps(w[3], high_bf16(two), odd[t]);
        } else {
          sums[t] = _mm256_fmadd_ps(w[0], _mm256_castsi256_ps(one), sums[t]);
          odd[t] = _mm256_fmadd_ps(w[1], _mm256_castsi256_ps(two), odd[t]);
        }
      }
    }
  CAIRN_UNROLL
  for (size_t t = 0; t < kTokens; ++t) sums[t] = _mm256_add_ps(sums[t], odd[t]);
}

template <size_t kTokens>
CAIRN_INLINE void store_sums(const TileCall& call, size_t first, size_t row,
                             const __m256 (&sums)[kTokens]) {
  const auto rows = static_cast<int32_t>(std::min<size_t>(8, call.rows - row));
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(rows), lanes);
  CAIRN_UNROLL
  for (size_t t = 0; t < kTokens; ++t)
    _mm256_maskstore_ps(call.y + (first + t) * call.y_stride + row, mask, sums[t]);
}

// All rows with tokens [first, first + kTokens) of the group.
template <TileKind kKind, size_t kTokens>
CAIRN_TARGET void multiply_some(const TileCall& call, size_t first) {
  constexpr TileLayout kLayout = tile_layout(kKind);
  const size_t units = (call.cols + kLayout.unit_inputs - 1) / kLayout.unit_inputs;
  const size_t group_bytes = kLayout.group_bytes(units);
  const uint8_t* x = call.records + first * activation_record_bytes(tile_activation(kKind));
  for (size_t row = 0; row < call.rows; row += 8) {
    const uint8_t* group = call.tiles + row / kTileRows * group_bytes;
    const size_t half = row % kTileRows / 8;
    __m256 sums[kTokens];
    CAIRN_UNROLL
    for (size_t t = 0; t < kTokens; ++t) sums[t] = _mm256_setzero_ps();
    if constexpr (kLayout.header_bytes == 0)
      sum_plain_group<kKind>(group, half, x, call.tokens, units, sums);
    else
      sum_group<kKind>(group, half, reinterpret_cast<const ByteRecord*>(x), call.tokens, units,
                       sums);
    store_sums(call, first, row, sums);
  }
}

// Sixteen registers hold the sums of few tokens.
template <TileKind kKind>
void multiply(const TileCall& call) {
  size_t t = 0;
  for (; t + 4 <= call.tokens; t += 4) multiply_some<kKind, 4>(call, t);
  for (; t + 2 <= call.tokens; t += 2) multiply_some<kKind, 2>(call, t);
  for (; t < call.tokens; ++t) multiply_some<kKind, 1>(call, t);
}

}  // namespace

void multiply_avx2(const TileCall& call) {
  switch (call.kind) {
    case TileKind::t4s:
      return multiply<TileKind::t4s>(call);
    case TileKind::t4a:
      return multiply<TileKind::t4a>(call);
    case TileKind::t5s:
      return multiply<TileKind::t5s>(call);
    case TileKind::t5a:
      return multiply<TileKind::t5a>(call);
    case TileKind::t8:
      return multiply<TileKind::t8>(call);
    case TileKind::t2k:
      return multiply<TileKind::t2k>(call);
    case TileKind::t3k:
      return multiply<TileKind::t3k>(call);
    case TileKind::t4k:
      return multiply<TileKind::t4k>(call);
    case TileKind::t5k:
      return multiply<TileKind::t5k>(call);
    case TileKind::t6k:
      return multiply<TileKind::t6k>(call);
    case TileKind::tb16:
      return multiply<TileKind::tb16>(call);
    case TileKind::tf16:
      return multiply<TileKind::tf16>(call);
    case TileKind::tf32:
      return multiply<TileKind::tf32>(call);
  }
}

}  // namespace cairn
