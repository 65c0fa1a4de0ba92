#include "cairn/attention/stick_breaking/decode.h"

#include <algorithm>

#include "cairn/attention/stick_breaking/steps.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/attention/stick_breaking/decode.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include "cairn/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

// Exponents of the gates of G queries against a chunk of keys: a key is loaded once for the G.
template <int G, class T>
void score_chunk(const StickRange& r, size_t first, View2<const T> keys) {
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
      r.weights[(first + g) * kStickChunk + j] = score * r.factor + r.offsets[first + g];
    }
  }
}

// out[g] += sum of weight[g][j] * value[j] over lanes * V columns from `column` on.
template <int G, int V, class T>
void add_values(const StickRange& r, size_t first, View2<const T> values, size_t column,
                float* out) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  FloatVector sum[G][V];
  float* to = out + first * values.cols + column;
  for (int g = 0; g < G; ++g)
    for (int v = 0; v < V; ++v) sum[g][v] = hn::LoadU(d, to + g * values.cols + v * lanes);
  const float* weights = r.weights + first * kStickChunk;
  for (size_t j = 0; j < values.rows; ++j) {
    const T* value = values.data + j * values.stride + column;
    for (int v = 0; v < V; ++v) {
      const auto x = load(d, value + v * lanes);
      for (int g = 0; g < G; ++g)
        sum[g][v] = hn::MulAdd(hn::Set(d, weights[g * kStickChunk + j]), x, sum[g][v]);
    }
  }
  for (int g = 0; g < G; ++g)
    for (int v = 0; v < V; ++v) hn::StoreU(sum[g][v], d, to + g * values.cols + v * lanes);
}

template <int G, class T>
void add_tail(const StickRange& r, size_t first, View2<const T> values, size_t column, float* out) {
  for (int g = 0; g < G; ++g)
    for (size_t j = 0; j < values.rows; ++j) {
      const float weight = r.weights[(first + g) * kStickChunk + j];
      for (size_t i = column; i < values.cols; ++i)
        out[(first + g) * values.cols + i] +=
            weight * load_one(values.data + j * values.stride + i);
    }
}

// Gates become weights, newest first; the stick of the query becomes what the chunk leaves.
void take_shares(const StickRange& r, size_t head, size_t n, double& stick) {
  float* weights = r.weights + head * kStickChunk;
  gates_of(weights, n, weights);
  const auto entering = static_cast<float>(stick);
  float consumed = 0;
  for (size_t j = n; j-- > 0;) {
    const float beta = weights[j] < r.floor ? 0 : weights[j];
    const float share = beta * (1 - consumed);
    consumed += share;
    weights[j] = share * entering;
  }
  stick *= 1.0 - static_cast<double>(consumed);
}

template <int G, class T>
void chunk_of_heads(const StickRange& r, size_t first, View2<const T> keys, View2<const T> values,
                    const StickPart& part) {
  score_chunk<G>(r, first, keys);
  for (int g = 0; g < G; ++g) take_shares(r, first + g, keys.rows, part.stick[first + g]);
  const size_t lanes = hn::Lanes(FloatTag());
  size_t column = 0;
  for (; column + 4 * lanes <= values.cols; column += 4 * lanes)
    add_values<G, 4>(r, first, values, column, part.out);
  for (; column + lanes <= values.cols; column += lanes)
    add_values<G, 1>(r, first, values, column, part.out);
  if (column < values.cols) add_tail<G>(r, first, values, column, part.out);
}

template <class T>
size_t range_of_type(const StickRange& r, const StickPart& part) {
  const auto keys = r.keys.as<const T>();
  const auto values = r.values.as<const T>();
  std::fill_n(part.stick, r.group, 1.0);
  std::fill_n(part.out, r.group * values.cols, 0.0F);
  const auto spent = [&](double stick) { return stick <= r.threshold; };
  size_t end = keys.rows;
  while (end > 0) {
    const size_t count = std::min(end, kStickChunk), begin = end - count;
    const auto k = keys.rows_slice(begin, count);
    const auto v = values.rows_slice(begin, count);
    size_t head = 0;
    for (; head + 4 <= r.group; head += 4) chunk_of_heads<4, T>(r, head, k, v, part);
    for (; head + 2 <= r.group; head += 2) chunk_of_heads<2, T>(r, head, k, v, part);
    if (head < r.group) chunk_of_heads<1, T>(r, head, k, v, part);
    end = begin;
    if (r.threshold > 0 && std::all_of(part.stick, part.stick + r.group, spent)) break;
  }
  return keys.rows - end;
}

size_t range_of_any(const StickRange& r, const StickPart& part) {
  return r.keys.dtype == DType::bf16 ? range_of_type<bf16>(r, part) : range_of_type<float>(r, part);
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
HWY_EXPORT(range_of_any);

size_t decode_stick_range(const StickRange& range, const StickPart& part) {
  return HWY_DYNAMIC_DISPATCH(range_of_any)(range, part);
}

void merge_older(size_t group, size_t value_dim, const StickPart& older, const StickPart& newer) {
  for (size_t g = 0; g < group; ++g) {
    const auto stick = static_cast<float>(newer.stick[g]);
    for (size_t i = g * value_dim; i < (g + 1) * value_dim; ++i)
      newer.out[i] += stick * older.out[i];
    newer.stick[g] *= older.stick[g];
  }
}

}  // namespace cairn
#endif
