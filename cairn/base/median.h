// The median of measurements.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace cairn {

// The middle value; of an even number of values the upper of the two. `values` must not be empty;
// they are put into another order.
inline double median_of(std::span<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

inline double median(std::vector<double> values) {
  return median_of(values);
}

}  // namespace cairn
