#include "cairn/infer/attention_step.h"

#include <algorithm>
#include <limits>
#include <type_traits>

#include "cairn/infer/paged_cache.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/infer/attention_step.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include "cairn/attention/exp2-inl.h"
#include "cairn/infer/attention_q8-inl.h"
#include "cairn/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

// simd-inl.h knows f32 and bf16; a cache may hold halves too.
HWY_INLINE FloatVector load(FloatTag d, const f16* from) {
  const hn::Rebind<hwy::float16_t, FloatTag> half;
  return hn::PromoteTo(d, hn::LoadU(half, reinterpret_cast<const hwy::float16_t*>(from)));
}
HWY_INLINE void store(FloatVector v, FloatTag d, f16* to) {
  const hn::Rebind<hwy::float16_t, FloatTag> half;
  hn::StoreU(hn::DemoteTo(half, v), half, reinterpret_cast<hwy::float16_t*>(to));
  static_cast<void>(d);
}
HWY_INLINE float load_one(const f16* from) {
  return from->to_float();
}
HWY_INLINE void store_one(float value, f16* to) {
  *to = f16::from_float(value);
}

// Vectors of positions in flight: with four queries 16 sums where there are 32 registers.
constexpr size_t kPositionVectors = HWY_TARGET == HWY_AVX3 ? 4 : 2;

// scores[q][64] of Q queries at the V vectors of positions from slot `at` on.
template <size_t Q, size_t V, class T>
HWY_INLINE void score_vectors(const CachedChunk& chunk, const ChunkQuery* queries, size_t at,
                              float* scores) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d), n = chunk.head_dim;
  const T* from[V];
  for (size_t v = 0; v < V; ++v) {
    const size_t slot = at + v * lanes, inside = slot % PagedCache::kTile;
    from[v] = static_cast<const T*>(chunk.keys) + (slot - inside) * n + inside;
  }
  FloatVector sums[Q][V];
  for (size_t q = 0; q < Q; ++q)
    for (size_t v = 0; v < V; ++v) sums[q][v] = hn::Zero(d);
  for (size_t i = 0; i < n; ++i) {
    // As many passes over the dimensions as there are groups of V vectors: each asks for its share.
    fetch(chunk.next_keys, (at * n + i * V * lanes) * sizeof(T), V * lanes * sizeof(T));
    FloatVector k[V];
    for (size_t v = 0; v < V; ++v) k[v] = load(d, from[v] + i * PagedCache::kTile);
    for (size_t q = 0; q < Q; ++q) {
      const auto x = hn::Set(d, queries[q].query[i]);
      for (size_t v = 0; v < V; ++v) sums[q][v] = hn::MulAdd(x, k[v], sums[q][v]);
    }
  }
  for (size_t q = 0; q < Q; ++q)
    for (size_t v = 0; v < V; ++v)
      hn::StoreU(sums[q][v], d, scores + q * kAttentionChunk + at + v * lanes);
}

template <size_t Q, size_t V, class T>
HWY_INLINE void score_some(const CachedChunk& chunk, const ChunkQuery* queries, size_t at,
                           float* scores) {
  if constexpr (std::is_same_v<T, Q8>)
    score_q8<Q, V>(chunk, queries, at, scores);
  else
    score_vectors<Q, V, T>(chunk, queries, at, scores);
}

// The same for slots [begin, end), whole tiles; others are not touched.
template <size_t Q, class T>
HWY_INLINE void score(const CachedChunk& chunk, const ChunkQuery* queries, size_t begin, size_t end,
                      float* scores) {
  const size_t lanes = hn::Lanes(FloatTag());
  size_t at = begin;
  for (; at + kPositionVectors * lanes <= end; at += kPositionVectors * lanes)
    score_some<Q, kPositionVectors, T>(chunk, queries, at, scores);
  for (; at < end; at += lanes) score_some<Q, 1, T>(chunk, queries, at, scores);
}

// The scores of one query become weights; masked ones exactly 0.
HWY_INLINE void weigh(const ChunkQuery& query, size_t value_dim, float* scores) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  const float least = std::numeric_limits<float>::lowest();
  std::fill(scores, scores + query.begin, least);
  std::fill(scores + query.end, scores + kAttentionChunk, least);
  auto largest = hn::Set(d, least);
  for (size_t j = 0; j < kAttentionChunk; j += lanes)
    largest = hn::Max(largest, hn::LoadU(d, scores + j));
  const auto maximum = hn::MaxOfLanes(d, largest);
  auto sum = hn::Zero(d);
  const auto hidden = hn::Set(d, least);
  for (size_t j = 0; j < kAttentionChunk; j += lanes) {
    const auto s = hn::LoadU(d, scores + j);
    const auto weight = hn::IfThenZeroElse(hn::Eq(s, hidden), exp2_fast(d, hn::Sub(s, maximum)));
    hn::StoreU(weight, d, scores + j);
    sum = hn::Add(sum, weight);
  }
  query.part[value_dim] = hn::GetLane(maximum);
  query.part[value_dim + 1] = hn::GetLane(hn::SumOfLanes(d, sum));
}

