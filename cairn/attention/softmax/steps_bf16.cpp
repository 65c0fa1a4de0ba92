// The steps of steps_f32.cpp in AVX-512, leaving weights and score gradients as bf16 pairs for
// tile_bf16.cpp. Statistics, sums and exponentials stay in f32.

#include <limits>

#include "cairn/attention/avx512_bf16.h"
#include "cairn/attention/softmax/steps.h"

namespace cairn {
namespace {

// 2^x as in exp2-inl.h; VSCALEFPS multiplies by the power of two and needs no clamp for underflow,
// only against infinity, whose fraction is not a number.
CAIRN_AVX512_BF16_INLINE __m512 exp2_fast(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(-160.0F), x);  // in this order NaN is kept
  const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 f = _mm512_sub_ps(x, n);
  __m512 p = _mm512_set1_ps(1.3264727e-3F);
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.6715127e-3F));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.5507337e-2F));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.24022242F));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.69314698F));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0F));
  return _mm512_scalef_ps(p, n);
}

// Which of 16 queries see a key.
struct LaneMask {
  __m512i first, last;
};

CAIRN_AVX512_BF16_INLINE LaneMask lane_mask(const TileMask& mask, size_t column) {
  return {_mm512_loadu_si512(mask.first + column), _mm512_loadu_si512(mask.last + column)};
}

template <bool kMasked>
CAIRN_AVX512_BF16_INLINE __mmask16 seen(const LaneMask& mask, size_t key0, size_t key) {
  if constexpr (!kMasked) return 0xffff;
  const __m512i place = _mm512_set1_epi32(static_cast<int>(key0 + key));
  return _mm512_cmple_epi32_mask(mask.first, place) & _mm512_cmple_epi32_mask(place, mask.last);
}

template <bool kMasked>
CAIRN_AVX512_BF16_INLINE __m512 largest_score(const SoftmaxStep& s, size_t column,
                                              const LaneMask& mask) {
  const __m512 lowest = _mm512_set1_ps(std::numeric_limits<float>::lowest());
  __m512 even = lowest, odd = lowest;
  for (size_t key = 0; key < s.keys; key += 2) {
    const float* score = s.scores + key * kTile + column;
    const __mmask16 a = seen<kMasked>(mask, s.mask.key0, key);
    const __mmask16 b = seen<kMasked>(mask, s.mask.key0, key + 1);
    even = _mm512_mask_max_ps(even, a, even, _mm512_load_ps(score));
    odd = _mm512_mask_max_ps(odd, b, odd, _mm512_load_ps(score + kTile));
  }
  return _mm512_max_ps(even, odd);
}

template <bool kMasked>
CAIRN_AVX512_BF16_INLINE bool softmax_column(const SoftmaxStep& s, size_t column) {
  const LaneMask mask = kMasked ? lane_mask(s.mask, column) : LaneMask{};
  const __m512 factor = _mm512_set1_ps(s.factor);
  const __m512 old_maximum = _mm512_loadu_ps(s.state->maximum + column);
  const __m512 largest = largest_score<kMasked>(s, column, mask);
  const __m512 growth = _mm512_mul_ps(_mm512_sub_ps(largest, old_maximum), factor);
  const __mmask16 grows = _mm512_cmp_ps_mask(growth, _mm512_set1_ps(kSlack), _CMP_GT_OQ);
  const __m512 maximum = _mm512_mask_blend_ps(grows, old_maximum, largest);
  const __m512 rescale = exp2_fast(_mm512_mul_ps(_mm512_sub_ps(old_maximum, maximum), factor));
  _mm512_storeu_ps(s.state->maximum + column, maximum);
  _mm512_storeu_ps(s.rescale + column, rescale);

  const __m512 offset = _mm512_mul_ps(maximum, factor);
  auto* weights = static_cast<uint32_t*>(s.weights) + column;
  __m512 even = _mm512_setzero_ps(), odd = even;
  for (size_t key = 0; key < s.keys; key += 2) {
    const float* score = s.scores + key * kTile + column;
    __m512 a = exp2_fast(_mm512_fmsub_ps(_mm512_load_ps(score), factor, offset));
    __m512 b = exp2_fast(_mm512_fmsub_ps(_mm512_load_ps(score + kTile), factor, offset));
    if constexpr (kMasked) {
      a = _mm512_maskz_mov_ps(seen<kMasked>(mask, s.mask.key0, key), a);
      b = _mm512_maskz_mov_ps(seen<kMasked>(mask, s.mask.key0, key + 1), b);
    }
    _mm512_store_si512(weights + key / 2 * kTile, interleave_halves(to_bf16(b, a)));
    even = _mm512_add_ps(even, a);
    odd = _mm512_add_ps(odd, b);
  }
  const __m512 sum = _mm512_loadu_ps(s.state->sum + column);
  _mm512_storeu_ps(s.state->sum + column, _mm512_fmadd_ps(sum, rescale, _mm512_add_ps(even, odd)));
  return grows != 0;
}

