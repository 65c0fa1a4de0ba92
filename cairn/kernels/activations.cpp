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

// The argument of the sigmoid and its derivative.
struct Silu {
  HWY_INLINE FloatVector argument(FloatTag /*d*/, FloatVector g) const { return g; }
  HWY_INLINE FloatVector slope(FloatTag d, FloatVector /*g*/) const { return hn::Set(d, 1.0F); }
  float argument(float g) const { return g; }
  float slope(float /*g*/) const { return 1.0F; }
};

struct Gelu {
  static constexpr float kLinear = 1.5957691216F;  // 2 sqrt(2 / pi)
  static constexpr float kCubic = 0.044715F * kLinear;
  HWY_INLINE FloatVector argument(FloatTag d, FloatVector g) const {
    const auto inner = hn::MulAdd(hn::Mul(g, g), hn::Set(d, kCubic), hn::Set(d, kLinear));
    return hn::Mul(g, inner);
  }
  HWY_INLINE FloatVector slope(FloatTag d, FloatVector g) const {
    return hn::MulAdd(hn::Mul(g, g), hn::Set(d, 3 * kCubic), hn::Set(d, kLinear));
  }
  float argument(float g) const { return g * (g * g * kCubic + kLinear); }
  float slope(float g) const { return g * g * 3 * kCubic + kLinear; }
};

// act(g) = g * share(g), and act' from g and its share.
template <class A>
struct SigmoidGate {
  HWY_INLINE FloatVector share(FloatTag d, FloatVector g) const {
    return sigmoid(d, A().argument(d, g));
  }
  HWY_INLINE FloatVector derivative(FloatTag d, FloatVector g, FloatVector s) const {
    const auto one = hn::Set(d, 1.0F);
    const auto bend = hn::Mul(g, A().slope(d, g));
    return hn::Mul(s, hn::MulAdd(bend, hn::Sub(one, s), one));
  }
  float share(float g) const { return sigmoid_one(A().argument(g)); }
  float derivative(float g, float s) const { return s * (1.0F + g * A().slope(g) * (1.0F - s)); }
};

struct ReluGate {
  HWY_INLINE FloatVector share(FloatTag d, FloatVector g) const {
    return hn::IfThenElseZero(hn::Gt(g, hn::Zero(d)), hn::Set(d, 1.0F));
  }
  HWY_INLINE FloatVector derivative(FloatTag /*d*/, FloatVector /*g*/, FloatVector s) const {
    return s;
  }
  float share(float g) const { return g > 0 ? 1.0F : 0.0F; }
  float derivative(float /*g*/, float s) const { return s; }
};

template <class G, class T>
void gated_rows(G kind, View2<const T> gate_up, View2<T> y) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d), n = y.cols, whole = n - n % lanes;
  for (size_t row = 0; row < y.rows; ++row) {
    const T* gate = gate_up.data + row * gate_up.stride;
    const T* up = gate + n;
    T* out = y.data + row * y.stride;
    for (size_t i = 0; i < whole; i += lanes) {
      const auto g = load(d, gate + i);
      store(hn::Mul(hn::Mul(g, kind.share(d, g)), load(d, up + i)), d, out + i);
    }
    for (size_t i = whole; i < n; ++i) {
      const float g = load_one(gate + i);
      store_one(g * kind.share(g) * load_one(up + i), out + i);
    }
  }
}

template <class G, class T>
void gated_backward_rows(G kind, View2<const T> gate_up, View2<const T> dy, View2<T> dgate_up) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d), n = dy.cols, whole = n - n % lanes;
  for (size_t row = 0; row < dy.rows; ++row) {
    const T* gate = gate_up.data + row * gate_up.stride;
    const T* up = gate + n;
    const T* grad = dy.data + row * dy.stride;
    T* dgate = dgate_up.data + row * dgate_up.stride;
    T* dup = dgate + n;
    for (size_t i = 0; i < whole; i += lanes) {
      const auto g = load(d, gate + i), u = load(d, up + i), dout = load(d, grad + i);
      const auto s = kind.share(d, g);
      store(hn::Mul(hn::Mul(dout, u), kind.derivative(d, g, s)), d, dgate + i);
      store(hn::Mul(dout, hn::Mul(g, s)), d, dup + i);
    }
    for (size_t i = whole; i < n; ++i) {
      const float g = load_one(gate + i), u = load_one(up + i), dout = load_one(grad + i);
      const float s = kind.share(g);
      store_one(dout * u * kind.derivative(g, s), dgate + i);
      store_one(dout * g * s, dup + i);
    }
  }
}

template <class G, class T>
void plain_rows(G kind, View2<const T> x, View2<T> y) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d), n = y.cols, whole = n - n % lanes;
  for (size_t row = 0; row < y.rows; ++row) {
    const T* in = x.data + row * x.stride;
    T* out = y.data + row * y.stride;
    for (size_t i = 0; i < whole; i += lanes) {
      const auto g = load(d, in + i);
      store(hn::Mul(g, kind.share(d, g)), d, out + i);
    }
    for (size_t i = whole; i < n; ++i) {
      const float g = load_one(in + i);
      store_one(g * kind.share(g), out + i);
    }
  }
}

template <class G, class T>
void plain_backward_rows(G kind, View2<const T> x, View2<const T> dy, View2<T> dx) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d), n = dy.cols, whole = n - n % lanes;
  for (size_t row = 0; row < dy.rows; ++row) {
    const T* in = x.data + row * x.stride;
    const T* grad = dy.data + row * dy.stride;
    T* out = dx.data + row * dx.stride;
    for (size_t i = 0; i < whole; i += lanes) {
      const auto g = load(d, in + i);
      store(hn::Mul(load(d, grad + i), kind.derivative(d, g, kind.share(d, g))), d, out + i);
    }
    for (size_t i = whole; i < n; ++i) {
      const float g = load_one(in + i);
      store_one(load_one(grad + i) * kind.derivative(g, kind.share(g)), out + i);
    }
  }
}

