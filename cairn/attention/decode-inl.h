// The two passes over cached rows that every room's decode step makes: scores of queries against
// keys, and weighted sums of values. Each row is read once for all query heads that share it.
// Included once a target, after foreach_target.h.
#if defined(CAIRN_ATTENTION_DECODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CAIRN_ATTENTION_DECODE_INL_H_
#undef CAIRN_ATTENTION_DECODE_INL_H_
#else
#define CAIRN_ATTENTION_DECODE_INL_H_
#endif

#include <type_traits>

#include "cairn/kernels/simd-inl.h"
#include "cairn/tensor/view.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

// scores[g * stride + j] = q_g . k_j for G queries [G][keys.cols].
template <int G, class T>
void score_rows(const float* queries, View2<const T> keys, float* scores, size_t stride) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d), n = keys.cols, whole = n - n % lanes;
  for (size_t j = 0; j < keys.rows; ++j) {
    const T* key = keys.data + j * keys.stride;
    FloatVector sum[G];
    for (int g = 0; g < G; ++g) sum[g] = hn::Zero(d);
    for (size_t i = 0; i < whole; i += lanes) {
      const auto k = load(d, key + i);
      for (int g = 0; g < G; ++g) sum[g] = hn::MulAdd(k, hn::LoadU(d, queries + g * n + i), sum[g]);
    }
    for (int g = 0; g < G; ++g) {
      float score = hn::GetLane(hn::SumOfLanes(d, sum[g]));
      for (size_t i = whole; i < n; ++i) score += load_one(key + i) * queries[g * n + i];
      scores[g * stride + j] = score;
    }
  }
}

// The same sums for lanes * V columns from `column` on.
template <int G, int V, class T>
void add_row_columns(const float* weights, size_t stride, View2<const T> values, size_t column,
                     float* out) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  FloatVector sum[G][V];
  float* to = out + column;
  for (int g = 0; g < G; ++g)
    for (int v = 0; v < V; ++v) sum[g][v] = hn::LoadU(d, to + g * values.cols + v * lanes);
  for (size_t j = 0; j < values.rows; ++j) {
    const T* value = values.data + j * values.stride + column;
    for (int v = 0; v < V; ++v) {
      const auto x = load(d, value + v * lanes);
      for (int g = 0; g < G; ++g)
        sum[g][v] = hn::MulAdd(hn::Set(d, weights[g * stride + j]), x, sum[g][v]);
    }
  }
  for (int g = 0; g < G; ++g)
    for (int v = 0; v < V; ++v) hn::StoreU(sum[g][v], d, to + g * values.cols + v * lanes);
}

// out[g] += sum over j of weights[g * stride + j] v_j, for G rows [G][values.cols].
template <int G, class T>
void add_rows(const float* weights, size_t stride, View2<const T> values, float* out) {
  const size_t lanes = hn::Lanes(FloatTag());
  size_t column = 0;
  for (; column + 4 * lanes <= values.cols; column += 4 * lanes)
    add_row_columns<G, 4>(weights, stride, values, column, out);
  for (; column + lanes <= values.cols; column += lanes)
    add_row_columns<G, 1>(weights, stride, values, column, out);
  for (int g = 0; g < G && column < values.cols; ++g)
    for (size_t j = 0; j < values.rows; ++j)
      for (size_t i = column; i < values.cols; ++i)
        out[g * values.cols + i] +=
            weights[g * stride + j] * load_one(values.data + j * values.stride + i);
}

// Calls body(std::integral_constant<int, G>, first head) for the heads of a group, 4, 2 or 1 at a
// time.
template <class Body>
void by_heads(size_t group, Body body) {
  size_t head = 0;
  for (; head + 4 <= group; head += 4) body(std::integral_constant<int, 4>(), head);
  for (; head + 2 <= group; head += 2) body(std::integral_constant<int, 2>(), head);
  if (head < group) body(std::integral_constant<int, 1>(), head);
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
