// 2^x for vectors of float. Included once a target, after foreach_target.h.
#if defined(CAIRN_ATTENTION_EXP2_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CAIRN_ATTENTION_EXP2_INL_H_
#undef CAIRN_ATTENTION_EXP2_INL_H_
#else
#define CAIRN_ATTENTION_EXP2_INL_H_
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Relative error below 2e-7 for -126 <= x < 127; 2^-126 below that, NaN for NaN. x = n + f with f
// in
// [-1/2, 1/2]; 2^f by the polynomial of degree 5 with the smallest largest relative error (Lawson's
// algorithm, constant term 1); 2^n by adding n to the exponent bits.
template <class D, class V>
HWY_INLINE V exp2_fast(D d, V x) {
  const hn::RebindToSigned<D> di;
  const V round = hn::Set(d, 12582912.0F);  // 1.5 * 2^23: adding it rounds to a whole number
#if HWY_TARGET == HWY_EMU128 || HWY_TARGET == HWY_SCALAR
  const V low = hn::Set(d, -126.0F);
  const V clamped = hn::IfThenElse(hn::Lt(x, low), low, x);  // their Max drops NaN
#else
  const V clamped = hn::Max(hn::Set(d, -126.0F), x);  // in this order MAXPS keeps NaN
#endif
  const V shifted = hn::Add(clamped, round);
  const V f = hn::Sub(clamped, hn::Sub(shifted, round));
  V p = hn::Set(d, 1.3264727e-3F);
  p = hn::MulAdd(p, f, hn::Set(d, 9.6715127e-3F));
  p = hn::MulAdd(p, f, hn::Set(d, 5.5507337e-2F));
  p = hn::MulAdd(p, f, hn::Set(d, 0.24022242F));
  p = hn::MulAdd(p, f, hn::Set(d, 0.69314698F));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0F));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), exponent));
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
