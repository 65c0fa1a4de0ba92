#include "cairn/attention/relative_bias/buckets.h"

#include <cmath>

namespace cairn {
namespace {

// The bucket of distance `n` among `buckets` of one direction.
int32_t bucket_of(int64_t n, size_t buckets, size_t max_distance) {
  const auto exact = static_cast<int64_t>(buckets / 2);
  if (n < exact) return static_cast<int32_t>(n);
  const auto whole = static_cast<double>(max_distance) / static_cast<double>(exact);
  const float share = std::log(static_cast<float>(n) / static_cast<float>(exact)) /
                      static_cast<float>(std::log(whole));
  const auto beyond = static_cast<int64_t>(share * static_cast<float>(buckets - buckets / 2));
  return static_cast<int32_t>(std::min(static_cast<int64_t>(buckets) - 1, exact + beyond));
}

}  // namespace

DistanceBuckets::DistanceBuckets(size_t buckets, size_t max_distance, bool bidirectional)
    : count_(buckets), reach_(static_cast<int64_t>(max_distance)) {
  const size_t one_way = bidirectional ? buckets / 2 : buckets;
  bucket_.resize(2 * max_distance + 1);
  for (int64_t n = 0; n <= reach_; ++n) {
    const int32_t bucket = bucket_of(n, one_way, max_distance);
    bucket_[reach_ - n] = bucket;
    if (n > 0) bucket_[reach_ + n] = bidirectional ? static_cast<int32_t>(one_way) + bucket : 0;
  }
}

}  // namespace cairn
