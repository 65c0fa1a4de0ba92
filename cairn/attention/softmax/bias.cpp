#include "cairn/attention/softmax/bias.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/attention/softmax/bias.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include "cairn/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

// scores[key][query] = of_key[key] + of_query[query]
void outer_sum(const float* of_key, const float* of_query, size_t keys, size_t columns,
               float* scores) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  for (size_t column = 0; column < columns; column += lanes) {
    const auto query = hn::LoadU(d, of_query + column);
    for (size_t key = 0; key < keys; ++key)
      hn::StoreU(hn::Add(query, hn::Set(d, of_key[key])), d, scores + key * kTile + column);
  }
}

// by_key[key] and by_query[query]: sums of a tile along its rows and columns.
void sum_tile(const float* tile, size_t keys, size_t columns, bool diagonal, float* by_key,
              float* by_query) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  std::fill(by_query, by_query + columns, 0.0F);
  for (size_t key = 0; key < keys; ++key) {
    auto sum = hn::Zero(d);
    for (size_t i = diagonal && key >= kTile / 2 ? kTile / 2 : 0; i < columns; i += lanes) {
      const auto value = hn::LoadU(d, tile + key * kTile + i);
      sum = hn::Add(sum, value);
      hn::StoreU(hn::Add(hn::LoadU(d, by_query + i), value), d, by_query + i);
    }
    by_key[key] = hn::GetLane(hn::SumOfLanes(d, sum));
  }
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
HWY_EXPORT(outer_sum);
HWY_EXPORT(sum_tile);

void PotentialBias::fill(const BiasTile& tile, float scale, float* scores) const {
  const double inverse = 1.0 / static_cast<double>(scale);
  const double* of_key = of_.keys + tile.head * of_.key_stride + tile.key_tile.token;
  const double* of_query = of_.queries + tile.head * of_.query_stride + tile.query;
  const auto key_slot = static_cast<int32_t>(tile.key_slot);
  // The token of the tile of keys to which a slot's potential is related: the first one of its
  // sequence. Slots whose sequence begins later see none of these keys.
  const auto origin = [&](size_t slot) {
    const int32_t place = std::max(of_.sequence_slot[slot] - key_slot, 0);
    return of_key[std::min(place, tile.key_tile.tokens - 1)];
  };
  alignas(kAlignment) float key_side[kTile] = {}, query_side[kTile];
  for (int32_t i = 0; i < tile.key_tile.tokens; ++i)
    key_side[i] = static_cast<float>((origin(tile.key_slot + i) - of_key[i]) * inverse);
  for (size_t i = 0; i < tile.queries; ++i)
    query_side[i] = static_cast<float>((of_query[i] - origin(tile.query_slot + i)) * inverse);
  // Padding sees no key: its weights must not overflow, or they would not vanish times zero.
  std::fill(query_side + tile.queries, query_side + kTile, -1e30F);
  HWY_DYNAMIC_DISPATCH(outer_sum)(key_side, query_side, tile.keys, tile.columns, scores);
}

void PotentialBias::fill_row(const BiasRow& row, float* bias) const {
  const double potential = of_.queries[row.head * of_.query_stride + row.query];
  const double* of_key = of_.keys + row.head * of_.key_stride + row.key;
  for (size_t i = 0; i < row.keys; ++i) bias[i] = static_cast<float>(potential - of_key[i]);
}

void PotentialBias::add_gradients(const BiasTile& tile, const float* dscores, bool diagonal) const {
  double* of_head = of_.gradients + tile.head * of_.query_stride;
  double *of_queries = of_head + tile.query, *of_keys = of_head + tile.key_tile.token;
  alignas(kAlignment) float by_key[kTile], by_query[kTile];
  const size_t keys = std::min<size_t>(tile.keys, tile.key_tile.tokens);
  HWY_DYNAMIC_DISPATCH(sum_tile)(dscores, keys, tile.columns, diagonal, by_key, by_query);
  for (size_t i = 0; i < tile.queries; ++i) of_queries[i] += by_query[i];
  for (size_t i = 0; i < keys; ++i) of_keys[i] -= by_key[i];
}

}  // namespace cairn
#endif
