// Rounding of activations with AVX2; bit for bit what store_portable does.
#include <algorithm>
#include <bit>

#include "cairn/kernels/tile_kernels.h"
#include "cairn/kernels/tile_target.h"

#define CAIRN_TARGET __attribute__((target("avx2,fma,f16c,bmi2")))

namespace cairn {
namespace {

struct Inputs {
  __m256 part[4];  // 32 inputs of a token
};

// Inputs [k, k + 8) scaled and weighted; zeros beyond the row.
CAIRN_INLINE __m256 load_inputs(const StoreCall& call, size_t k) {
  const auto count = static_cast<int32_t>(call.cols > k ? std::min<size_t>(8, call.cols - k) : 0);
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lanes);
  const __m256 x = _mm256_mul_ps(_mm256_maskload_ps(call.x + k, mask), _mm256_set1_ps(call.scale));
  return call.weight == nullptr ? x : _mm256_mul_ps(x, _mm256_maskload_ps(call.weight + k, mask));
}

// The bits of the largest magnitude.
CAIRN_INLINE uint32_t largest_of(const Inputs& in) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i most = _mm256_setzero_si256();
  for (const __m256& part : in.part)
    most = _mm256_max_epu32(most, _mm256_and_si256(_mm256_castps_si256(part), magnitude));
  __m128i half = _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
  half = _mm_max_epu32(half, _mm_shuffle_epi32(half, 0x4e));
  half = _mm_max_epu32(half, _mm_shuffle_epi32(half, 0xb1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(half));
}

CAIRN_INLINE int32_t sum_bytes(__m128i bytes) {
  const __m128i pairs = _mm_maddubs_epi16(_mm_set1_epi8(1), bytes);
  __m128i sum = _mm_madd_epi16(pairs, _mm_set1_epi16(1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1)));
}

CAIRN_INLINE void store_bytes(const Inputs& in, uint32_t largest_bits, ByteRecord& record) {
  const float largest = std::bit_cast<float>(largest_bits);
  if (largest < kSmallestActivation) {
    record = ByteRecord{};
    return;
  }
  const __m256 inverse = _mm256_set1_ps(127.0F / largest);
  __m256i q[4];
  for (int i = 0; i < 4; ++i) q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(in.part[i], inverse));
  // Packing works within halves of 128 bits: the permutation puts fours of bytes in order.
  const __m256i mixed =
      _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i bytes = _mm256_permutevar8x32_epi32(mixed, order);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(record.q), bytes);
  const int32_t low = sum_bytes(_mm256_castsi256_si128(bytes));
  const int32_t high = sum_bytes(_mm256_extracti128_si256(bytes, 1));
  set_scale_and_sums(largest, low, high, record);
}

// Eight finite values, as bf16::from_float rounds them.
CAIRN_INLINE __m128i to_bf16(__m256 x) {
  const __m256i word = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(word, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_srli_epi32(
      _mm256_add_epi32(word, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  return _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
}

}  // namespace

CAIRN_TARGET bool store_avx2(const StoreCall& call) {
  constexpr uint32_t kInfinity = 0x7f800000;
  uint32_t worst = 0;
  std::byte* record = call.records;
  for (size_t k = 0; k < call.cols; k += kTileInputs, record += call.stride) {
    Inputs in;
    for (size_t i = 0; i < 4; ++i) in.part[i] = load_inputs(call, k + 8 * i);
    const uint32_t largest = largest_of(in);
    worst = std::max(worst, largest);
    if (largest >= kInfinity) continue;
    if (call.kind == ActivationKind::int8) {
      store_bytes(in, largest, *reinterpret_cast<ByteRecord*>(record));
      continue;
    }
    for (size_t i = 0; i < 4; ++i) {
      if (call.kind == ActivationKind::bf16)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(record + 16 * i), to_bf16(in.part[i]));
      else
        _mm256_storeu_ps(reinterpret_cast<float*>(record + 32 * i), in.part[i]);
    }
  }
  return worst < kInfinity;
}

}  // namespace cairn
