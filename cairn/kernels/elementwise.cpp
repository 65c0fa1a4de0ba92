#include "cairn/kernels/elementwise.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "cairn/tensor/shape.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/kernels/elementwise.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include <hwy/contrib/math/math-inl.h>

#include "cairn/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

template <class From, class To>
void convert_rows(View2<const From> from, View2<To> to) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d), n = from.cols, whole = n - n % lanes;
  for (size_t row = 0; row < from.rows; ++row) {
    const From* in = from.data + row * from.stride;
    To* out = to.data + row * to.stride;
    for (size_t i = 0; i < whole; i += lanes) store(load(d, in + i), d, out + i);
    for (size_t i = whole; i < n; ++i) store_one(load_one(in + i), out + i);
  }
}

void f32_to_bf16(View2<const float> from, View2<bf16> to) {
  convert_rows(from, to);
}
void bf16_to_f32(View2<const bf16> from, View2<float> to) {
  convert_rows(from, to);
}

void add_rows(View2<const float> from, View2<float> to) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d), n = from.cols, whole = n - n % lanes;
  for (size_t row = 0; row < from.rows; ++row) {
    const float* in = from.data + row * from.stride;
    float* out = to.data + row * to.stride;
    for (size_t i = 0; i < whole; i += lanes)
      store(hn::Add(hn::LoadU(d, in + i), hn::LoadU(d, out + i)), d, out + i);
    for (size_t i = whole; i < n; ++i) out[i] += in[i];
  }
}

template <class From>
void add_scaled_rows(View2<const From> from, float factor, View2<float> to) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d), n = from.cols, whole = n - n % lanes;
  const auto f = hn::Set(d, factor);
  for (size_t row = 0; row < from.rows; ++row) {
    const From* in = from.data + row * from.stride;
    float* out = to.data + row * to.stride;
    for (size_t i = 0; i < whole; i += lanes)
      store(hn::Add(hn::Mul(load(d, in + i), f), hn::LoadU(d, out + i)), d, out + i);
    for (size_t i = whole; i < n; ++i) out[i] += load_one(in + i) * factor;
  }
}

void add_scaled_f32(View2<const float> from, float factor, View2<float> to) {
  add_scaled_rows(from, factor, to);
}
void add_scaled_bf16(View2<const bf16> from, float factor, View2<float> to) {
  add_scaled_rows(from, factor, to);
}

template <class To>
void scale_rows(View2<const float> from, float factor, View2<To> to) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d), n = from.cols, whole = n - n % lanes;
  const auto f = hn::Set(d, factor);
  for (size_t row = 0; row < from.rows; ++row) {
    const float* in = from.data + row * from.stride;
    To* out = to.data + row * to.stride;
    for (size_t i = 0; i < whole; i += lanes) store(hn::Mul(hn::LoadU(d, in + i), f), d, out + i);
    for (size_t i = whole; i < n; ++i) store_one(in[i] * factor, out + i);
  }
}

void scale_to_f32(View2<const float> from, float factor, View2<float> to) {
  scale_rows(from, factor, to);
}
void scale_to_bf16(View2<const float> from, float factor, View2<bf16> to) {
  scale_rows(from, factor, to);
}

float max_sum_exp(const float* x, size_t n, float* sum) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d), whole = n - n % lanes;
  auto most = hn::Set(d, -std::numeric_limits<float>::infinity());
  for (size_t i = 0; i < whole; i += lanes) most = hn::Max(most, hn::LoadU(d, x + i));
  float max = hn::GetLane(hn::MaxOfLanes(d, most));
  for (size_t i = whole; i < n; ++i) max = std::max(max, x[i]);
  const auto shift = hn::Set(d, max);
  auto total = hn::Zero(d);
  for (size_t i = 0; i < whole; i += lanes)
    total = hn::Add(total, hn::Exp(d, hn::Sub(hn::LoadU(d, x + i), shift)));
  float rest = 0;
  for (size_t i = whole; i < n; ++i) rest += std::exp(x[i] - max);
  *sum = hn::GetLane(hn::SumOfLanes(d, total)) + rest;
  return max;
}

template <class To>
void exp_minus_row(const float* x, size_t n, float log_sum, To* to) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d), whole = n - n % lanes;
  const auto shift = hn::Set(d, log_sum);
  for (size_t i = 0; i < whole; i += lanes)
    store(hn::Exp(d, hn::Sub(hn::LoadU(d, x + i), shift)), d, to + i);
  for (size_t i = whole; i < n; ++i) store_one(std::exp(x[i] - log_sum), to + i);
}

void exp_minus_f32(const float* x, size_t n, float log_sum, float* to) {
  exp_minus_row(x, n, log_sum, to);
}
void exp_minus_bf16(const float* x, size_t n, float log_sum, bf16* to) {
  exp_minus_row(x, n, log_sum, to);
}

