#include "cairn/attention/softmax/decode.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cairn/attention/softmax/steps.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/attention/softmax/decode.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include "cairn/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

// Scores of G queries against all keys: a key is loaded once for the G.
template <int G, class T>
void score_keys(const DecodeRange& r, size_t first, View2<const T> keys) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d), n = keys.cols, whole = n - n % lanes;
  const float* q = r.queries + first * n;
  for (size_t j = 0; j < keys.rows; ++j) {
    const T* key = keys.data + j * keys.stride;
    FloatVector sum[G];
    for (int g = 0; g < G; ++g) sum[g] = hn::Zero(d);
    for (size_t i = 0; i < whole; i += lanes) {
      const auto k = load(d, key + i);
      for (int g = 0; g < G; ++g) sum[g] = hn::MulAdd(k, hn::LoadU(d, q + g * n + i), sum[g]);
    }
    for (int g = 0; g < G; ++g) {
      float score = hn::GetLane(hn::SumOfLanes(d, sum[g]));
      for (size_t i = whole; i < n; ++i) score += load_one(key + i) * q[g * n + i];
      const size_t at = (first + g) * keys.rows + j;
      r.scores[at] = score * r.factor + (r.bias == nullptr ? 0.0F : r.bias[at]);
    }
  }
}

// out[g] = sum of weight[g][j] * value[j] over lanes * V columns from `column` on.
template <int G, int V, class T>
void sum_values(const DecodeRange& r, size_t first, View2<const T> values, size_t column,
                float* out) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  FloatVector sum[G][V];
  for (int g = 0; g < G; ++g)
    for (int v = 0; v < V; ++v) sum[g][v] = hn::Zero(d);
  const float* weights = r.scores + first * values.rows;
  for (size_t j = 0; j < values.rows; ++j) {
    const T* value = values.data + j * values.stride + column;
    for (int v = 0; v < V; ++v) {
      const auto x = load(d, value + v * lanes);
      for (int g = 0; g < G; ++g)
        sum[g][v] = hn::MulAdd(hn::Set(d, weights[g * values.rows + j]), x, sum[g][v]);
    }
  }
  for (int g = 0; g < G; ++g)
    for (int v = 0; v < V; ++v)
      hn::StoreU(sum[g][v], d, out + (first + g) * values.cols + column + v * lanes);
}

template <int G, class T>
void sum_tail(const DecodeRange& r, size_t first, View2<const T> values, size_t column,
              float* out) {
  for (int g = 0; g < G; ++g) {
    float* to = out + (first + g) * values.cols;
    std::fill(to + column, to + values.cols, 0.0F);
    for (size_t j = 0; j < values.rows; ++j)
      for (size_t i = column; i < values.cols; ++i)
        to[i] +=
            r.scores[(first + g) * values.rows + j] * load_one(values.data + j * values.stride + i);
  }
}

// Scores become weights 2^(s - maximum).
void weigh_scores(const DecodeRange& r, size_t head, size_t n, const DecodePart& part) {
  float* scores = r.scores + head * n;
  const float largest = *std::max_element(scores, scores + n);
  for (size_t j = 0; j < n; ++j) scores[j] -= largest;
  exp2_of(scores, n, scores);
  float sum = 0;
  for (size_t j = 0; j < n; ++j) sum += scores[j];
  part.maximum[head] = largest;
  part.sum[head] = sum;
}

template <int G, class T, bool kScored>
void range_of_heads(const DecodeRange& r, size_t first, const DecodePart& part) {
  const auto values = r.values.as<const T>();
  if constexpr (!kScored) score_keys<G>(r, first, r.keys.as<const T>());
  for (int g = 0; g < G; ++g) weigh_scores(r, first + g, values.rows, part);
  const size_t lanes = hn::Lanes(FloatTag());
  size_t column = 0;
  for (; column + 4 * lanes <= values.cols; column += 4 * lanes)
    sum_values<G, 4>(r, first, values, column, part.out);
  for (; column + lanes <= values.cols; column += lanes)
    sum_values<G, 1>(r, first, values, column, part.out);
  if (column < values.cols) sum_tail<G>(r, first, values, column, part.out);
}

template <class T, bool kScored>
void range_of_type(const DecodeRange& r, const DecodePart& part) {
  size_t head = 0;
  for (; head + 4 <= r.group; head += 4) range_of_heads<4, T, kScored>(r, head, part);
  for (; head + 2 <= r.group; head += 2) range_of_heads<2, T, kScored>(r, head, part);
  if (head < r.group) range_of_heads<1, T, kScored>(r, head, part);
}

void range_of_any(const DecodeRange& r, const DecodePart& part) {
  if (r.values.dtype == DType::bf16)
    range_of_type<bf16, false>(r, part);
  else
    range_of_type<float, false>(r, part);
}

void scores_of_any(const DecodeRange& r, const DecodePart& part) {
  if (r.values.dtype == DType::bf16)
    range_of_type<bf16, true>(r, part);
  else
    range_of_type<float, true>(r, part);
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
HWY_EXPORT(range_of_any);
HWY_EXPORT(scores_of_any);

void decode_range(const DecodeRange& range, const DecodePart& part) {
  HWY_DYNAMIC_DISPATCH(range_of_any)(range, part);
}

void decode_scores(const DecodeRange& range, const DecodePart& part) {
  HWY_DYNAMIC_DISPATCH(scores_of_any)(range, part);
}

void merge_parts(const float* maximum, const float* sum, size_t parts, size_t part_stride,
                 const float* out, size_t value_dim, float* result) {
  float largest = std::numeric_limits<float>::lowest(), total = 0;
  for (size_t p = 0; p < parts; ++p) largest = std::max(largest, maximum[p * part_stride]);
  std::fill_n(result, value_dim, 0.0F);
  for (size_t p = 0; p < parts; ++p) {
    const float factor = std::exp2(maximum[p * part_stride] - largest);
    total += factor * sum[p * part_stride];
    const float* from = out + p * part_stride * value_dim;
    for (size_t i = 0; i < value_dim; ++i) result[i] += factor * from[i];
  }
  for (size_t i = 0; i < value_dim; ++i) result[i] /= total;
}

}  // namespace cairn
#endif
