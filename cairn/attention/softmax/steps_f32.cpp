#include <limits>

#include "cairn/attention/softmax/steps.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/attention/softmax/steps_f32.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include "cairn/attention/exp2-inl.h"
#include "cairn/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

// Whether the queries of one vector see a key.
struct LaneMask {
  hn::Vec<hn::RebindToSigned<FloatTag>> first, last;
};

HWY_INLINE LaneMask lane_mask(const TileMask& mask, size_t column) {
  const hn::RebindToSigned<FloatTag> di;
  return {hn::LoadU(di, mask.first + column), hn::LoadU(di, mask.last + column)};
}

HWY_INLINE hn::Mask<FloatTag> sees(const LaneMask& mask, int32_t key) {
  const hn::RebindToSigned<FloatTag> di;
  const auto place = hn::Set(di, key);
  const auto hidden = hn::Or(hn::VecFromMask(di, hn::Gt(mask.first, place)),
                             hn::VecFromMask(di, hn::Gt(place, mask.last)));
  return hn::RebindMask(FloatTag(), hn::Eq(hidden, hn::Zero(di)));
}

template <bool kMasked>
HWY_INLINE FloatVector largest_score(const SoftmaxStep& s, size_t column, const LaneMask& mask) {
  const FloatTag d;
  const auto lowest = hn::Set(d, std::numeric_limits<float>::lowest());
  FloatVector even = lowest, odd = lowest;
  const float* scores = s.scores + column;
  for (size_t key = 0; key < s.keys; key += 2) {
    auto a = hn::LoadU(d, scores + key * kTile), b = hn::LoadU(d, scores + (key + 1) * kTile);
    if constexpr (kMasked) {
      const auto place = s.mask.key0 + static_cast<int32_t>(key);
      a = hn::IfThenElse(sees(mask, place), a, lowest);
      b = hn::IfThenElse(sees(mask, place + 1), b, lowest);
    }
    even = hn::Max(even, a);
    odd = hn::Max(odd, b);
  }
  return hn::Max(even, odd);
}

template <bool kMasked>
HWY_INLINE FloatVector weigh(const SoftmaxStep& s, size_t column, size_t key, FloatVector offset,
                             const LaneMask& mask) {
  const FloatTag d;
  const float* score = s.scores + key * kTile + column;
  auto p = exp2_fast(d, hn::MulSub(hn::LoadU(d, score), hn::Set(d, s.factor), offset));
  if constexpr (kMasked)
    p = hn::IfThenElseZero(sees(mask, s.mask.key0 + static_cast<int32_t>(key)), p);
  return p;
}

template <bool kMasked>
HWY_INLINE bool softmax_column(const SoftmaxStep& s, size_t column) {
  const FloatTag d;
  const LaneMask mask = kMasked ? lane_mask(s.mask, column) : LaneMask{};
  const auto factor = hn::Set(d, s.factor);
  const auto old_maximum = hn::LoadU(d, s.state->maximum + column);
  const auto largest = largest_score<kMasked>(s, column, mask);
  const auto growth = hn::Mul(hn::Sub(largest, old_maximum), factor);
  const auto grows = hn::Gt(growth, hn::Set(d, kSlack));
  const auto maximum = hn::IfThenElse(grows, largest, old_maximum);
  const auto rescale = exp2_fast(d, hn::Mul(hn::Sub(old_maximum, maximum), factor));
  hn::StoreU(maximum, d, s.state->maximum + column);
  hn::StoreU(rescale, d, s.rescale + column);

  const auto offset = hn::Mul(maximum, factor);
  auto* weights = static_cast<float*>(s.weights) + column;
  FloatVector even = hn::Zero(d), odd = hn::Zero(d);
  for (size_t key = 0; key < s.keys; key += 2) {
    const auto a = weigh<kMasked>(s, column, key, offset, mask);
    const auto b = weigh<kMasked>(s, column, key + 1, offset, mask);
    hn::StoreU(a, d, weights + key * kTile);
    hn::StoreU(b, d, weights + (key + 1) * kTile);
    even = hn::Add(even, a);
    odd = hn::Add(odd, b);
  }
  const auto sum = hn::LoadU(d, s.state->sum + column);
  hn::StoreU(hn::MulAdd(sum, rescale, hn::Add(even, odd)), d, s.state->sum + column);
  return !hn::AllFalse(d, grows);
}

bool softmax_tile(const SoftmaxStep& s) {
  const size_t lanes = hn::Lanes(FloatTag());
  bool any = false;
  for (size_t column = 0; column < s.columns; column += lanes)
    any |= s.mask.needed ? softmax_column<true>(s, column) : softmax_column<false>(s, column);
  return any;
}

template <bool kMasked>
HWY_INLINE void gradient_column(const GradientStep& s, size_t column) {
  const FloatTag d;
  const LaneMask mask = kMasked ? lane_mask(s.mask, column) : LaneMask{};
  const auto factor = hn::Set(d, s.factor);
  const auto offset = hn::LoadU(d, s.log2_sum + column);
  const auto delta = hn::LoadU(d, s.delta + column);
  auto* weights = static_cast<float*>(s.weights_by_key) + column;
  auto* dscores = static_cast<float*>(s.dscores_by_key) + column;
  for (size_t key = 0; key < s.keys; ++key) {
    const size_t at = key * kTile;
    auto p = exp2_fast(d, hn::MulSub(hn::LoadU(d, s.scores + at + column), factor, offset));
    if constexpr (kMasked)
      p = hn::IfThenElseZero(sees(mask, s.mask.key0 + static_cast<int32_t>(key)), p);
    const auto dp = hn::LoadU(d, s.dweights + at + column);
    hn::StoreU(p, d, weights + at);
    hn::StoreU(hn::Mul(p, hn::Sub(dp, delta)), d, dscores + at);
  }
}

void gradient_tile(const GradientStep& s) {
  const size_t lanes = hn::Lanes(FloatTag());
  for (size_t column = 0; column < s.columns; column += lanes) {
    if (s.mask.needed)
      gradient_column<true>(s, column);
    else
      gradient_column<false>(s, column);
  }
}

void exp2_values(const float* x, size_t n, float* result) {
  const FloatTag d;
  const hn::CappedTag<float, 1> one;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(exp2_fast(d, hn::LoadU(d, x + i)), d, result + i);
  for (; i < n; ++i) hn::StoreU(exp2_fast(one, hn::LoadU(one, x + i)), one, result + i);
}

const SoftmaxSteps& steps_table() {
  static const SoftmaxSteps table{.softmax = softmax_tile, .gradient = gradient_tile};
  return table;
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
HWY_EXPORT(steps_table);
HWY_EXPORT(exp2_values);

const SoftmaxSteps& f32_softmax_steps() {
  return HWY_DYNAMIC_DISPATCH(steps_table)();
}

void exp2_of(const float* x, size_t n, float* result) {
  HWY_DYNAMIC_DISPATCH(exp2_values)(x, n, result);
}

}  // namespace cairn
#endif
