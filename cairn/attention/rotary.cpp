#include "cairn/attention/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace cairn {

namespace {

constexpr double kTurn = 2 * std::numbers::pi;

// How much of a frequency is kept; the rest is divided by the factor.
double kept_by_turns(double frequency, const RotaryScaling& scaling) {
  const double turns = frequency * scaling.original_context / kTurn;
  return std::clamp((turns - scaling.low_turns) / (scaling.high_turns - scaling.low_turns), 0.0,
                    1.0);
}

// The same by the number of the pair.
double kept_by_pair(double pair, double dim, double theta, const RotaryScaling& scaling) {
  const auto pair_that_turns = [&](double turns) {
    return dim * std::log(scaling.original_context / (turns * kTurn)) / (2 * std::log(theta));
  };
  const double first = std::max(std::floor(pair_that_turns(scaling.fast_turns)), 0.0);
  const double last = std::min(std::ceil(pair_that_turns(scaling.slow_turns)), dim - 1);
  return 1 - std::clamp((pair - first) / std::max(last - first, 1e-3), 0.0, 1.0);
}

}  // namespace

double RotaryScaling::growth() const {
  if (kind != Kind::yarn && kind != Kind::longrope) return 1;
  if (attention_factor > 0) return attention_factor;
  if (kind == Kind::yarn) return 1 + 0.1 * std::log(factor);
  return std::sqrt(1 + std::log(factor) / std::log(original_context));
}

std::vector<double> rotary_frequencies(size_t dim, double theta, const RotaryScaling& scaling,
                                       size_t context) {
  const auto n = static_cast<double>(dim);
  const double stretch = std::max(1.0, static_cast<double>(context) / scaling.original_context);
  const auto& factors = stretch > 1 ? scaling.long_factors : scaling.short_factors;
  if (scaling.kind == RotaryScaling::Kind::ntk) theta *= std::pow(scaling.factor, n / (n - 2));
  if (scaling.kind == RotaryScaling::Kind::dynamic)
    theta *= std::pow(scaling.factor * stretch - scaling.factor + 1, n / (n - 2));
  std::vector<double> frequencies(dim / 2);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    double& frequency = frequencies[i];
    frequency = std::pow(theta, -2.0 * static_cast<double>(i) / n);
    double kept = 1;
    if (scaling.kind == RotaryScaling::Kind::linear) kept = 0;
    if (scaling.kind == RotaryScaling::Kind::llama3) kept = kept_by_turns(frequency, scaling);
    if (scaling.kind == RotaryScaling::Kind::yarn)
      kept = kept_by_pair(static_cast<double>(i), n, theta, scaling);
    frequency *= kept + (1 - kept) / scaling.factor;
    if (scaling.kind == RotaryScaling::Kind::longrope) frequency /= factors[i];
  }
  return frequencies;
}

RotaryTable::RotaryTable(std::vector<double> frequencies, size_t positions, double growth)
    : frequencies_(std::move(frequencies)), positions_(positions), growth_(growth) {
  const size_t steps = positions / kStep + 1, half = frequencies_.size();
  coarse_.resize(steps * 2 * half);
  fine_.resize(kStep * 2 * half);
  for (size_t i = 0; i < half; ++i) {
    const auto fill = [&](std::vector<float>& table, size_t row, size_t position, double factor) {
      const double angle = static_cast<double>(position) * frequencies_[i];
      table[row * 2 * half + i] = static_cast<float>(factor * std::cos(angle));
      table[row * 2 * half + half + i] = static_cast<float>(factor * std::sin(angle));
    };
    for (size_t step = 0; step < steps; ++step) fill(coarse_, step, step * kStep, growth);
    for (size_t rest = 0; rest < kStep; ++rest) fill(fine_, rest, rest, 1);
  }
}

}  // namespace cairn
