#include "cairn/attention/path/front_rows.h"

#include <algorithm>

#include "cairn/attention/path/front.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/attention/path/front_rows.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include "cairn/attention/exp2-inl.h"
#include "cairn/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

using OneTag = hn::CappedTag<float, 1>;

// Calls body(tag, i) for i in [begin, end): whole vectors, then single elements.
template <class Body>
HWY_INLINE void for_each_vector(size_t begin, size_t end, Body body) {
  const FloatTag d;
  size_t i = begin;
  for (; i + hn::Lanes(d) <= end; i += hn::Lanes(d)) body(d, i);
  for (; i < end; ++i) body(OneTag(), i);
}

template <class D>
HWY_INLINE hn::Vec<D> convolved(D d, const MapRow& r, size_t c) {
  auto sum = hn::LoadU(d, r.y + c);
  if (r.taps == nullptr) return sum;
  sum = hn::Mul(sum, hn::LoadU(d, r.taps + c));
  for (size_t back = 1; back < r.reach; ++back)
    sum = hn::MulAdd(hn::LoadU(d, r.taps + back * r.channels + c),
                     hn::LoadU(d, r.y + c - back * r.y_stride), sum);
  return sum;
}

template <class D>
HWY_INLINE hn::Vec<D> sigmoid(D d, hn::Vec<D> x) {
  const auto exponent = hn::Min(hn::Mul(x, hn::Set(d, -1.44269504F)), hn::Set(d, 126.0F));
  return hn::Div(hn::Set(d, 1.0F), hn::Add(hn::Set(d, 1.0F), exp2_fast(d, exponent)));
}

template <class D>
HWY_INLINE float sum_of(D d, hn::Vec<D> v) {
  return hn::GetLane(hn::SumOfLanes(d, v));
}

HWY_INLINE float inverse_length(float square) {
  return 1.0F / __builtin_sqrtf(square + kPathEpsilon);
}

void map_rows(const MapRow& r, float* w) {
  for (size_t first = 0; first < r.channels; first += r.dim) {
    float square = 0;
    for_each_vector(first, first + r.dim, [&](auto d, size_t c) {
      const auto y = convolved(d, r, c);
      const auto z = hn::Mul(y, sigmoid(d, y));
      hn::StoreU(z, d, w + c);
      square += sum_of(d, hn::Mul(z, z));
    });
    const float inverse = inverse_length(square);
    for_each_vector(first, first + r.dim, [&](auto d, size_t c) {
      hn::StoreU(hn::Mul(hn::LoadU(d, w + c), hn::Set(d, inverse)), d, w + c);
    });
  }
}

// dz = rn (dw - w (dw . w)), then through silu: s (1 + y (1 - s)).
void map_rows_backward(const MapRow& r, float* dw) {
  for (size_t first = 0; first < r.channels; first += r.dim) {
    float square = 0, along = 0;  // |z|^2 and dw . z
    for_each_vector(first, first + r.dim, [&](auto d, size_t c) {
      const auto y = convolved(d, r, c);
      const auto z = hn::Mul(y, sigmoid(d, y));
      square += sum_of(d, hn::Mul(z, z));
      along += sum_of(d, hn::Mul(z, hn::LoadU(d, dw + c)));
    });
    const float inverse = inverse_length(square), shrink = along * inverse * inverse;
    for_each_vector(first, first + r.dim, [&](auto d, size_t c) {
      const auto y = convolved(d, r, c);
      const auto s = sigmoid(d, y);
      const auto dz = hn::Mul(hn::Set(d, inverse), hn::NegMulAdd(hn::Mul(y, s), hn::Set(d, shrink),
                                                                 hn::LoadU(d, dw + c)));
      const auto one = hn::Set(d, 1.0F);
      hn::StoreU(hn::Mul(dz, hn::Mul(s, hn::MulAdd(y, hn::Sub(one, s), one))), d, dw + c);
    });
  }
}

void conv_rows_backward(const float* from, size_t stride, const float* taps, size_t reach,
                        size_t channels, float* to) {
  for_each_vector(0, channels, [&](auto d, size_t c) {
    auto sum = hn::LoadU(d, from + c);
    if (taps != nullptr) {
      sum = hn::Mul(sum, hn::LoadU(d, taps + c));
      for (size_t ahead = 1; ahead < reach; ++ahead)
        sum = hn::MulAdd(hn::LoadU(d, taps + ahead * channels + c),
                         hn::LoadU(d, from + ahead * stride + c), sum);
    }
    hn::StoreU(sum, d, to + c);
  });
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
HWY_EXPORT(map_rows);
HWY_EXPORT(map_rows_backward);
HWY_EXPORT(conv_rows_backward);

void map_row(const MapRow& row, float* w) {
  HWY_DYNAMIC_DISPATCH(map_rows)(row, w);
}

void map_row_backward(const MapRow& row, float* dw) {
  HWY_DYNAMIC_DISPATCH(map_rows_backward)(row, dw);
}

void conv_row_backward(const float* from, size_t stride, const float* taps, size_t reach,
                       size_t channels, float* to) {
  HWY_DYNAMIC_DISPATCH(conv_rows_backward)(from, stride, taps, reach, channels, to);
}

}  // namespace cairn
#endif
