#include "cairn/kernels/norms.h"

#include <cmath>

#include "cairn/tensor/shape.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/kernels/norms.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include "cairn/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

// Two accumulators hide the latency of the add; the order of sums is fixed by the width alone.
HWY_INLINE float sum_of_squares(const float* x, size_t n) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  auto even = hn::Zero(d), odd = hn::Zero(d);
  size_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const auto a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + i + lanes);
    even = hn::MulAdd(a, a, even);
    odd = hn::MulAdd(b, b, odd);
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd)));
  for (; i < n; ++i) sum += x[i] * x[i];
  return sum;
}

HWY_INLINE float inverse_rms(const float* x, size_t n, float eps) {
  return 1.0F / std::sqrt(sum_of_squares(x, n) / static_cast<float>(n) + eps);
}

// The gain of a stored weight. With no offset and a factor of 1 it is the weight, to the bit.
struct Gain {
  Gain(const float* w, const NormOptions& options)
      : weight(w), factor(options.factor), shift(options.factor * options.offset) {}
  HWY_INLINE FloatVector load(FloatTag d, size_t i) const {
    return hn::MulAdd(hn::LoadU(d, weight + i), hn::Set(d, factor), hn::Set(d, shift));
  }
  HWY_INLINE float one(size_t i) const { return weight[i] * factor + shift; }

  const float* weight;
  float factor, shift;
};

template <class Y>
void rms_norm_rows(View2<const float> x, const float* weight, const NormOptions& options,
                   View2<Y> y) {
  const FloatTag d;
  const Gain gain(weight, options);
  const size_t lanes = hn::Lanes(d), n = x.cols, whole = n - n % lanes;
  for (size_t row = 0; row < x.rows; ++row) {
    const float* in = x.data + row * x.stride;
    Y* out = y.data + row * y.stride;
    const float r = inverse_rms(in, n, options.eps);
    const auto scale = hn::Set(d, r);
    for (size_t i = 0; i < whole; i += lanes)
      store(hn::Mul(hn::Mul(hn::LoadU(d, in + i), scale), gain.load(d, i)), d, out + i);
    for (size_t i = whole; i < n; ++i) store_one(in[i] * r * gain.one(i), out + i);
  }
}

template <class Y>
HWY_INLINE float weighted_dot(const float* x, const Gain& gain, const Y* dy, size_t n) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d), whole = n - n % lanes;
  auto total = hn::Zero(d);
  for (size_t i = 0; i < whole; i += lanes)
    total = hn::MulAdd(hn::Mul(load(d, dy + i), gain.load(d, i)), hn::LoadU(d, x + i), total);
  float dot = hn::GetLane(hn::SumOfLanes(d, total));
  for (size_t i = whole; i < n; ++i) dot += load_one(dy + i) * gain.one(i) * x[i];
  return dot;
}

template <class Y>
void rms_norm_backward_rows(View2<const float> x, const float* weight, const NormOptions& options,
                            View2<const Y> dy, View2<float> dx, float* dweight, bool accumulate) {
  const FloatTag d;
  const Gain gain(weight, options);
  const size_t lanes = hn::Lanes(d), n = x.cols, whole = n - n % lanes;
  for (size_t row = 0; row < x.rows; ++row) {
    const float* in = x.data + row * x.stride;
    const Y* grad = dy.data + row * dy.stride;
    float* out = dx.data + row * dx.stride;
    const float r = inverse_rms(in, n, options.eps);
    const float c = r * r * weighted_dot(in, gain, grad, n) / static_cast<float>(n);
    const auto vr = hn::Set(d, r), vc = hn::Set(d, c), vw = hn::Set(d, r * options.factor);
    for (size_t i = 0; i < whole; i += lanes) {
      const auto xi = hn::LoadU(d, in + i), gi = load(d, grad + i);
      store(hn::MulAdd(gi, hn::Mul(xi, vw), hn::LoadU(d, dweight + i)), d, dweight + i);
      const auto g = hn::Mul(gi, gain.load(d, i));
      const auto before = accumulate ? hn::LoadU(d, out + i) : hn::Zero(d);
      store(hn::MulAdd(vr, hn::NegMulAdd(xi, vc, g), before), d, out + i);
    }
    for (size_t i = whole; i < n; ++i) {
      const float gi = load_one(grad + i);
      dweight[i] += gi * in[i] * r * options.factor;
      out[i] = (accumulate ? out[i] : 0.0F) + r * (gi * gain.one(i) - in[i] * c);
    }
  }
}

// HWY_EXPORT takes plain functions.
void norm_f32(View2<const float> x, const float* w, const NormOptions& options, View2<float> y) {
  rms_norm_rows(x, w, options, y);
}
void norm_bf16(View2<const float> x, const float* w, const NormOptions& options, View2<bf16> y) {
  rms_norm_rows(x, w, options, y);
}
void norm_backward_f32(View2<const float> x, const float* w, const NormOptions& options,
                       View2<const float> dy, View2<float> dx, float* dw, bool accumulate) {
  rms_norm_backward_rows(x, w, options, dy, dx, dw, accumulate);
}
void norm_backward_bf16(View2<const float> x, const float* w, const NormOptions& options,
                        View2<const bf16> dy, View2<float> dx, float* dw, bool accumulate) {
  rms_norm_backward_rows(x, w, options, dy, dx, dw, accumulate);
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
HWY_EXPORT(norm_f32);
HWY_EXPORT(norm_bf16);
HWY_EXPORT(norm_backward_f32);
HWY_EXPORT(norm_backward_bf16);

namespace {

void check(View2<const float> x, View1<const float> weight, size_t rows, size_t cols) {
  check_shape("rms_norm", "weight", {x.cols}, {weight.size});
  check_shape("rms_norm", "y", {x.rows, x.cols}, {rows, cols});
}

}  // namespace

void rms_norm(View2<const float> x, View1<const float> weight, const NormOptions& options,
              View2<float> y) {
  check(x, weight, y.rows, y.cols);
  HWY_DYNAMIC_DISPATCH(norm_f32)(x, weight.data, options, y);
}

void rms_norm(View2<const float> x, View1<const float> weight, const NormOptions& options,
              View2<bf16> y) {
  check(x, weight, y.rows, y.cols);
  HWY_DYNAMIC_DISPATCH(norm_bf16)(x, weight.data, options, y);
}

void rms_norm_backward(View2<const float> x, View1<const float> weight, const NormOptions& options,
                       View2<const float> dy, View2<float> dx, View1<float> dweight,
                       bool accumulate) {
  check(x, weight, dy.rows, dy.cols);
  check(x, dweight, dx.rows, dx.cols);
  HWY_DYNAMIC_DISPATCH(norm_backward_f32)
  (x, weight.data, options, dy, dx, dweight.data, accumulate);
}

void rms_norm_backward(View2<const float> x, View1<const float> weight, const NormOptions& options,
                       View2<const bf16> dy, View2<float> dx, View1<float> dweight,
                       bool accumulate) {
  check(x, weight, dy.rows, dy.cols);
  check(x, dweight, dx.rows, dx.cols);
  HWY_DYNAMIC_DISPATCH(norm_backward_bf16)
  (x, weight.data, options, dy, dx, dweight.data, accumulate);
}

}  // namespace cairn
#endif
