#include "cairn/attention/relative_bias/bias.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/attention/relative_bias/bias.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include "cairn/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

// scores[key][query] = window[kTile - 1 - key + query]
void copy_diagonals(const float* window, size_t keys, size_t columns, float* scores) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  for (size_t key = 0; key < keys; ++key) {
    const float* from = window + kTile - 1 - key;
    for (size_t column = 0; column < columns; column += lanes)
      hn::StoreU(hn::LoadU(d, from + column), d, scores + key * kTile + column);
  }
}

// window[kTile - 1 - key + query] += tile[key][query]
void add_diagonals(const float* tile, size_t keys, size_t columns, bool diagonal, float* window) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  for (size_t key = 0; key < keys; ++key) {
    float* to = window + kTile - 1 - key;
    for (size_t i = diagonal && key >= kTile / 2 ? kTile / 2 : 0; i < columns; i += lanes)
      hn::StoreU(hn::Add(hn::LoadU(d, to + i), hn::LoadU(d, tile + key * kTile + i)), d, to + i);
  }
}

// The sum of a tile none of whose quarters is left out.
float sum_of_tile(const float* tile, size_t keys, size_t columns) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  auto sum = hn::Zero(d);
  for (size_t key = 0; key < keys; ++key)
    for (size_t i = 0; i < columns; i += lanes)
      sum = hn::Add(sum, hn::LoadU(d, tile + key * kTile + i));
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
namespace {

constexpr size_t kDistances = 2 * kTile - 1;  // between two tiles

// How far the last key of a tile is ahead of its first query; then distances fall along a window.
int64_t furthest(const BiasTile& tile) {
  return static_cast<int64_t>(tile.key_slot + kTile - 1) - static_cast<int64_t>(tile.query_slot);
}
int64_t nearest(const BiasTile& tile) {
  return furthest(tile) - static_cast<int64_t>(kDistances - 1);
}

}  // namespace

HWY_EXPORT(copy_diagonals);
HWY_EXPORT(add_diagonals);
HWY_EXPORT(sum_of_tile);

void RelativeBias::fill(const BiasTile& tile, float scale, float* scores) const {
  alignas(kAlignment) float window[kDistances + 1] = {};
  const int64_t last = furthest(tile);
  if (buckets_.same(nearest(tile), last)) {
    std::fill_n(window, kDistances, at(last, tile.head) / scale);
  } else {
    for (size_t i = 0; i < kDistances; ++i)
      window[i] = at(last - static_cast<int64_t>(i), tile.head) / scale;
  }
  HWY_DYNAMIC_DISPATCH(copy_diagonals)(window, tile.keys, tile.columns, scores);
  if (tile.queries == tile.columns) return;
  for (size_t key = 0; key < tile.keys; ++key)
    std::fill(scores + key * kTile + tile.queries, scores + key * kTile + tile.columns, -1e30F);
}

void RelativeBias::fill_row(const BiasRow& row, float* bias) const {
  const auto first = static_cast<int64_t>(row.key) - static_cast<int64_t>(row.query_slot);
  for (size_t i = 0; i < row.keys; ++i) bias[i] = at(first + static_cast<int64_t>(i), row.head);
}

void RelativeBias::add_gradients(const BiasTile& tile, const float* dscores, bool diagonal) const {
  const size_t query_tile = tile.query_slot / kTile;
  double* sums =
      gradients_.sums + (tile.head * gradients_.query_tiles + query_tile) * buckets_.count();
  const size_t keys = std::min<size_t>(tile.keys, tile.key_tile.tokens);
  const int64_t last = furthest(tile);
  if (!diagonal && buckets_.same(nearest(tile), last)) {
    sums[buckets_.of(last)] += HWY_DYNAMIC_DISPATCH(sum_of_tile)(dscores, keys, tile.columns);
    return;
  }
  alignas(kAlignment) float window[kDistances + 1] = {};
  HWY_DYNAMIC_DISPATCH(add_diagonals)(dscores, keys, tile.columns, diagonal, window);
  for (size_t i = 0; i < kDistances; ++i)
    sums[buckets_.of(last - static_cast<int64_t>(i))] += window[i];
}

void add_bucket_gradients(const BucketGradients& gradients, View2<float> dtable) {
  for (size_t head = 0; head < dtable.cols; ++head)
    for (size_t bucket = 0; bucket < dtable.rows; ++bucket) {
      double sum = 0;
      for (size_t tile = 0; tile < gradients.query_tiles; ++tile)
        sum += gradients.sums[(head * gradients.query_tiles + tile) * dtable.rows + bucket];
      dtable[bucket][head] += static_cast<float>(sum);
    }
}

}  // namespace cairn
#endif
