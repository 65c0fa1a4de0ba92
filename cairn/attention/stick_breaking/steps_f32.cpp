#include "cairn/attention/stick_breaking/steps.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/attention/stick_breaking/steps_f32.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include "cairn/attention/exp2-inl.h"
#include "cairn/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

// 1 / x to the last bit or two, x in [1, 2^126].
template <class D, class V>
HWY_INLINE V inverse(D d, V x) {
#if HWY_TARGET <= HWY_AVX3
  // 14 bits and one step of Newton; on other targets the approximation has only 12 or 8.
  const V y = hn::ApproximateReciprocal(x);
  return hn::MulAdd(y, hn::NegMulAdd(x, y, hn::Set(d, 1.0F)), y);
#else
  return hn::Div(hn::Set(d, 1.0F), x);
#endif
}

// min(x, 126), NaN for NaN: 2^126 is far from overflow and its inverse still normal.
template <class D, class V>
HWY_INLINE V capped(D d, V x) {
  const V high = hn::Set(d, 126.0F);
#if HWY_TARGET == HWY_EMU128 || HWY_TARGET == HWY_SCALAR
  return hn::IfThenElse(hn::Gt(x, high), high, x);  // their Min drops NaN
#else
  return hn::Min(high, x);  // in this order MINPS keeps NaN
#endif
}

// beta and 1 - beta, the latter without cancellation.
struct Gate {
  FloatVector beta, rest;
};

HWY_INLINE Gate gate_of(const GateRule& rule, FloatVector score) {
  const FloatTag d;
  const auto x = hn::MulAdd(score, hn::Set(d, rule.factor), hn::Set(d, rule.offset));
  const auto e = exp2_fast(d, capped(d, x));
  const auto beta = inverse(d, hn::Add(e, hn::Set(d, 1.0F)));
  return {beta, hn::Mul(e, beta)};
}

// The places of the queries of a vector, moved by the rule's shift.
HWY_INLINE hn::Vec<hn::RebindToSigned<FloatTag>> last_seen(const GateRule& rule, size_t column) {
  const hn::RebindToSigned<FloatTag> di;
  return hn::Iota(di, static_cast<int32_t>(column) + rule.shift);
}

HWY_INLINE hn::Mask<FloatTag> open(const GateRule& rule, hn::Vec<hn::RebindToSigned<FloatTag>> last,
                                   size_t key, FloatVector beta) {
  const hn::RebindToSigned<FloatTag> di;
  const FloatTag d;
  const auto hidden = hn::RebindMask(d, hn::Gt(hn::Set(di, static_cast<int32_t>(key)), last));
  const auto low = hn::Lt(beta, hn::Set(d, rule.floor));
  const auto closed = hn::Or(hn::VecFromMask(d, hidden), hn::VecFromMask(d, low));
  return hn::RebindMask(d, hn::Eq(hn::BitCast(di, closed), hn::Zero(di)));
}

template <bool kRestricted>
HWY_INLINE void attend_column(const StickStep& s, size_t column) {
  const FloatTag d;
  const auto last = last_seen(s.gate, column);
  const auto one = hn::Set(d, 1.0F);
  const auto stick = hn::LoadU(d, s.stick + column);
  auto* weights = static_cast<float*>(s.weights) + column;
  auto consumed = hn::Zero(d), product = one;
  for (size_t key = s.keys; key-- > 0;) {
    Gate gate = gate_of(s.gate, hn::LoadU(d, s.scores + key * kTile + column));
    if constexpr (kRestricted) {
      const auto is_open = open(s.gate, last, key, gate.beta);
      gate.beta = hn::IfThenElseZero(is_open, gate.beta);
      gate.rest = hn::IfThenElse(is_open, gate.rest, one);
    }
    const auto left = hn::Sub(one, consumed);
    consumed = hn::MulAdd(gate.beta, left, consumed);
    product = hn::Mul(product, gate.rest);
    hn::StoreU(hn::Mul(hn::Mul(gate.beta, left), stick), d, weights + key * kTile);
  }
  hn::StoreU(consumed, d, s.consumed + column);
  hn::StoreU(product, d, s.product + column);
}

void attend_tile(const StickStep& s) {
  const size_t lanes = hn::Lanes(FloatTag());
  for (size_t column = 0; column < s.columns; column += lanes) {
    if (s.gate.restricted)
      attend_column<true>(s, column);
    else
      attend_column<false>(s, column);
  }
}

