// Named counter-based random streams: every draw is a pure function of (seed, stream name, index),
// so nothing has to be stored to resume, and draws may be made in any order by any thread.
// Generator: Philox4x32-10, Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011
// (Random123).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace cairn {

class RandomStream {
 public:
  // Streams of one seed with different names are independent.
  RandomStream(uint64_t seed, std::string_view name);

  // The stream of one Philox key itself: for known-answer tests.
  static RandomStream from_key(uint64_t key) { return RandomStream(key); }

  // Four independent 32-bit words for position (index, sub).
  std::array<uint32_t, 4> words(uint64_t index, uint64_t sub = 0) const;
  // 64 uniform bits.
  uint64_t bits(uint64_t index, uint64_t sub = 0) const;
  // Uniform in [0, 1), multiples of 2^-53.
  double uniform(uint64_t index, uint64_t sub = 0) const;
  // Standard normal (Box-Muller).
  double normal(uint64_t index, uint64_t sub = 0) const;
  // Uniform in [0, bound), bias below 2^-64 * bound. bound > 0.
  uint64_t below(uint64_t bound, uint64_t index, uint64_t sub = 0) const;

 private:
  explicit RandomStream(uint64_t key) : key_(key) {}
  uint64_t key_;
};

}  // namespace cairn
