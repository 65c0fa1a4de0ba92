// Keys and values in q8_0 for attention_step.cpp (layouts: infer/paged_cache.h). Included once a
// target, after foreach_target.h, like every Highway -inl header.
#if defined(CAIRN_INFER_ATTENTION_Q8_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CAIRN_INFER_ATTENTION_Q8_INL_H_
#undef CAIRN_INFER_ATTENTION_Q8_INL_H_
#else
#define CAIRN_INFER_ATTENTION_Q8_INL_H_
#endif

#include <algorithm>
#include <limits>

#include "cairn/infer/attention_step.h"
#include "cairn/infer/paged_cache.h"
#include "cairn/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

struct Q8 {};  // the element type of such a cache

constexpr size_t kQ8Block = 32;  // dimensions under one scale
// Of one block: the positions of a tile, or of a chunk of values.
constexpr size_t kKeyScales = PagedCache::kTile * sizeof(f16);
constexpr size_t kKeyBlock = kKeyScales + PagedCache::kTile * kQ8Block;
constexpr size_t kValueScales = kAttentionChunk * sizeof(f16);
constexpr size_t kValueBlock = kValueScales + kAttentionChunk * kQ8Block;

HWY_INLINE FloatVector load_levels(FloatTag d, const std::byte* from) {
  const hn::Rebind<int8_t, FloatTag> d8;
  const hn::Rebind<int32_t, FloatTag> d32;
  const auto levels = hn::LoadU(d8, reinterpret_cast<const int8_t*>(from));
  return hn::ConvertTo(d, hn::PromoteTo(d32, levels));
}

HWY_INLINE FloatVector load_scales(FloatTag d, const std::byte* from) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  const hn::Rebind<hwy::float16_t, FloatTag> half;
  return hn::PromoteTo(d, hn::LoadU(half, reinterpret_cast<const hwy::float16_t*>(from)));
#else  // without the instruction Highway takes NaN for a number
  HWY_ALIGN float scales[HWY_MAX_BYTES / sizeof(float)];
  for (size_t i = 0; i < hn::Lanes(d); ++i)
    scales[i] = reinterpret_cast<const f16*>(from)[i].to_float();
  return hn::Load(d, scales);
#endif
}

// score_vectors() of attention_step.cpp. Sums wait in `scores` while a block's own are in
// registers.
template <size_t Q, size_t V>
HWY_INLINE void score_q8(const CachedChunk& chunk, const ChunkQuery* queries, size_t at,
                         float* scores) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d), blocks = chunk.head_dim / kQ8Block;
  const auto* keys = static_cast<const std::byte*>(chunk.keys);
  const std::byte* from[V];
  size_t inside[V];
  for (size_t v = 0; v < V; ++v) {
    const size_t slot = at + v * lanes;
    inside[v] = slot % PagedCache::kTile;
    from[v] = keys + slot / PagedCache::kTile * blocks * kKeyBlock;
  }
  for (size_t b = 0; b < blocks; ++b) {
    FloatVector sums[Q][V];
    for (size_t q = 0; q < Q; ++q)
      for (size_t v = 0; v < V; ++v) sums[q][v] = hn::Zero(d);
    for (size_t i = 0; i < kQ8Block; ++i) {
      fetch(chunk.next_keys, at * chunk.head_dim + (b * kQ8Block + i) * V * lanes, V * lanes);
      FloatVector k[V];
      for (size_t v = 0; v < V; ++v)
        k[v] = load_levels(
            d, from[v] + b * kKeyBlock + kKeyScales + i * PagedCache::kTile + inside[v]);
      for (size_t q = 0; q < Q; ++q) {
        const auto x = hn::Set(d, queries[q].query[b * kQ8Block + i]);
        for (size_t v = 0; v < V; ++v) sums[q][v] = hn::MulAdd(x, k[v], sums[q][v]);
      }
    }
    for (size_t v = 0; v < V; ++v) {
      const auto scale = load_scales(d, from[v] + b * kKeyBlock + inside[v] * sizeof(f16));
      for (size_t q = 0; q < Q; ++q) {
        float* to = scores + q * kAttentionChunk + at + v * lanes;
        const auto before = b == 0 ? hn::Zero(d) : hn::LoadU(d, to);
        hn::StoreU(hn::MulAdd(sums[q][v], scale, before), d, to);
      }
    }
  }
}

// Columns [column, column + V * lanes) of a block: `weights` [Q][64] are multiplied by its scales.
template <size_t Q, size_t V>
HWY_INLINE void sum_levels(const std::byte* levels, const std::byte* next, const float* weights,
                           size_t begin, size_t end, FloatVector (&sums)[Q][V]) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  for (size_t q = 0; q < Q; ++q)
    for (size_t v = 0; v < V; ++v) sums[q][v] = hn::Zero(d);
  for (size_t j = begin; j < end; ++j) {
    if (j % 2 == 0) fetch(next, j * kQ8Block, 2 * kQ8Block);
    FloatVector row[V];
    for (size_t v = 0; v < V; ++v) row[v] = load_levels(d, levels + j * kQ8Block + v * lanes);
    for (size_t q = 0; q < Q; ++q) {
      const auto weight = hn::Set(d, weights[q * kAttentionChunk + j]);
      for (size_t v = 0; v < V; ++v) sums[q][v] = hn::MulAdd(weight, row[v], sums[q][v]);
    }
  }
}

