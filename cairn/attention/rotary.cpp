#include "cairn/attention/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace cairn {

std::vector<double> rotary_frequencies(size_t dim, double theta, const RotaryScaling& scaling) {
  const auto n = static_cast<double>(dim);
  if (scaling.kind == RotaryScaling::Kind::ntk) theta *= std::pow(scaling.factor, n / (n - 2));
  std::vector<double> frequencies(dim / 2);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    double& frequency = frequencies[i];
    frequency = std::pow(theta, -2.0 * static_cast<double>(i) / n);
    if (scaling.kind != RotaryScaling::Kind::llama3) continue;
    const double turns = frequency * scaling.original_context / (2 * std::numbers::pi);
    const double kept = std::clamp(
        (turns - scaling.low_turns) / (scaling.high_turns - scaling.low_turns), 0.0, 1.0);
    frequency *= kept + (1 - kept) / scaling.factor;
  }
  return frequencies;
}

RotaryTable::RotaryTable(std::vector<double> frequencies, size_t positions)
    : frequencies_(std::move(frequencies)), positions_(positions) {
  const size_t steps = positions / kStep + 1, half = frequencies_.size();
  coarse_.resize(steps * 2 * half);
  fine_.resize(kStep * 2 * half);
  for (size_t i = 0; i < half; ++i) {
    const auto fill = [&](std::vector<float>& table, size_t row, size_t position) {
      const double angle = static_cast<double>(position) * frequencies_[i];
      table[row * 2 * half + i] = static_cast<float>(std::cos(angle));
      table[row * 2 * half + half + i] = static_cast<float>(std::sin(angle));
    };
    for (size_t step = 0; step < steps; ++step) fill(coarse_, step, step * kStep);
    for (size_t rest = 0; rest < kStep; ++rest) fill(fine_, rest, rest);
  }
}

}  // namespace cairn
