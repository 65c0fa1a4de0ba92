#include "cairn/infer/residual_step.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/infer/residual_step.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include "cairn/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

// Two sums in flight, added in a fixed order; the rest one by one.
template <class Next>
HWY_INLINE float squares(size_t n, const Next& next) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  auto even = hn::Zero(d), odd = hn::Zero(d);
  size_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const auto a = next(i), b = next(i + lanes);
    even = hn::MulAdd(a, a, even);
    odd = hn::MulAdd(b, b, odd);
  }
  for (; i + lanes <= n; i += lanes) {
    const auto a = next(i);
    even = hn::MulAdd(a, a, even);
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd)));
}

float squares_of(const float* x, size_t n) {
  const FloatTag d;
  float sum = squares(n, [&](size_t i) HWY_ATTR { return hn::LoadU(d, x + i); });
  for (size_t i = n - n % hn::Lanes(d); i < n; ++i) sum += x[i] * x[i];
  return sum;
}

float add_and_square(const float* branch, float factor, const float* gain, size_t n, float* x) {
  const FloatTag d;
  const auto f = hn::Set(d, factor);
  const auto plain = [&](size_t i) HWY_ATTR {
    const auto sum = hn::MulAdd(hn::LoadU(d, branch + i), f, hn::LoadU(d, x + i));
    hn::StoreU(sum, d, x + i);
    return sum;
  };
  const auto gained = [&](size_t i) HWY_ATTR {
    const auto scaled = hn::Mul(hn::LoadU(d, branch + i), f);
    const auto sum = hn::MulAdd(scaled, hn::LoadU(d, gain + i), hn::LoadU(d, x + i));
    hn::StoreU(sum, d, x + i);
    return sum;
  };
  float sum = gain == nullptr ? squares(n, plain) : squares(n, gained);
  for (size_t i = n - n % hn::Lanes(d); i < n; ++i) {
    x[i] += branch[i] * factor * (gain == nullptr ? 1.0F : gain[i]);
    sum += x[i] * x[i];
  }
  return sum;
}

void scale_row(const float* x, float factor, const float* gain, size_t n, float* y) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  const auto f = hn::Set(d, factor);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, x + i), f), hn::LoadU(d, gain + i)), d, y + i);
  for (; i < n; ++i) y[i] = x[i] * factor * gain[i];
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
HWY_EXPORT(squares_of);
HWY_EXPORT(add_and_square);
HWY_EXPORT(scale_row);

float sum_of_squares(const float* x, size_t n) {
  return HWY_DYNAMIC_DISPATCH(squares_of)(x, n);
}

float add_branch(const float* branch, float factor, const float* gain, size_t n, float* x) {
  return HWY_DYNAMIC_DISPATCH(add_and_square)(branch, factor, gain, n, x);
}

void scale_by(const float* x, float factor, const float* gain, size_t n, float* y) {
  HWY_DYNAMIC_DISPATCH(scale_row)(x, factor, gain, n, y);
}

}  // namespace cairn
#endif
