// The steps of steps_f32.cpp in AVX-512, leaving weights and logit gradients as bf16 pairs for
// tile_bf16.cpp. Gates, sticks and sums stay in f32.

#include "cairn/attention/avx512_bf16.h"
#include "cairn/attention/stick_breaking/steps.h"

namespace cairn {
namespace {

struct Gate {
  __m512 beta, rest;
};

// 2^x as in exp2-inl.h, for x from -160 to 126 (beyond, as at the nearer end); NaN for NaN.
CAIRN_AVX512_BF16_INLINE __m512 exp2_capped(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(-160.0F), x);  // in this order NaN is kept
  x = _mm512_min_ps(_mm512_set1_ps(126.0F), x);
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

CAIRN_AVX512_BF16_INLINE Gate gate_of(const GateRule& rule, const float* score) {
  const __m512 one = _mm512_set1_ps(1.0F);
  const __m512 e = exp2_capped(_mm512_fmadd_ps(_mm512_load_ps(score), _mm512_set1_ps(rule.factor),
                                               _mm512_set1_ps(rule.offset)));
  const __m512 x = _mm512_add_ps(e, one);
  const __m512 y = _mm512_rcp14_ps(x);
  const __m512 beta = _mm512_fmadd_ps(y, _mm512_fnmadd_ps(x, y, one), y);
  return {beta, _mm512_mul_ps(e, beta)};
}

// The places of 16 queries, moved by the rule's shift.
CAIRN_AVX512_BF16_INLINE __m512i last_seen(const GateRule& rule, size_t column) {
  const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  return _mm512_add_epi32(lane, _mm512_set1_epi32(static_cast<int32_t>(column) + rule.shift));
}

template <bool kRestricted>
CAIRN_AVX512_BF16_INLINE __mmask16 open(const GateRule& rule, __m512i last, size_t key,
                                        __m512 beta) {
  if constexpr (!kRestricted) return 0xffff;
  const __m512i place = _mm512_set1_epi32(static_cast<int>(key));
  // "Not below the floor" rather than "at least the floor": NaN goes on.
  return _mm512_cmple_epi32_mask(place, last) &
         _mm512_cmp_ps_mask(beta, _mm512_set1_ps(rule.floor), _CMP_NLT_UQ);
}

// The weight of a key with this gate; `consumed` grows by its share.
CAIRN_AVX512_BF16_INLINE __m512 take_share(__m512 beta, __m512 stick, __m512& consumed) {
  const __m512 left = _mm512_sub_ps(_mm512_set1_ps(1.0F), consumed);
  consumed = _mm512_fmadd_ps(beta, left, consumed);
  return _mm512_mul_ps(_mm512_mul_ps(beta, left), stick);
}

// Of the keys so far: the share they took, and the product of 1 - beta.
struct Taken {
  __m512 consumed, product;
};

template <bool kRestricted>
CAIRN_AVX512_BF16_INLINE __m512 weigh(const StickStep& s, size_t column, size_t key, __m512i last,
                                      __m512 stick, Taken& taken) {
  const Gate gate = gate_of(s.gate, s.scores + key * kTile + column);
  const __mmask16 seen = open<kRestricted>(s.gate, last, key, gate.beta);
  taken.product = _mm512_mask_mul_ps(taken.product, seen, taken.product, gate.rest);
  return take_share(_mm512_maskz_mov_ps(seen, gate.beta), stick, taken.consumed);
}

template <bool kRestricted>
CAIRN_AVX512_BF16_INLINE void attend_column(const StickStep& s, size_t column) {
  const __m512i last = last_seen(s.gate, column);
  const __m512 stick = _mm512_loadu_ps(s.stick + column);
  auto* weights = static_cast<uint32_t*>(s.weights) + column;
  Taken taken{_mm512_setzero_ps(), _mm512_set1_ps(1.0F)};
  for (size_t key = s.keys; key > 0; key -= 2) {
    const __m512 newer = weigh<kRestricted>(s, column, key - 1, last, stick, taken);
    const __m512 older = weigh<kRestricted>(s, column, key - 2, last, stick, taken);
    _mm512_store_si512(weights + (key - 2) / 2 * kTile, interleave_halves(to_bf16(newer, older)));
  }
  _mm512_storeu_ps(s.consumed + column, taken.consumed);
  _mm512_storeu_ps(s.product + column, taken.product);
}

CAIRN_AVX512_BF16 void attend_tile(const StickStep& s) {
  for (size_t column = 0; column < s.columns; column += 16) {
    if (s.gate.restricted)
      attend_column<true>(s, column);
    else
      attend_column<false>(s, column);
  }
}

// Rows `key` and `key + 1` of a by-key operand; 16 queries are 8 words.
CAIRN_AVX512_BF16_INLINE void store_by_key(void* operand, size_t key, size_t column,
                                           __m512i halves) {
  auto* row = static_cast<uint32_t*>(operand) + key * kTile / 2 + column / 2;
  _mm256_store_si256(reinterpret_cast<__m256i*>(row), _mm512_castsi512_si256(halves));
  _mm256_store_si256(reinterpret_cast<__m256i*>(row + kTile / 2),
                     _mm512_extracti64x4_epi64(halves, 1));
}

// What the walk back over the keys leaves for the walk forth, of 16 queries.
struct alignas(64) Walk {
  float beta[kTile * 16];
  float slope[kTile * 16];  // beta (1 - beta) S
};

template <bool kRestricted>
CAIRN_AVX512_BF16_INLINE __m512 weigh_back(const StickGradientStep& s, size_t column, size_t key,
                                           __m512i last, __m512 stick, __m512& consumed,
                                           Walk& walk) {
  const Gate gate = gate_of(s.gate, s.scores + key * kTile + column);
  const __mmask16 seen = open<kRestricted>(s.gate, last, key, gate.beta);
  const __m512 beta = _mm512_maskz_mov_ps(seen, gate.beta);
  const __m512 weight = take_share(beta, stick, consumed);
  _mm512_store_ps(walk.beta + key * 16, beta);
  _mm512_store_ps(walk.slope + key * 16, _mm512_maskz_mul_ps(seen, weight, gate.rest));
  if constexpr (kRestricted) {  // of keys that are not seen not even the product is known
    float* gain = s.dweights + key * kTile + column;
    _mm512_store_ps(gain, _mm512_maskz_loadu_ps(seen, gain));
  }
  return weight;
}

template <bool kRestricted>
CAIRN_AVX512_BF16_INLINE void walk_back(const StickGradientStep& s, size_t column, Walk& walk) {
  const __m512i last = last_seen(s.gate, column);
  const __m512 stick = _mm512_loadu_ps(s.stick + column);
  __m512 consumed = _mm512_setzero_ps();
  for (size_t key = s.keys; key > 0; key -= 2) {
    const __m512 newer = weigh_back<kRestricted>(s, column, key - 1, last, stick, consumed, walk);
    const __m512 older = weigh_back<kRestricted>(s, column, key - 2, last, stick, consumed, walk);
    store_by_key(s.weights_by_key, key - 2, column, to_bf16(newer, older));
  }
}

// What U has grown by since the oldest key, and the sum of dz.
struct Growth {
  __m512 grown, sum;
};

CAIRN_AVX512_BF16_INLINE __m512 step_forth(const StickGradientStep& s, size_t column, size_t key,
                                           __m512 worth, const Walk& walk, Growth& growth) {
  const __m512 g = _mm512_load_ps(s.dweights + key * kTile + column);
  const __m512 gain = _mm512_sub_ps(_mm512_sub_ps(g, worth), growth.grown);
  growth.grown = _mm512_fmadd_ps(_mm512_load_ps(walk.beta + key * 16), gain, growth.grown);
  const __m512 dz = _mm512_mul_ps(_mm512_load_ps(walk.slope + key * 16), gain);
  growth.sum = _mm512_add_ps(growth.sum, dz);
  return dz;
}

CAIRN_AVX512_BF16_INLINE void walk_forth(const StickGradientStep& s, size_t column,
                                         const Walk& walk) {
  const __m512 worth = _mm512_loadu_ps(s.worth + column);
  auto* by_query = static_cast<uint32_t*>(s.dz_by_query) + column;
  Growth growth{_mm512_setzero_ps(), _mm512_setzero_ps()};
  for (size_t key = 0; key < s.keys; key += 2) {
    const __m512 older = step_forth(s, column, key, worth, walk, growth);
    const __m512 newer = step_forth(s, column, key + 1, worth, walk, growth);
    const __m512i dz = to_bf16(newer, older);
    store_by_key(s.dz_by_key, key, column, dz);
    _mm512_store_si512(by_query + key / 2 * kTile, interleave_halves(dz));
  }
  _mm512_storeu_ps(s.dworth + column, growth.grown);
  _mm512_storeu_ps(s.dlogit + column, growth.sum);
}

CAIRN_AVX512_BF16 void gradient_tile(const StickGradientStep& s) {
  Walk walk;
  for (size_t column = 0; column < s.columns; column += 16) {
    if (s.gate.restricted)
      walk_back<true>(s, column, walk);
    else
      walk_back<false>(s, column, walk);
    walk_forth(s, column, walk);
  }
}

constexpr StickSteps kTable{.attend = attend_tile, .gradient = gradient_tile};

}  // namespace

const StickSteps& bf16_stick_steps() {
  return kTable;
}

}  // namespace cairn