// What the walk back over the keys leaves for the walk forth, of one vector of queries.
struct Walk {
  HWY_ALIGN float beta[kTile * HWY_MAX_BYTES / sizeof(float)];
  HWY_ALIGN float slope[kTile * HWY_MAX_BYTES / sizeof(float)];  // beta (1 - beta) S
};

template <bool kRestricted>
HWY_INLINE void walk_back(const StickGradientStep& s, size_t column, Walk& walk) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  const auto last = last_seen(s.gate, column);
  const auto one = hn::Set(d, 1.0F);
  const auto stick = hn::LoadU(d, s.stick + column);
  auto* weights = static_cast<float*>(s.weights_by_key) + column;
  auto consumed = hn::Zero(d);
  for (size_t key = s.keys; key-- > 0;) {
    Gate gate = gate_of(s.gate, hn::LoadU(d, s.scores + key * kTile + column));
    if constexpr (kRestricted) {
      const auto is_open = open(s.gate, last, key, gate.beta);
      gate.beta = hn::IfThenElseZero(is_open, gate.beta);
      // Of keys that are not seen not even the product is known.
      float* gain = s.dweights + key * kTile + column;
      hn::StoreU(hn::IfThenElseZero(is_open, hn::LoadU(d, gain)), d, gain);
      gate.rest = hn::IfThenElseZero(is_open, gate.rest);
    }
    const auto left = hn::Sub(one, consumed);
    consumed = hn::MulAdd(gate.beta, left, consumed);
    const auto weight = hn::Mul(hn::Mul(gate.beta, left), stick);
    hn::StoreU(weight, d, weights + key * kTile);
    hn::Store(gate.beta, d, walk.beta + key * lanes);
    hn::Store(hn::Mul(weight, gate.rest), d, walk.slope + key * lanes);
  }
}

HWY_INLINE void walk_forth(const StickGradientStep& s, size_t column, const Walk& walk) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  const auto worth = hn::LoadU(d, s.worth + column);
  auto* dz = static_cast<float*>(s.dz_by_key) + column;
  auto grown = hn::Zero(d), sum = hn::Zero(d);
  for (size_t key = 0; key < s.keys; ++key) {
    const auto g = hn::LoadU(d, s.dweights + key * kTile + column);
    const auto gain = hn::Sub(hn::Sub(g, worth), grown);
    grown = hn::MulAdd(hn::Load(d, walk.beta + key * lanes), gain, grown);
    const auto slope = hn::Mul(hn::Load(d, walk.slope + key * lanes), gain);
    sum = hn::Add(sum, slope);
    hn::StoreU(slope, d, dz + key * kTile);
  }
  hn::StoreU(grown, d, s.dworth + column);
  hn::StoreU(sum, d, s.dlogit + column);
}

void gradient_tile(const StickGradientStep& s) {
  const size_t lanes = hn::Lanes(FloatTag());
  Walk walk;
  for (size_t column = 0; column < s.columns; column += lanes) {
    if (s.gate.restricted)
      walk_back<true>(s, column, walk);
    else
      walk_back<false>(s, column, walk);
    walk_forth(s, column, walk);
  }
}

void gates(const float* x, size_t n, float* beta) {
  const FloatTag d;
  const hn::CappedTag<float, 1> one;
  const auto gate = [](auto tag, const float* from, float* to) {
    const auto e = exp2_fast(tag, capped(tag, hn::LoadU(tag, from)));
    hn::StoreU(inverse(tag, hn::Add(e, hn::Set(tag, 1.0F))), tag, to);
  };
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) gate(d, x + i, beta + i);
  for (; i < n; ++i) gate(one, x + i, beta + i);
}

const StickSteps& stick_steps_table() {
  static const StickSteps table{.attend = attend_tile, .gradient = gradient_tile};
  return table;
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
HWY_EXPORT(stick_steps_table);
HWY_EXPORT(gates);

const StickSteps& f32_stick_steps() {
  return HWY_DYNAMIC_DISPATCH(stick_steps_table)();
}

void gates_of(const float* x, size_t n, float* beta) {
  HWY_DYNAMIC_DISPATCH(gates)(x, n, beta);
}

}  // namespace cairn
#endif
