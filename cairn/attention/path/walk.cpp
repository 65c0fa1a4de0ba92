#include "cairn/attention/path/walk.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/attention/path/walk.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include "cairn/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

HWY_INLINE float dot(const float* a, const float* b, size_t n) {
  const FloatTag d;
  auto sum = hn::Zero(d);
  size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d))
    sum = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum);
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < n; ++i) total += a[i] * b[i];
  return total;
}

HWY_INLINE void subtract(float factor, const float* from, size_t n, float* to) {
  const FloatTag d;
  const auto scale = hn::Set(d, factor);
  size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d))
    hn::StoreU(hn::NegMulAdd(scale, hn::LoadU(d, from + i), hn::LoadU(d, to + i)), d, to + i);
  for (; i < n; ++i) to[i] -= factor * from[i];
}

void walk(const PendingTokens& p, const WalkingQueries& queries) {
  for (size_t j = p.tokens; j-- > 0;) {
    const float* k = p.k + j * p.k_stride;
    for (size_t q = 0; q < queries.count; ++q)
      queries.scores[q * queries.scores_stride + j] =
          dot(k, queries.x + q * queries.x_stride, p.dim);
    for (size_t m = p.products; m-- > 0;) {
      const size_t row = j * p.products + m;
      const float* w = p.w + row * p.w_stride;
      const float beta = p.beta[row * p.beta_stride];
      for (size_t q = 0; q < queries.count; ++q) {
        float* x = queries.x + q * queries.x_stride;
        subtract(beta * dot(w, x, p.dim), w, p.dim, x);
      }
    }
  }
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
HWY_EXPORT(walk);

void walk_pending(const PendingTokens& tokens, const WalkingQueries& queries) {
  HWY_DYNAMIC_DISPATCH(walk)(tokens, queries);
}

}  // namespace cairn
#endif
