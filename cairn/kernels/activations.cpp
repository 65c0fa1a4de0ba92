#include "cairn/kernels/activations.h"

#include <cmath>

#include "cairn/tensor/shape.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/kernels/activations.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include <hwy/contrib/math/math-inl.h>

#include "cairn/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

HWY_INLINE FloatVector sigmoid(FloatTag d, FloatVector x) {
  const auto one = hn::Set(d, 1.0F);
  return hn::Div(one, hn::Add(one, hn::Exp(d, hn::Neg(x))));
}

HWY_INLINE float sigmoid_one(float x) {
  return 1.0F / (1.0F + std::exp(-x));
}

template <class T>
void swiglu_rows(View2<const T> gate_up, View2<T> y) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d), n = y.cols, whole = n - n % lanes;
  for (size_t row = 0; row < y.rows; ++row) {
    const T* gate = gate_up.data + row * gate_up.stride;
    const T* up = gate + n;
    T* out = y.data + row * y.stride;
    for (size_t i = 0; i < whole; i += lanes) {
      const auto g = load(d, gate + i);
      store(hn::Mul(hn::Mul(g, sigmoid(d, g)), load(d, up + i)), d, out + i);
    }
    for (size_t i = whole; i < n; ++i) {
      const float g = load_one(gate + i);
      store_one(g * sigmoid_one(g) * load_one(up + i), out + i);
    }
  }
}

template <class T>
void swiglu_backward_rows(View2<const T> gate_up, View2<const T> dy, View2<T> dgate_up) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d), n = dy.cols, whole = n - n % lanes;
  const auto one = hn::Set(d, 1.0F);
  for (size_t row = 0; row < dy.rows; ++row) {
    const T* gate = gate_up.data + row * gate_up.stride;
    const T* up = gate + n;
    const T* grad = dy.data + row * dy.stride;
    T* dgate = dgate_up.data + row * dgate_up.stride;
    T* dup = dgate + n;
    for (size_t i = 0; i < whole; i += lanes) {
      const auto g = load(d, gate + i), u = load(d, up + i), dout = load(d, grad + i);
      const auto s = sigmoid(d, g);
      const auto slope = hn::Mul(s, hn::MulAdd(g, hn::Sub(one, s), one));
      store(hn::Mul(hn::Mul(dout, u), slope), d, dgate + i);
      store(hn::Mul(dout, hn::Mul(g, s)), d, dup + i);
    }
    for (size_t i = whole; i < n; ++i) {
      const float g = load_one(gate + i), u = load_one(up + i), dout = load_one(grad + i);
      const float s = sigmoid_one(g);
      store_one(dout * u * s * (1.0F + g * (1.0F - s)), dgate + i);
      store_one(dout * g * s, dup + i);
    }
  }
}

void swiglu_f32(View2<const float> in, View2<float> y) {
  swiglu_rows(in, y);
}
void swiglu_bf16(View2<const bf16> in, View2<bf16> y) {
  swiglu_rows(in, y);
}
void swiglu_backward_f32(View2<const float> in, View2<const float> dy, View2<float> din) {
  swiglu_backward_rows(in, dy, din);
}
void swiglu_backward_bf16(View2<const bf16> in, View2<const bf16> dy, View2<bf16> din) {
  swiglu_backward_rows(in, dy, din);
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
HWY_EXPORT(swiglu_f32);
HWY_EXPORT(swiglu_bf16);
HWY_EXPORT(swiglu_backward_f32);
HWY_EXPORT(swiglu_backward_bf16);

void swiglu(View2<const float> gate_up, View2<float> y) {
  check_shape("swiglu", "gate_up", {y.rows, 2 * y.cols}, {gate_up.rows, gate_up.cols});
  HWY_DYNAMIC_DISPATCH(swiglu_f32)(gate_up, y);
}

void swiglu(View2<const bf16> gate_up, View2<bf16> y) {
  check_shape("swiglu", "gate_up", {y.rows, 2 * y.cols}, {gate_up.rows, gate_up.cols});
  HWY_DYNAMIC_DISPATCH(swiglu_bf16)(gate_up, y);
}

void swiglu_backward(View2<const float> gate_up, View2<const float> dy, View2<float> dgate_up) {
  check_shape("swiglu_backward", "gate_up", {dy.rows, 2 * dy.cols}, {gate_up.rows, gate_up.cols});
  check_shape("swiglu_backward", "dgate_up", {dy.rows, 2 * dy.cols},
              {dgate_up.rows, dgate_up.cols});
  HWY_DYNAMIC_DISPATCH(swiglu_backward_f32)(gate_up, dy, dgate_up);
}

void swiglu_backward(View2<const bf16> gate_up, View2<const bf16> dy, View2<bf16> dgate_up) {
  check_shape("swiglu_backward", "gate_up", {dy.rows, 2 * dy.cols}, {gate_up.rows, gate_up.cols});
  check_shape("swiglu_backward", "dgate_up", {dy.rows, 2 * dy.cols},
              {dgate_up.rows, dgate_up.cols});
  HWY_DYNAMIC_DISPATCH(swiglu_backward_bf16)(gate_up, dy, dgate_up);
}

}  // namespace cairn
#endif