template <size_t Q, size_t V, class T>
HWY_INLINE void sum_values(const CachedChunk& chunk, const ChunkQuery* queries, size_t begin,
                           size_t end, const float* weights, size_t column) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d), n = chunk.value_dim;
  FloatVector sums[Q][V];
  for (size_t q = 0; q < Q; ++q)
    for (size_t v = 0; v < V; ++v) sums[q][v] = hn::Zero(d);
  const T* values = static_cast<const T*>(chunk.values) + column;
  for (size_t j = begin; j < end; ++j) {
    fetch(chunk.next_values, (j * n + column) * sizeof(T), V * lanes * sizeof(T));
    FloatVector row[V];
    for (size_t v = 0; v < V; ++v) row[v] = load(d, values + j * n + v * lanes);
    for (size_t q = 0; q < Q; ++q) {
      const auto weight = hn::Set(d, weights[q * kAttentionChunk + j]);
      for (size_t v = 0; v < V; ++v) sums[q][v] = hn::MulAdd(weight, row[v], sums[q][v]);
    }
  }
  for (size_t q = 0; q < Q; ++q)
    for (size_t v = 0; v < V; ++v) hn::StoreU(sums[q][v], d, queries[q].part + column + v * lanes);
}

// All columns of the values.
template <size_t Q, class T>
HWY_INLINE void sum_columns(const CachedChunk& chunk, const ChunkQuery* queries, size_t begin,
                            size_t end, const float* weights) {
  const size_t lanes = hn::Lanes(FloatTag()), n = chunk.value_dim;
  size_t column = 0;
  for (; column + 4 * lanes <= n; column += 4 * lanes)
    sum_values<Q, 4, T>(chunk, queries, begin, end, weights, column);
  // The rest at once: one vector by itself waits for each of its sums.
  const size_t vectors = (n - column) / lanes;
  if (vectors == 3) sum_values<Q, 3, T>(chunk, queries, begin, end, weights, column);
  if (vectors == 2) sum_values<Q, 2, T>(chunk, queries, begin, end, weights, column);
  if (vectors == 1) sum_values<Q, 1, T>(chunk, queries, begin, end, weights, column);
  column += vectors * lanes;
  for (; column < n; ++column)
    for (size_t q = 0; q < Q; ++q) {
      float sum = 0;
      for (size_t j = begin; j < end; ++j)
        sum += weights[q * kAttentionChunk + j] *
               load_one(static_cast<const T*>(chunk.values) + j * n + column);
      queries[q].part[column] = sum;
    }
}

template <size_t Q, class T>
void attend_queries(const CachedChunk& chunk, const ChunkQuery* queries) {
  size_t begin = queries[0].begin, end = queries[0].end;
  for (size_t q = 1; q < Q; ++q) {
    begin = std::min(begin, queries[q].begin);
    end = std::max(end, queries[q].end);
  }
  HWY_ALIGN float scores[Q * kAttentionChunk];
  score<Q, T>(chunk, queries, begin / PagedCache::kTile * PagedCache::kTile,
              (end + PagedCache::kTile - 1) / PagedCache::kTile * PagedCache::kTile, scores);
  for (size_t q = 0; q < Q; ++q) weigh(queries[q], chunk.value_dim, scores + q * kAttentionChunk);
  if constexpr (std::is_same_v<T, Q8>)
    sum_values_q8<Q>(chunk, queries, begin, end, scores);
  else
    sum_columns<Q, T>(chunk, queries, begin, end, scores);
}

template <class T>
void attend_type(CachedChunk chunk, const ChunkQuery* queries, size_t count) {
  size_t q = 0;
  for (; q + 4 <= count; q += 4) {
    attend_queries<4, T>(chunk, queries + q);
    chunk.next_keys = chunk.next_values = nullptr;  // asked for once
  }
  if (count - q == 3) return attend_queries<3, T>(chunk, queries + q);
  if (count - q == 2) return attend_queries<2, T>(chunk, queries + q);
  if (count - q == 1) return attend_queries<1, T>(chunk, queries + q);
}

void attend(const CachedChunk& chunk, const ChunkQuery* queries, size_t count) {
  if (chunk.type == BlockType::f16) return attend_type<f16>(chunk, queries, count);
  if (chunk.type == BlockType::bf16) return attend_type<bf16>(chunk, queries, count);
  if (chunk.type == BlockType::q8_0) return attend_type<Q8>(chunk, queries, count);
  attend_type<float>(chunk, queries, count);
}

