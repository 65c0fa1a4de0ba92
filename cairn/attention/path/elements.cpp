#include "cairn/attention/path/elements.h"

#include "cairn/attention/tile.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/attention/path/elements.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include "cairn/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

void bias_scores(float* scores, size_t keys, const float* key_bias, const float* query_bias) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  for (size_t key = 0; key < keys; ++key) {
    const auto own = hn::Set(d, key_bias[key]);
    float* row = scores + key * kTile;
    for (size_t i = 0; i < kTile; i += lanes)
      hn::StoreU(hn::Add(hn::LoadU(d, row + i), hn::Add(own, hn::LoadU(d, query_bias + i))), d,
                 row + i);
  }
}

template <class T>
void gate_gradients_of(const T* rows, size_t keys, size_t columns, float scale, float* key_sums,
                       float* query_sums) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);  // divides kWidth, of which `columns` is a multiple
  const auto factor = hn::Set(d, scale);
  for (size_t key = 0; key < keys; ++key) {
    auto sum = hn::Zero(d);
    for (size_t i = 0; i < columns; i += lanes) {
      const auto value = hn::Mul(factor, load(d, rows + key * kTile + i));
      sum = hn::Add(sum, value);
      hn::StoreU(hn::Add(hn::LoadU(d, query_sums + i), value), d, query_sums + i);
    }
    key_sums[key] -= hn::GetLane(hn::SumOfLanes(d, sum));
  }
}

void gate_gradients(const void* rows, size_t pair, size_t keys, size_t columns, float scale,
                    float* key_sums, float* query_sums) {
  if (pair == 2)
    gate_gradients_of(static_cast<const bf16*>(rows), keys, columns, scale, key_sums, query_sums);
  else
    gate_gradients_of(static_cast<const float*>(rows), keys, columns, scale, key_sums, query_sums);
}

// Round to nearest even; a NaN stays one.
template <class D, class V>
HWY_INLINE V rounded_bits(D du, V word) {
  const V odd = hn::And(hn::ShiftRight<16>(word), hn::Set(du, 1));
  const V rounded = hn::Add(word, hn::Add(odd, hn::Set(du, 0x7fff)));
  const V quiet = hn::Or(word, hn::Set(du, 0x400000));
  const auto nan = hn::RebindMask(du, hn::IsNaN(hn::BitCast(hn::RebindToFloat<D>(), word)));
  return hn::ShiftRight<16>(hn::IfThenElse(nan, quiet, rounded));
}

void pair_rows(const float* columns, size_t dim, uint32_t* words) {
  const FloatTag d;
  const hn::RebindToUnsigned<FloatTag> du;
  const size_t lanes = hn::Lanes(d);
  for (size_t k = 0; k < dim; k += 2) {
    const float* low = columns + k * kTile;
    uint32_t* to = words + k / 2 * kTile;
    for (size_t i = 0; i < kTile; i += lanes) {
      auto word = rounded_bits(du, hn::BitCast(du, hn::LoadU(d, low + i)));
      if (k + 1 < dim)
        word = hn::Or(word, hn::ShiftLeft<16>(
                                rounded_bits(du, hn::BitCast(du, hn::LoadU(d, low + kTile + i)))));
      hn::StoreU(word, du, to + i);
    }
  }
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
HWY_EXPORT(bias_scores);
HWY_EXPORT(gate_gradients);
HWY_EXPORT(pair_rows);

void add_bias(float* scores, size_t keys, const float* key_bias, const float* query_bias) {
  HWY_DYNAMIC_DISPATCH(bias_scores)(scores, keys, key_bias, query_bias);
}

void add_gate_gradients(const void* dscores, size_t pair, size_t keys, size_t columns, float scale,
                        float* key_sums, float* query_sums) {
  HWY_DYNAMIC_DISPATCH(gate_gradients)(dscores, pair, keys, columns, scale, key_sums, query_sums);
}

void pair_columns(const float* columns, size_t dim, uint32_t* words) {
  HWY_DYNAMIC_DISPATCH(pair_rows)(columns, dim, words);
}

}  // namespace cairn
#endif
