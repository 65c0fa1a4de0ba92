#include "cairn/study/statistics.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace cairn {

double student_t(size_t degrees) {
  constexpr std::array kTable = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306,
                                 2.262,  2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
                                 2.110,  2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064,
                                 2.060,  2.056, 2.052, 2.048, 2.045, 2.042};
  if (degrees <= kTable.size()) return kTable.at(std::max<size_t>(degrees, 1) - 1);
  // z + (z^3 + z) / (4 degrees): the next term is below 0.004 here.
  constexpr double kNormal = 1.95996;
  return kNormal + (std::pow(kNormal, 3) + kNormal) / (4 * static_cast<double>(degrees));
}

Estimate estimate(std::span<const double> values) {
  Estimate out{.count = values.size()};
  if (values.empty()) return out;
  const auto n = static_cast<double>(values.size());
  for (const double value : values) out.mean += value / n;
  out.lowest = *std::min_element(values.begin(), values.end());
  out.highest = *std::max_element(values.begin(), values.end());
  if (values.size() < 2) return out;
  double squares = 0;
  for (const double value : values) squares += (value - out.mean) * (value - out.mean);
  out.half_width = student_t(values.size() - 1) * std::sqrt(squares / (n - 1) / n);
  return out;
}

double upper_bound_without_errors(uint64_t trials) {
  return trials == 0 ? 1 : std::min(1.0, 3 / static_cast<double>(trials));
}

}  // namespace cairn
