#include "cairn/data/sampler.h"

#include <algorithm>
#include <string>
#include <utility>

#include "cairn/base/error.h"

namespace cairn {
namespace {

constexpr uint64_t kRounds = 6;

// Smallest h with 4^h >= size.
int half_bits_for(uint64_t size) {
  int half = 1;
  while (half < 32 && (uint64_t{1} << (2 * half)) < size) ++half;
  return half;
}

}  // namespace

Permutation::Permutation(uint64_t size, uint64_t seed, uint64_t key)
    : size_(size), key_(key), half_bits_(half_bits_for(size)), rounds_(seed, "permutation") {}

uint64_t Permutation::operator()(uint64_t index) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  do {
    uint64_t left = index >> half_bits_, right = index & mask;
    for (uint64_t round = 0; round < kRounds; ++round)
      left = std::exchange(right, left ^ (rounds_.bits(right, key_ * kRounds + round) & mask));
    index = left << half_bits_ | right;
  } while (index >= size_);
  return index;
}

Sampler::Sampler(std::vector<uint64_t> shard_tokens, uint64_t length, uint64_t seed)
    : length_(length), seed_(seed), windows_{0} {
  uint64_t most = 0;
  for (const uint64_t tokens : shard_tokens) {
    windows_.push_back(windows_.back() + (tokens == 0 ? 0 : (tokens - 1) / length));
    most = std::max(most, tokens);
  }
  if (windows_.back() == 0)
    throw Error({.kind = ErrorKind::data,
                 .doing = "sampling the dataset",
                 .expected = "a shard of at least " + std::to_string(length + 1) +
                             " tokens (one sequence and the token after it)",
                 .found = "at most " + std::to_string(most) + " tokens in a shard",
                 .hint = "use more text or a shorter sequence"});
}

SamplePlace Sampler::place(uint64_t sample) const {
  const Permutation permutation(samples_per_epoch(), seed_, epoch_of(sample));
  return window(permutation(sample % samples_per_epoch()));
}

SamplePlace Sampler::window(uint64_t window) const {
  const auto after = std::upper_bound(windows_.begin(), windows_.end(), window);
  const auto shard = static_cast<size_t>(after - windows_.begin()) - 1;
  return {shard, (window - windows_[shard]) * length_};
}

}  // namespace cairn