CAIRN_AVX512_BF16 bool softmax_tile(const SoftmaxStep& s) {
  bool any = false;
  for (size_t column = 0; column < s.columns; column += 16)
    any |= s.mask.needed ? softmax_column<true>(s, column) : softmax_column<false>(s, column);
  return any;
}

// Rows `key` and `key + 1` of a by-key operand; 16 queries are 8 words.
CAIRN_AVX512_BF16_INLINE void store_by_key(void* operand, size_t key, size_t column,
                                           __m512i halves) {
  auto* row = static_cast<uint32_t*>(operand) + key * kTile / 2 + column / 2;
  _mm256_store_si256(reinterpret_cast<__m256i*>(row), _mm512_castsi512_si256(halves));
  _mm256_store_si256(reinterpret_cast<__m256i*>(row + kTile / 2),
                     _mm512_extracti64x4_epi64(halves, 1));
}

template <bool kMasked, bool kKeep>
CAIRN_AVX512_BF16_INLINE void gradient_column(const GradientStep& s, size_t column) {
  const LaneMask mask = kMasked ? lane_mask(s.mask, column) : LaneMask{};
  const __m512 factor = _mm512_set1_ps(s.factor);
  const __m512 offset = _mm512_loadu_ps(s.log2_sum + column);
  const __m512 delta = _mm512_loadu_ps(s.delta + column);
  auto* by_query = static_cast<uint32_t*>(s.dscores_by_query) + column;
  for (size_t key = 0; key < s.keys; key += 2) {
    const float* score = s.scores + key * kTile + column;
    float* dweight = s.dweights + key * kTile + column;
    __m512 a = exp2_fast(_mm512_fmsub_ps(_mm512_load_ps(score), factor, offset));
    __m512 b = exp2_fast(_mm512_fmsub_ps(_mm512_load_ps(score + kTile), factor, offset));
    if constexpr (kMasked) {
      a = _mm512_maskz_mov_ps(seen<kMasked>(mask, s.mask.key0, key), a);
      b = _mm512_maskz_mov_ps(seen<kMasked>(mask, s.mask.key0, key + 1), b);
    }
    const __m512 da = _mm512_mul_ps(a, _mm512_sub_ps(_mm512_load_ps(dweight), delta));
    const __m512 db = _mm512_mul_ps(b, _mm512_sub_ps(_mm512_load_ps(dweight + kTile), delta));
    if constexpr (kKeep) {
      _mm512_store_ps(dweight, da);
      _mm512_store_ps(dweight + kTile, db);
    }
    store_by_key(s.weights_by_key, key, column, to_bf16(b, a));
    const __m512i dscores = to_bf16(db, da);
    store_by_key(s.dscores_by_key, key, column, dscores);
    _mm512_store_si512(by_query + key / 2 * kTile, interleave_halves(dscores));
  }
}

CAIRN_AVX512_BF16 void gradient_tile(const GradientStep& s) {
  for (size_t column = 0; column < s.columns; column += 16) {
    if (s.keep_dscores)
      s.mask.needed ? gradient_column<true, true>(s, column)
                    : gradient_column<false, true>(s, column);
    else
      s.mask.needed ? gradient_column<true, false>(s, column)
                    : gradient_column<false, false>(s, column);
  }
}

constexpr SoftmaxSteps kTable{.softmax = softmax_tile, .gradient = gradient_tile};

}  // namespace

const SoftmaxSteps& bf16_softmax_steps() {
  return kTable;
}

}  // namespace cairn
