// Random arrays and error measures for tests.
#pragma once

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include "cairn/base/random.h"
#include "cairn/tensor/dtype.h"

namespace cairn {

inline std::vector<float> random_floats(size_t count, std::string_view name, double scale = 1.0) {
  const RandomStream stream(7, name);
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(scale * stream.normal(i));
  return values;
}

inline std::vector<bf16> to_bf16(const std::vector<float>& values) {
  std::vector<bf16> result(values.size());
  std::transform(values.begin(), values.end(), result.begin(), bf16::from_float);
  return result;
}

// Largest |found - expected| over the largest |expected| (or 1, if that is smaller).
template <class Found, class Expected>
double max_error(const std::vector<Found>& found, const std::vector<Expected>& expected) {
  double error = 0, scale = 1;
  for (size_t i = 0; i < expected.size(); ++i) {
    double value = 0;
    if constexpr (std::is_same_v<Found, bf16>)
      value = found[i].to_float();
    else
      value = static_cast<double>(found[i]);
    error = std::max(error, std::abs(value - static_cast<double>(expected[i])));
    scale = std::max(scale, std::abs(static_cast<double>(expected[i])));
  }
  return error / scale;
}

// |found - expected| / |expected|, Euclidean.
template <class Found, class Expected>
double norm_error(const Found& found, const Expected& expected) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double d = static_cast<double>(found[i]) - static_cast<double>(expected[i]);
    difference += d * d;
    norm += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
  }
  return norm == 0 ? std::sqrt(difference) : std::sqrt(difference / norm);
}

// d loss() / d values[i] by central differences; `values` is what loss() reads, in float64.
template <class Loss>
std::vector<double> central_differences(std::vector<double>& values, const Loss& loss) {
  std::vector<double> gradient;
  for (double& value : values) {
    const double kept = value, step = 1e-5;
    value = kept + step;
    const double above = loss();
    value = kept - step;
    gradient.push_back((above - loss()) / (2 * step));
    value = kept;
  }
  return gradient;
}

}  // namespace cairn