// Calls body(kind) with the gate's own type.
template <class Body>
void with_gate(Gate gate, const Body& body) {
  if (gate == Gate::silu) return body(SigmoidGate<Silu>());
  if (gate == Gate::gelu_tanh) return body(SigmoidGate<Gelu>());
  body(ReluGate());
}

template <class T>
void gated_of(Gate gate, View2<const T> in, View2<T> y) {
  with_gate(gate, [&](auto kind) { gated_rows(kind, in, y); });
}

template <class T>
void gated_backward_of(Gate gate, View2<const T> in, View2<const T> dy, View2<T> din) {
  with_gate(gate, [&](auto kind) { gated_backward_rows(kind, in, dy, din); });
}

template <class T>
void plain_of(Gate gate, View2<const T> x, View2<T> y) {
  with_gate(gate, [&](auto kind) { plain_rows(kind, x, y); });
}

template <class T>
void plain_backward_of(Gate gate, View2<const T> x, View2<const T> dy, View2<T> dx) {
  with_gate(gate, [&](auto kind) { plain_backward_rows(kind, x, dy, dx); });
}

void gated_f32(Gate gate, View2<const float> in, View2<float> y) {
  gated_of(gate, in, y);
}
void gated_bf16(Gate gate, View2<const bf16> in, View2<bf16> y) {
  gated_of(gate, in, y);
}
void gated_backward_f32(Gate gate, View2<const float> in, View2<const float> dy, View2<float> din) {
  gated_backward_of(gate, in, dy, din);
}
void gated_backward_bf16(Gate gate, View2<const bf16> in, View2<const bf16> dy, View2<bf16> din) {
  gated_backward_of(gate, in, dy, din);
}
void plain_f32(Gate gate, View2<const float> x, View2<float> y) {
  plain_of(gate, x, y);
}
void plain_bf16(Gate gate, View2<const bf16> x, View2<bf16> y) {
  plain_of(gate, x, y);
}
void plain_backward_f32(Gate gate, View2<const float> x, View2<const float> dy, View2<float> dx) {
  plain_backward_of(gate, x, dy, dx);
}
void plain_backward_bf16(Gate gate, View2<const bf16> x, View2<const bf16> dy, View2<bf16> dx) {
  plain_backward_of(gate, x, dy, dx);
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
HWY_EXPORT(gated_f32);
HWY_EXPORT(gated_bf16);
HWY_EXPORT(gated_backward_f32);
HWY_EXPORT(gated_backward_bf16);
HWY_EXPORT(plain_f32);
HWY_EXPORT(plain_bf16);
HWY_EXPORT(plain_backward_f32);
HWY_EXPORT(plain_backward_bf16);
namespace {

template <class T, class Y>
void check(View2<const T> gate_up, const Y& y) {
  check_shape("gated_unit", "gate_up", {y.rows, 2 * y.cols}, {gate_up.rows, gate_up.cols});
}

template <class T, class Y>
void check_plain(View2<const T> x, const Y& y) {
  check_shape("activation", "x", {y.rows, y.cols}, {x.rows, x.cols});
}

}  // namespace

void gated_unit(Gate gate, View2<const float> gate_up, View2<float> y) {
  check(gate_up, y);
  HWY_DYNAMIC_DISPATCH(gated_f32)(gate, gate_up, y);
}

void gated_unit(Gate gate, View2<const bf16> gate_up, View2<bf16> y) {
  check(gate_up, y);
  HWY_DYNAMIC_DISPATCH(gated_bf16)(gate, gate_up, y);
}

void gated_unit_backward(Gate gate, View2<const float> gate_up, View2<const float> dy,
                         View2<float> dgate_up) {
  check(gate_up, dy);
  check(View2<const float>(dgate_up), dy);
  HWY_DYNAMIC_DISPATCH(gated_backward_f32)(gate, gate_up, dy, dgate_up);
}

void gated_unit_backward(Gate gate, View2<const bf16> gate_up, View2<const bf16> dy,
                         View2<bf16> dgate_up) {
  check(gate_up, dy);
  check(View2<const bf16>(dgate_up), dy);
  HWY_DYNAMIC_DISPATCH(gated_backward_bf16)(gate, gate_up, dy, dgate_up);
}

void activation(Gate gate, View2<const float> x, View2<float> y) {
  check_plain(x, y);
  HWY_DYNAMIC_DISPATCH(plain_f32)(gate, x, y);
}

void activation(Gate gate, View2<const bf16> x, View2<bf16> y) {
  check_plain(x, y);
  HWY_DYNAMIC_DISPATCH(plain_bf16)(gate, x, y);
}

void activation_backward(Gate gate, View2<const float> x, View2<const float> dy, View2<float> dx) {
  check_plain(x, dy);
  check_plain(View2<const float>(dx), dy);
  HWY_DYNAMIC_DISPATCH(plain_backward_f32)(gate, x, dy, dx);
}

void activation_backward(Gate gate, View2<const bf16> x, View2<const bf16> dy, View2<bf16> dx) {
  check_plain(x, dy);
  check_plain(View2<const bf16>(dx), dy);
  HWY_DYNAMIC_DISPATCH(plain_backward_bf16)(gate, x, dy, dx);
}

}  // namespace cairn
#endif
