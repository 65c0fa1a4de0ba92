#include "cairn/attention/rotary.h"

#include <cmath>

namespace cairn {

RotaryTable::RotaryTable(size_t dim, double theta, size_t positions)
    : half_(dim / 2), positions_(positions) {
  const size_t steps = positions / kStep + 1;
  coarse_.resize(steps * 2 * half_);
  fine_.resize(kStep * 2 * half_);
  for (size_t i = 0; i < half_; ++i) {
    const double frequency = std::pow(theta, -2.0 * static_cast<double>(i) / (2.0 * half_));
    const auto fill = [&](std::vector<float>& table, size_t row, size_t position) {
      const double angle = static_cast<double>(position) * frequency;
      table[row * 2 * half_ + i] = static_cast<float>(std::cos(angle));
      table[row * 2 * half_ + half_ + i] = static_cast<float>(std::sin(angle));
    };
    for (size_t step = 0; step < steps; ++step) fill(coarse_, step, step * kStep);
    for (size_t rest = 0; rest < kStep; ++rest) fill(fine_, rest, rest);
  }
}

}  // namespace cairn