template <size_t Q>
HWY_INLINE void sum_values_q8(const CachedChunk& chunk, const ChunkQuery* queries, size_t begin,
                              size_t end, const float* weights) {
  const FloatTag d;
  constexpr size_t kVectors = HWY_TARGET == HWY_AVX3 ? 2 : 4;
  const size_t lanes = hn::Lanes(d);
  const auto* values = static_cast<const std::byte*>(chunk.values);
  const auto* next = static_cast<const std::byte*>(chunk.next_values);
  HWY_ALIGN float scaled[Q * kAttentionChunk];
  for (size_t b = 0; b < chunk.value_dim / kQ8Block; ++b, values += kValueBlock) {
    for (size_t j = begin / lanes * lanes; j < end; j += lanes) {
      const auto scale = load_scales(d, values + j * sizeof(f16));
      for (size_t q = 0; q < Q; ++q) {
        const size_t at = q * kAttentionChunk + j;
        hn::StoreU(hn::Mul(hn::LoadU(d, weights + at), scale), d, scaled + at);
      }
    }
    for (size_t column = 0; column < kQ8Block; column += kVectors * lanes) {
      FloatVector sums[Q][kVectors];
      const std::byte* ahead = next == nullptr ? nullptr : next + b * kValueBlock + kValueScales;
      sum_levels(values + kValueScales + column, column == 0 ? ahead : nullptr, scaled, begin, end,
                 sums);
      for (size_t q = 0; q < Q; ++q)
        for (size_t v = 0; v < kVectors; ++v)
          hn::StoreU(sums[q][v], d, queries[q].part + b * kQ8Block + column + v * lanes);
    }
  }
}

// levels[32] of x[32], whose scale is returned.
HWY_INLINE f16 round_q8(const float* x, int8_t* levels) {
  const FloatTag d;
  const hn::Rebind<int8_t, FloatTag> d8;
  const size_t lanes = hn::Lanes(d);
  auto largest = hn::Zero(d);
  bool finite = true;
  for (size_t i = 0; i < kQ8Block; i += lanes) {
    const auto v = hn::LoadU(d, x + i);
    finite = finite && hn::AllTrue(d, hn::IsFinite(v));
    largest = hn::Max(largest, hn::Abs(v));
  }
  const float most = hn::GetLane(hn::MaxOfLanes(d, largest));
  const f16 scale = f16::from_float(finite ? most / 127 : std::numeric_limits<float>::quiet_NaN());
  const float step = scale.to_float();
  const auto factor = hn::Set(d, step > 0 ? 1 / step : 0);
  const auto limit = hn::Set(d, 127.0F);  // passed where the half was rounded far down
  for (size_t i = 0; i < kQ8Block; i += lanes) {
    const auto v = hn::Mul(hn::LoadU(d, x + i), factor);
    const auto clamped = hn::Max(hn::Neg(limit), hn::Min(v, limit));
    hn::StoreU(hn::DemoteTo(d8, hn::NearestInt(clamped)), d8, levels + i);
  }
  return scale;
}

inline void store_key_q8(const float* key, size_t n, size_t slot, std::byte* keys) {
  const size_t inside = slot % PagedCache::kTile, blocks = n / kQ8Block;
  std::byte* block = keys + slot / PagedCache::kTile * blocks * kKeyBlock;
  for (size_t b = 0; b < blocks; ++b, block += kKeyBlock) {
    HWY_ALIGN int8_t levels[kQ8Block];
    const f16 scale = round_q8(key + b * kQ8Block, levels);
    reinterpret_cast<f16*>(block)[inside] = scale;
    auto* to = reinterpret_cast<int8_t*>(block + kKeyScales) + inside;
    for (size_t i = 0; i < kQ8Block; ++i) to[i * PagedCache::kTile] = levels[i];
  }
}

inline void store_value_q8(const float* value, size_t n, size_t slot, std::byte* values) {
  const size_t inside = slot % kAttentionChunk, blocks = n / kQ8Block;
  std::byte* block = values + slot / kAttentionChunk * blocks * kValueBlock;
  for (size_t b = 0; b < blocks; ++b, block += kValueBlock) {
    auto* to = reinterpret_cast<int8_t*>(block + kValueScales) + inside * kQ8Block;
    reinterpret_cast<f16*>(block)[inside] = round_q8(value + b * kQ8Block, to);
  }
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
