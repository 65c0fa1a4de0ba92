// Which tokens sample k is, as a pure function: no shuffled list is kept, any sample can be found
// at once, and every number of ranks or threads sees the same global batches (training.md 2.4).
#pragma once

#include <cstdint>
#include <vector>

#include "cairn/base/random.h"

namespace cairn {

// A permutation of [0, size): a Feistel network over the next power of four, walked until it lands
// inside. Luby and Rackoff 1988; cycle walking: Black and Rogaway 2002.
class Permutation {
 public:
  // size > 0. Permutations with different seeds or keys are unrelated.
  Permutation(uint64_t size, uint64_t seed, uint64_t key);
  uint64_t operator()(uint64_t index) const;  // index < size
  uint64_t size() const { return size_; }

 private:
  uint64_t size_;
  uint64_t key_;
  int half_bits_;
  RandomStream rounds_;
};

// Where a sample's length + 1 tokens begin.
struct SamplePlace {
  size_t shard = 0;
  uint64_t offset = 0;
};

// Cuts each shard into windows of `length` tokens (each read with the token after it) and shuffles
// them anew in each epoch: every window exactly once an epoch.
class Sampler {
 public:
  // `shard_tokens`: tokens of each shard. Throws Error (data) when no shard has length + 1 tokens.
  Sampler(std::vector<uint64_t> shard_tokens, uint64_t length, uint64_t seed);

  uint64_t samples_per_epoch() const { return windows_.back(); }
  uint64_t epoch_of(uint64_t sample) const { return sample / samples_per_epoch(); }
  SamplePlace place(uint64_t sample) const;   // any 64-bit index; epochs follow one another
  SamplePlace window(uint64_t window) const;  // in order, unshuffled: for evaluation

 private:
  uint64_t length_;
  uint64_t seed_;
  std::vector<uint64_t> windows_;  // before each shard, and all
};

}  // namespace cairn
