#include "cairn/kernels/adamw.h"

#include <cmath>

#include "cairn/tensor/shape.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/kernels/adamw.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include "cairn/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

template <class D>
HWY_INLINE auto update_lanes(D d, const AdamWScalars& s, float* w, float* g, float* m, float* v) {
  const auto gradient = hn::Mul(hn::LoadU(d, g), hn::Set(d, s.scale));
  const auto scaled = hn::Mul(hn::Set(d, 1 - s.beta1), gradient);
  const auto first = hn::MulAdd(hn::Set(d, s.beta1), hn::LoadU(d, m), scaled);
  const auto squared = hn::Mul(hn::Set(d, 1 - s.beta2), hn::Mul(gradient, gradient));
  const auto second = hn::MulAdd(hn::Set(d, s.beta2), hn::LoadU(d, v), squared);
  const auto root = hn::MulAdd(hn::Sqrt(second), hn::Set(d, s.inverse_sqrt_v), hn::Set(d, s.eps));
  const auto step = hn::Div(hn::Mul(hn::Set(d, s.step_size), first), root);
  // Named as one operation, or the compiler would fuse it for some vector widths only.
  const auto weight = hn::MulSub(hn::LoadU(d, w), hn::Set(d, s.keep), step);
  hn::StoreU(weight, d, w);
  hn::StoreU(first, d, m);
  hn::StoreU(second, d, v);
  hn::StoreU(hn::Zero(d), d, g);
  return weight;
}

void adamw_range(const AdamWScalars& scalars, size_t n, float* w, float* g, float* m, float* v,
                 bf16* copy) {
  const FloatTag d;
  const hn::CappedTag<float, 1> one;  // the tail, lane by lane: the same operations, so the same
                                      // bits wherever a range is cut
  const size_t lanes = hn::Lanes(d), whole = n - n % lanes;
  for (size_t i = 0; i < whole; i += lanes) {
    const auto weight = update_lanes(d, scalars, w + i, g + i, m + i, v + i);
    if (copy != nullptr) store(weight, d, copy + i);
  }
  for (size_t i = whole; i < n; ++i) {
    update_lanes(one, scalars, w + i, g + i, m + i, v + i);
    if (copy != nullptr) store_one(w[i], copy + i);
  }
}

double sum_of_squares_range(const float* x, size_t n) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> half;
  const size_t lanes = hn::Lanes(d), whole = n - n % (2 * lanes);
  auto even = hn::Zero(d), odd = hn::Zero(d);  // two sums hide the latency of the additions
  for (size_t i = 0; i < whole; i += 2 * lanes) {
    const auto a = hn::PromoteTo(d, hn::LoadU(half, x + i));
    const auto b = hn::PromoteTo(d, hn::LoadU(half, x + i + lanes));
    even = hn::MulAdd(a, a, even);
    odd = hn::MulAdd(b, b, odd);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd)));
  for (size_t i = whole; i < n; ++i) sum += double{x[i]} * double{x[i]};
  return sum;
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
HWY_EXPORT(adamw_range);
HWY_EXPORT(sum_of_squares_range);

AdamWScalars adamw_scalars(double lr, double beta1, double beta2, double eps, double decay,
                           double scale, uint64_t step) {
  const auto t = static_cast<double>(step);
  return {.scale = static_cast<float>(scale),
          .beta1 = static_cast<float>(beta1),
          .beta2 = static_cast<float>(beta2),
          .eps = static_cast<float>(eps),
          .keep = static_cast<float>(1 - lr * decay),
          .step_size = static_cast<float>(lr / (1 - std::pow(beta1, t))),
          .inverse_sqrt_v = static_cast<float>(1 / std::sqrt(1 - std::pow(beta2, t)))};
}

void adamw(const AdamWScalars& scalars, View1<float> weights, View1<float> gradient, View1<float> m,
           View1<float> v, View1<bf16> copy) {
  const size_t n = weights.size;
  check_shape("adamw", "gradient", {n}, {gradient.size});
  check_shape("adamw", "m", {n}, {m.size});
  check_shape("adamw", "v", {n}, {v.size});
  if (!copy.empty()) check_shape("adamw", "copy", {n}, {copy.size});
  HWY_DYNAMIC_DISPATCH(adamw_range)
  (scalars, n, weights.data, gradient.data, m.data, v.data, copy.data);
}

double sum_of_squares(View1<const float> x) {
  return HWY_DYNAMIC_DISPATCH(sum_of_squares_range)(x.data, x.size);
}

}  // namespace cairn
#endif
