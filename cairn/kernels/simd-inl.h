// Loads and stores that read and write f32 and bf16 alike, computing in f32. Included once a
// target, after foreach_target.h, like every Highway -inl header.
#if defined(CAIRN_KERNELS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CAIRN_KERNELS_SIMD_INL_H_
#undef CAIRN_KERNELS_SIMD_INL_H_
#else
#define CAIRN_KERNELS_SIMD_INL_H_
#endif

#include <hwy/highway.h>

#include "cairn/tensor/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using FloatVector = hn::Vec<FloatTag>;

HWY_INLINE FloatVector load(FloatTag d, const float* from) {
  return hn::LoadU(d, from);
}

HWY_INLINE FloatVector load(FloatTag d, const bf16* from) {
  const hn::RebindToUnsigned<FloatTag> du32;
  const hn::Rebind<uint16_t, FloatTag> du16;
  const auto half = hn::LoadU(du16, reinterpret_cast<const uint16_t*>(from));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du32, half)));
}

HWY_INLINE void store(FloatVector v, FloatTag d, float* to) {
  hn::StoreU(v, d, to);
}

// Round to nearest even, NaN kept quiet: the bits of bf16::from_float.
HWY_INLINE void store(FloatVector v, FloatTag /*d*/, bf16* to) {
  const hn::RebindToUnsigned<FloatTag> du32;
  const hn::Rebind<uint16_t, FloatTag> du16;
  const auto word = hn::BitCast(du32, v);
  const auto odd = hn::And(hn::ShiftRight<16>(word), hn::Set(du32, 1));
  const auto rounded = hn::Add(word, hn::Add(odd, hn::Set(du32, 0x7fff)));
  const auto quiet = hn::Or(word, hn::Set(du32, 0x400000));
  const auto nan = hn::RebindMask(du32, hn::IsNaN(v));
  const auto chosen = hn::ShiftRight<16>(hn::IfThenElse(nan, quiet, rounded));
  hn::StoreU(hn::DemoteTo(du16, hn::BitCast(hn::RebindToSigned<decltype(du32)>(), chosen)), du16,
             reinterpret_cast<uint16_t*>(to));
}

HWY_INLINE float load_one(const float* from) {
  return *from;
}
HWY_INLINE float load_one(const bf16* from) {
  return from->to_float();
}
HWY_INLINE void store_one(float value, float* to) {
  *to = value;
}
HWY_INLINE void store_one(float value, bf16* to) {
  *to = bf16::from_float(value);
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
