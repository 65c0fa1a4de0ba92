// Rounding of activations with AVX-512; bit for bit what store_portable does.
#include <algorithm>
#include <bit>

#include "cairn/kernels/tile_kernels.h"
#include "cairn/kernels/tile_target.h"

#define CAIRN_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")))

namespace cairn {
namespace {

CAIRN_INLINE __m512i magnitude(__m512 x) {
  return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
}

// The sum of four lanes.
CAIRN_INLINE int32_t sum_lanes(__m128i x) {
  x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xb1)));
}

// largest: the bits of the largest magnitude, finite.
CAIRN_INLINE void store_bytes(__m512 a, __m512 b, uint32_t largest_bits, ByteRecord& record) {
  const float largest = std::bit_cast<float>(largest_bits);
  if (largest < kSmallestActivation) {
    _mm512_storeu_si512(&record, _mm512_setzero_si512());
    return;
  }
  const __m512 inverse = _mm512_set1_ps(127.0F / largest);
  const __m128i low = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(a, inverse)));
  const __m128i high = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(b, inverse)));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(record.q), low);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(record.q + 16), high);
  const __m128i ones = _mm_set1_epi8(1), zero = _mm_setzero_si128();
  const int32_t low_sum = sum_lanes(_mm_dpbusd_epi32(zero, ones, low));
  const int32_t high_sum = sum_lanes(_mm_dpbusd_epi32(zero, ones, high));
  set_scale_and_sums(largest, low_sum, high_sum, record);
}

// Inputs [k, k + 16) scaled and weighted; zeros beyond the row.
CAIRN_INLINE __m512 load_inputs(const StoreCall& call, size_t k) {
  const size_t count = call.cols > k ? std::min<size_t>(16, call.cols - k) : 0;
  const auto mask = static_cast<__mmask16>((1U << count) - 1);
  const __m512 x =
      _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, call.x + k), _mm512_set1_ps(call.scale));
  return call.weight == nullptr ? x
                                : _mm512_mul_ps(x, _mm512_maskz_loadu_ps(mask, call.weight + k));
}

CAIRN_INLINE __m256i to_bf16(__m512 x) {  // as bf16::from_float for finite values
  const __m512i word = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(word, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(word, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}

}  // namespace

CAIRN_TARGET bool store_avx512(const StoreCall& call) {
  constexpr uint32_t kInfinity = 0x7f800000;
  uint32_t worst = 0;
  std::byte* record = call.records;
  for (size_t k = 0; k < call.cols; k += kTileInputs, record += call.stride) {
    const __m512 a = load_inputs(call, k), b = load_inputs(call, k + 16);
    const uint32_t largest = _mm512_reduce_max_epu32(_mm512_max_epu32(magnitude(a), magnitude(b)));
    worst = std::max(worst, largest);
    if (largest >= kInfinity) continue;
    if (call.kind == ActivationKind::int8) {
      store_bytes(a, b, largest, *reinterpret_cast<ByteRecord*>(record));
    } else if (call.kind == ActivationKind::bf16) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(record), to_bf16(a));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(record + 32), to_bf16(b));
    } else {
      _mm512_storeu_ps(record, a);
      _mm512_storeu_ps(record + 64, b);
    }
  }
  return worst < kInfinity;
}

}  // namespace cairn
