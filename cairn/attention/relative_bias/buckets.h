// How far apart a query and a key are, in few steps: near distances have a bucket each, further
// ones share buckets that grow with the logarithm (Raffel et al. 2020, arXiv:1910.10683,
// section 2.1). Of B buckets of one direction the first exact = B / 2 are for distances n = 0, 1,
// 2, ...; from there on
//   bucket = min(B - 1, exact + floor(log(n / exact) / log(max_distance / exact) * (B - exact)))
// in f32, as in Hugging Face transformers, so that the borders are the same. Causal attention has
// one direction (a key behind the query counts as at distance 0), bidirectional attention gives
// half of the buckets to keys before the query, n = 0 included, and the other half to those after
// it.
//
// Immutable after construction; thread-safe. Internal to the room.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace cairn {

class DistanceBuckets {
 public:
  // `buckets` of both directions together, even if there are two; max_distance more than half of
  // those of one direction: not checked.
  DistanceBuckets(size_t buckets, size_t max_distance, bool bidirectional);

  size_t count() const { return count_; }
  // Of a key `ahead` tokens behind the query in the text; negative: before it.
  int32_t of(int64_t ahead) const {
    return bucket_[static_cast<size_t>(std::clamp(ahead, -reach_, reach_) + reach_)];
  }
  // Whether all from `first` to `last` fall into one bucket.
  bool same(int64_t first, int64_t last) const { return of(first) == of(last); }

 private:
  size_t count_;
  int64_t reach_;                // distances from here on are all alike
  std::vector<int32_t> bucket_;  // [2 * reach + 1], from -reach on
};

}  // namespace cairn
