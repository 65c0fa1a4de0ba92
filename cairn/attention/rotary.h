// Rotary position embedding (Su et al. 2021, arXiv:2104.09864) in the half-split order of Hugging
// Face models: for i < dim / 2, the pair (x[i], x[i + dim / 2]) turns by the angle
// position * theta^(-2 i / dim).
#pragma once

#include <cstddef>
#include <vector>

namespace cairn {

// Cosines and sines in two levels, so that the table stays in cache for any context: the angle of a
// position is the sum of those of its multiple of kStep and of its remainder. Angles are computed
// in float64. Immutable, so safe for any number of threads.
class RotaryTable {
 public:
  static constexpr size_t kStep = 64;

  // For positions below `positions`; `dim` is even.
  RotaryTable(size_t dim, double theta, size_t positions);

  size_t dim() const { return 2 * half_; }
  size_t positions() const { return positions_; }
  // cos [half], then sin [half], of the angle of position - position % kStep.
  const float* coarse(size_t position) const {
    return coarse_.data() + position / kStep * 2 * half_;
  }
  // The same of position % kStep.
  const float* fine(size_t position) const { return fine_.data() + position % kStep * 2 * half_; }

 private:
  size_t half_;
  size_t positions_;
  std::vector<float> coarse_;  // [positions / kStep + 1, 2, half]
  std::vector<float> fine_;    // [kStep, 2, half]
};

}  // namespace cairn