// x - x is 0 for finite x and NaN otherwise; a sum of those is 0 only if all are finite.
template <class T>
bool finite_span(const T* x, size_t n) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d), whole = n - n % lanes;
  auto total = hn::Zero(d);
  for (size_t i = 0; i < whole; i += lanes) {
    const auto v = load(d, x + i);
    total = hn::Add(total, hn::Sub(v, v));
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, total));
  for (size_t i = whole; i < n; ++i) sum += load_one(x + i) - load_one(x + i);
  return sum == 0.0F;
}

bool finite_f32(const float* x, size_t n) {
  return finite_span(x, n);
}
bool finite_bf16(const bf16* x, size_t n) {
  return finite_span(x, n);
}

size_t first_above_f32(const float* x, size_t begin, size_t n, float limit) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  const auto most = hn::Set(d, limit);
  size_t i = begin;
  for (; i + lanes <= n; i += lanes) {
    const auto below = hn::Le(hn::LoadU(d, x + i), most);  // false for NaN
    if (hn::AllTrue(d, below)) continue;
    return i + static_cast<size_t>(hn::FindFirstTrue(d, hn::Not(below)));
  }
  while (i < n && x[i] <= limit) ++i;
  return i;
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
HWY_EXPORT(f32_to_bf16);
HWY_EXPORT(bf16_to_f32);
HWY_EXPORT(add_rows);
HWY_EXPORT(add_scaled_f32);
HWY_EXPORT(add_scaled_bf16);
HWY_EXPORT(scale_to_f32);
HWY_EXPORT(scale_to_bf16);
HWY_EXPORT(max_sum_exp);
HWY_EXPORT(exp_minus_f32);
HWY_EXPORT(exp_minus_bf16);
HWY_EXPORT(finite_f32);
HWY_EXPORT(finite_bf16);
HWY_EXPORT(first_above_f32);

void convert(View2<const float> from, View2<bf16> to) {
  check_shape("convert", "to", {from.rows, from.cols}, {to.rows, to.cols});
  HWY_DYNAMIC_DISPATCH(f32_to_bf16)(from, to);
}

void convert(View2<const bf16> from, View2<float> to) {
  check_shape("convert", "to", {from.rows, from.cols}, {to.rows, to.cols});
  HWY_DYNAMIC_DISPATCH(bf16_to_f32)(from, to);
}

void copy(View2<const float> from, View2<float> to) {
  check_shape("copy", "to", {from.rows, from.cols}, {to.rows, to.cols});
  for (size_t row = 0; row < from.rows; ++row)
    std::memcpy(to[row].data, from[row].data, from.cols * sizeof(float));
}

void add(View2<const float> from, View2<float> to) {
  check_shape("add", "to", {from.rows, from.cols}, {to.rows, to.cols});
  HWY_DYNAMIC_DISPATCH(add_rows)(from, to);
}

void add_scaled(View2<const float> from, float factor, View2<float> to) {
  check_shape("add_scaled", "to", {from.rows, from.cols}, {to.rows, to.cols});
  HWY_DYNAMIC_DISPATCH(add_scaled_f32)(from, factor, to);
}

void add_scaled(View2<const bf16> from, float factor, View2<float> to) {
  check_shape("add_scaled", "to", {from.rows, from.cols}, {to.rows, to.cols});
  HWY_DYNAMIC_DISPATCH(add_scaled_bf16)(from, factor, to);
}

void scale(View2<const float> from, float factor, View2<float> to) {
  check_shape("scale", "to", {from.rows, from.cols}, {to.rows, to.cols});
  HWY_DYNAMIC_DISPATCH(scale_to_f32)(from, factor, to);
}

void scale(View2<const float> from, float factor, View2<bf16> to) {
  check_shape("scale", "to", {from.rows, from.cols}, {to.rows, to.cols});
  HWY_DYNAMIC_DISPATCH(scale_to_bf16)(from, factor, to);
}

float max_and_sum_exp(View1<const float> logits, float& sum) {
  return HWY_DYNAMIC_DISPATCH(max_sum_exp)(logits.data, logits.size, &sum);
}

void exp_minus(View1<float> logits, float log_sum) {
  HWY_DYNAMIC_DISPATCH(exp_minus_f32)(logits.data, logits.size, log_sum, logits.data);
}

void exp_minus(View1<const float> logits, float log_sum, bf16* probabilities) {
  HWY_DYNAMIC_DISPATCH(exp_minus_bf16)(logits.data, logits.size, log_sum, probabilities);
}

bool all_finite(View1<const float> values) {
  return HWY_DYNAMIC_DISPATCH(finite_f32)(values.data, values.size);
}

bool all_finite(View1<const bf16> values) {
  return HWY_DYNAMIC_DISPATCH(finite_bf16)(values.data, values.size);
}

size_t first_above(View1<const float> values, size_t begin, float limit) {
  return HWY_DYNAMIC_DISPATCH(first_above_f32)(values.data, begin, values.size, limit);
}

}  // namespace cairn
#endif