void merge(const float* part, size_t n, float* total) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  const float higher = std::max(total[n], part[n]);
  const auto old_factor = exp2_fast(d, hn::Set(d, total[n] - higher));
  const auto new_factor = exp2_fast(d, hn::Set(d, part[n] - higher));
  const float a = hn::GetLane(old_factor), b = hn::GetLane(new_factor);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(hn::MulAdd(hn::LoadU(d, part + i), new_factor,
                          hn::Mul(hn::LoadU(d, total + i), old_factor)),
               d, total + i);
  for (; i < n; ++i) total[i] = total[i] * a + part[i] * b;
  total[n] = higher;
  total[n + 1] = total[n + 1] * a + part[n + 1] * b;
}

void rotate(const float* turn, size_t dim, float* x) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d), half = dim / 2;
  size_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    const auto c = hn::LoadU(d, turn + i), s = hn::LoadU(d, turn + half + i);
    const auto a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + half + i);
    hn::StoreU(hn::Sub(hn::Mul(a, c), hn::Mul(b, s)), d, x + i);
    hn::StoreU(hn::MulAdd(a, s, hn::Mul(b, c)), d, x + half + i);
  }
  for (; i < half; ++i) {
    const float a = x[i], b = x[half + i];
    x[i] = a * turn[i] - b * turn[half + i];
    x[half + i] = a * turn[half + i] + b * turn[i];
  }
}

template <class T>
void store_key_as(const float* key, size_t n, size_t slot, T* keys) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  T* to = keys + slot / PagedCache::kTile * PagedCache::kTile * n + slot % PagedCache::kTile;
  T rounded[16];
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    store(hn::LoadU(d, key + i), d, rounded);
    for (size_t j = 0; j < lanes; ++j) to[(i + j) * PagedCache::kTile] = rounded[j];
  }
  for (; i < n; ++i) store_one(key[i], to + i * PagedCache::kTile);
}

template <class T>
void store_value_as(const float* value, size_t n, size_t slot, T* values) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  T* to = values + slot * n;
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) store(hn::LoadU(d, value + i), d, to + i);
  for (; i < n; ++i) store_one(value[i], to + i);
}

void key_of_any(const float* key, size_t n, size_t slot, BlockType type, void* keys) {
  if (type == BlockType::f16) return store_key_as(key, n, slot, static_cast<f16*>(keys));
  if (type == BlockType::bf16) return store_key_as(key, n, slot, static_cast<bf16*>(keys));
  if (type == BlockType::q8_0) return store_key_q8(key, n, slot, static_cast<std::byte*>(keys));
  store_key_as(key, n, slot, static_cast<float*>(keys));
}

void value_of_any(const float* value, size_t n, size_t slot, BlockType type, void* values) {
  if (type == BlockType::f16) return store_value_as(value, n, slot, static_cast<f16*>(values));
  if (type == BlockType::bf16) return store_value_as(value, n, slot, static_cast<bf16*>(values));
  if (type == BlockType::q8_0)
    return store_value_q8(value, n, slot, static_cast<std::byte*>(values));
  store_value_as(value, n, slot, static_cast<float*>(values));
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
HWY_EXPORT(attend);
HWY_EXPORT(merge);
HWY_EXPORT(rotate);
HWY_EXPORT(key_of_any);
HWY_EXPORT(value_of_any);

void attend_chunk(const CachedChunk& chunk, const ChunkQuery* queries, size_t count) {
  HWY_DYNAMIC_DISPATCH(attend)(chunk, queries, count);
}

void merge_part(const float* part, size_t value_dim, float* sum) {
  HWY_DYNAMIC_DISPATCH(merge)(part, value_dim, sum);
}

void finish_part(const float* sum, size_t value_dim, float* out) {
  const float factor = 1.0F / sum[value_dim + 1];
  for (size_t i = 0; i < value_dim; ++i) out[i] = sum[i] * factor;
}

void rotate_head(const float* turn, size_t dim, float* x) {
  HWY_DYNAMIC_DISPATCH(rotate)(turn, dim, x);
}

void add_angles(const float* coarse, const float* fine, size_t dim, float* turn) {
  const size_t half = dim / 2;
  for (size_t i = 0; i < half; ++i) {
    turn[i] = coarse[i] * fine[i] - coarse[half + i] * fine[half + i];
    turn[half + i] = coarse[half + i] * fine[i] + coarse[i] * fine[half + i];
  }
}

void store_key(const float* key, size_t head_dim, size_t slot, BlockType type, void* keys) {
  HWY_DYNAMIC_DISPATCH(key_of_any)(key, head_dim, slot, type, keys);
}

void store_value(const float* value, size_t value_dim, size_t slot, BlockType type, void* values) {
  HWY_DYNAMIC_DISPATCH(value_of_any)(value, value_dim, slot, type, values);
}

}  // namespace cairn
#endif
