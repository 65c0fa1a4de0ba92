// Rotary position embedding (Su et al. 2021, arXiv:2104.09864) in the half-split order of Hugging
// Face models: for i < dim / 2, the pair (x[i], x[i + dim / 2]) turns by the angle
// position * frequency[i], with frequency[i] = theta^(-2 i / dim) unless scaled.
#pragma once

#include <cstddef>
#include <vector>

namespace cairn {

// How frequencies are slowed so that a model reads further than it was trained.
struct RotaryScaling {
  enum class Kind {
    none,
    linear,   // all frequencies are divided by factor (Chen et al. 2023, arXiv:2306.15595)
    ntk,      // theta grows to theta * factor^(dim / (dim - 2)); dim of 4 or more
    llama3,   // slow frequencies are divided by factor, fast ones kept, between them a blend
    yarn,     // likewise, blended over pairs, and rotated vectors grow (Peng et al. 2023,
              // arXiv:2309.00071)
    dynamic,  // as ntk beyond the original context only, by how far the context in use exceeds it:
              // theta grows to theta * (factor * context / original - factor + 1)^(dim / (dim - 2))
    longrope,  // each frequency is divided by a number of its own, from one list where the context
               // in use fits the original one, from another beyond; rotated vectors grow (Ding et
               // al. 2024, arXiv:2402.13753)
  };
  Kind kind = Kind::none;
  double factor = 1;  // 1 or more: how many times longer
  // llama3: a frequency is fast when it turns high_turns times or more within the original context,
  // slow when low_turns times or less.
  double low_turns = 1;
  double high_turns = 4;
  double original_context = 8192;
  // yarn: the pair that turns fast_turns times within the original context is the last that is
  // fast, the one that turns slow_turns times the first that is slow.
  double fast_turns = 32;
  double slow_turns = 1;
  // Of rotated vectors; 0: for yarn 1 + 0.1 ln(factor), for longrope
  // sqrt(1 + ln(factor) / ln(original_context)).
  double attention_factor = 0;
  std::vector<double> short_factors, long_factors;  // [dim / 2], of longrope

  // What rotated vectors are multiplied by.
  double growth() const;
};

// The frequencies [dim / 2] in radians a token. `context`, the tokens in use, counts for dynamic
// and longrope only.
std::vector<double> rotary_frequencies(size_t dim, double theta, const RotaryScaling& scaling = {},
                                       size_t context = 0);

// Cosines and sines in two levels, so that the table stays in cache for any context: the angle of a
// position is the sum of those of its multiple of kStep and of its remainder. Angles are computed
// in float64. Immutable, so safe for any number of threads.
class RotaryTable {
 public:
  static constexpr size_t kStep = 64;

  // For positions below `positions`; `dim` is even.
  RotaryTable(size_t dim, double theta, size_t positions)
      : RotaryTable(rotary_frequencies(dim, theta), positions) {}
  // Rotated vectors are multiplied by `growth`.
  RotaryTable(std::vector<double> frequencies, size_t positions, double growth = 1);

  size_t dim() const { return 2 * frequencies_.size(); }
  size_t positions() const { return positions_; }
  const std::vector<double>& frequencies() const { return frequencies_; }
  double growth() const { return growth_; }
  // cos [half], then sin [half], of the angle of position - position % kStep, times growth.
  const float* coarse(size_t position) const { return coarse_.data() + position / kStep * dim(); }
  // The same of position % kStep.
  const float* fine(size_t position) const { return fine_.data() + position % kStep * dim(); }

 private:
  std::vector<double> frequencies_;
  size_t positions_;
  double growth_;
  std::vector<float> coarse_;  // [positions / kStep + 1, 2, half]
  std::vector<float> fine_;    // [kStep, 2, half]
};

}  // namespace cairn
