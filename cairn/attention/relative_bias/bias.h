// The term of the room, tile by tile: table[bucket(key - query)][head]. A tile of queries and one
// of keys are 127 distances apart at most, and most tiles fall into one bucket. Internal to the
// room.
#pragma once

#include "cairn/attention/relative_bias/buckets.h"
#include "cairn/attention/softmax/bias.h"
#include "cairn/tensor/view.h"

namespace cairn {

// Where the gradient of the table gathers: each tile of queries has sums of its own, so that work
// on different tiles may overlap, and their order is that of the schedule.
struct BucketGradients {
  double* sums = nullptr;  // [heads, query tiles, buckets]; null: not wanted
  size_t query_tiles = 0;
};

class RelativeBias final : public ScoreBias {
 public:
  // table [buckets, heads].
  RelativeBias(const DistanceBuckets& buckets, View2<const float> table,
               const BucketGradients& gradients = {})
      : buckets_(buckets), table_(table), gradients_(gradients) {}
  void fill(const BiasTile& tile, float scale, float* scores) const override;
  void fill_row(const BiasRow& row, float* bias) const override;
  bool wants_gradients() const override { return gradients_.sums != nullptr; }
  void add_gradients(const BiasTile& tile, const float* dscores, bool diagonal) const override;

 private:
  float at(int64_t ahead, size_t head) const {
    return table_.data[static_cast<size_t>(buckets_.of(ahead)) * table_.stride + head];
  }

  const DistanceBuckets& buckets_;
  View2<const float> table_;
  BucketGradients gradients_;
};

// Adds the sums of all tiles to dtable [buckets, heads].
void add_bucket_gradients(const BucketGradients& gradients, View2<float> dtable);

}  // namespace cairn
