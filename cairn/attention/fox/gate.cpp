#include "cairn/attention/fox/gate.h"

#include <algorithm>
#include <cmath>

#include "cairn/kernels/elementwise.h"
#include "cairn/kernels/gemv.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/attention/fox/gate.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include "cairn/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

// y += factor * x
template <class T>
HWY_INLINE void add_scaled(const T* x, float factor, size_t n, float* y) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  const auto f = hn::Set(d, factor);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(hn::MulAdd(load(d, x + i), f, hn::LoadU(d, y + i)), d, y + i);
  for (; i < n; ++i) y[i] += load_one(x + i) * factor;
}

// dx[t] += sum over heads of dlogit[t, h] * weight[h], for some tokens.
void add_to_hidden(View2<const float> dlogit, View2<const float> weight, View2<float> dx) {
  for (size_t t = 0; t < dx.rows; ++t)
    for (size_t head = 0; head < weight.rows; ++head)
      add_scaled(weight[head].data, dlogit[t][head], dx.cols, dx[t].data);
}

template <class T>
void add_columns(View2<const float> dlogit, View2<const T> x, View2<float> dweight) {
  for (size_t t = 0; t < x.rows; ++t)
    for (size_t head = 0; head < dweight.rows; ++head)
      add_scaled(x[t].data, dlogit[t][head], x.cols, dweight[head].data);
}

// dweight[h] += sum over tokens of dlogit[t, h] * x[t], for some columns of the hidden state.
void add_to_weights(View2<const float> dlogit, const AnyView2& x, View2<float> dweight) {
  if (x.dtype == DType::bf16)
    add_columns(dlogit, x.as<const bf16>(), dweight);
  else
    add_columns(dlogit, x.as<const float>(), dweight);
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
namespace {

float log_sigmoid(float x) {
  return std::min(x, 0.0F) - std::log1p(std::exp(-std::abs(x)));
}

AnyView2 part_of(const AnyView2& x, size_t row, size_t rows, size_t column, size_t columns) {
  auto* data = static_cast<std::byte*>(x.data) + (row * x.stride + column) * dtype_size(x.dtype);
  return {data, x.dtype, rows, columns, x.stride};
}

}  // namespace

HWY_EXPORT(add_to_hidden);
HWY_EXPORT(add_to_weights);

void forget_gates(const AnyView2& x, View2<const float> weight, View1<const float> bias,
                  View2<float> log_forget, float* scratch, ThreadTeam& team) {
  team.run(chunk_count(x.rows, kGateTokens), [&](size_t chunk, int thread) {
    const size_t begin = chunk * kGateTokens, rows = std::min(kGateTokens, x.rows - begin);
    const AnyView2 some = part_of(x, begin, rows, 0, x.cols);
    const View2<float> gates = log_forget.rows_slice(begin, rows);
    if (x.dtype == DType::bf16) {
      const View2<float> wide(scratch + gate_scratch(x.cols) * thread, rows, x.cols);
      convert(some.as<const bf16>(), wide);
      gemv(weight, wide, gates);
    } else {
      gemv(weight, some.as<const float>(), gates);
    }
    for (size_t t = 0; t < rows; ++t)
      for (size_t head = 0; head < gates.cols; ++head)
        gates[t][head] = log_sigmoid(gates[t][head] + bias[head]);
  });
}

void forget_gates_backward(const AnyView2& x, View2<const float> weight,
                           View2<const float> log_forget, View2<float> dlog_forget, View2<float> dx,
                           View2<float> dweight, View1<float> dbias, ThreadTeam& team) {
  constexpr size_t kColumns = 128;
  for (size_t t = 0; t < x.rows; ++t)  // the derivative of log sigmoid is 1 - sigmoid
    for (size_t head = 0; head < dbias.size; ++head)
      dlog_forget[t][head] *= -std::expm1(log_forget[t][head]);
  const View2<const float> dlogit = dlog_forget;
  team.run(chunk_count(x.rows, kGateTokens), [&](size_t chunk, int) {
    const size_t begin = chunk * kGateTokens, rows = std::min(kGateTokens, x.rows - begin);
    HWY_DYNAMIC_DISPATCH(add_to_hidden)
    (dlogit.rows_slice(begin, rows), weight, dx.rows_slice(begin, rows));
  });
  team.run(chunk_count(x.cols, kColumns), [&](size_t chunk, int) {
    const size_t begin = chunk * kColumns, columns = std::min(kColumns, x.cols - begin);
    HWY_DYNAMIC_DISPATCH(add_to_weights)
    (dlogit, part_of(x, 0, x.rows, begin, columns), dweight.cols_slice(begin, columns));
  });
  for (size_t head = 0; head < dbias.size; ++head) {
    double sum = 0;
    for (size_t t = 0; t < x.rows; ++t) sum += dlogit[t][head];
    dbias[head] += static_cast<float>(sum);
  }
}

}  // namespace cairn
#endif
