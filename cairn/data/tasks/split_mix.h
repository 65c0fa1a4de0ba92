// SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"): a
// sequential generator so small that any language can repeat it. Synthetic tasks draw from it, not
// from the house's RandomStream, so that other programs can make the very same sequences.
#pragma once

#include <cstdint>

namespace cairn {

class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    state_ += 0x9E3779B97F4A7C15U;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
  }
  // Uniform in [0, 1), multiples of 2^-53.
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  // Uniform in [0, bound), without bias: draws at or above the last multiple of bound are
  // discarded. bound > 0.
  uint64_t below(uint64_t bound) {
    const uint64_t excess = (0 - bound) % bound;  // 2^64 mod bound
    uint64_t z = next();
    while (z > UINT64_MAX - excess) z = next();
    return z % bound;
  }

 private:
  uint64_t state_;
};

}  // namespace cairn
