// Pairs of texts: a source, and what an encoder-decoder is to write to it. In a dataset of pairs
// (DatasetInfo::pairs) sources and targets are documents in turns, each ended by the end-of-text
// token, and a shard holds whole pairs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cairn/data/dataset.h"
#include "cairn/nn/batch.h"

namespace cairn {

struct PairPackOptions {
  // With a pair a line: {"source": "...", "target": "..."}, or, in files that end in .tsv, the two
  // with a tab between them.
  std::vector<Path> files;
  double held_out_fraction = 0.05;  // of pairs, chosen by a hash of their text
  uint64_t shard_tokens = uint64_t{1} << 26;
};

// Tokenises the pairs of all files and writes the dataset into `folder`, as pack_dataset() does.
// Throws Error (data) naming file and line of what is not a pair.
DatasetInfo pack_pairs(const PairPackOptions& options, const Tokenizer& tokenizer,
                       const Path& folder);

struct PairOptions {
  size_t length = 512;   // tokens of a source and of a target; what is longer is cut
  int32_t start_id = 0;  // what the decoder's tokens begin with
  uint64_t seed = 0;
};

// Batches of pairs, one a sequence: source and target fill the beginnings of their streams, padding
// is a sequence of its own. Thread-safe.
class PairBatches {
 public:
  // `stream` must outlive it. Throws Error (data) when it does not hold whole pairs, or none.
  PairBatches(const TokenStream& stream, const PairOptions& options);

  uint64_t size() const { return pairs_.back(); }
  // Samples first ... first + count - 1: every pair once an epoch, in another order in each.
  Batch shuffled(uint64_t first, size_t count) const;
  // Pairs first ... first + count - 1. Throws Error (usage) beyond the last.
  Batch in_order(uint64_t first, size_t count) const;
  // Where the pair of a sample came from: "FILE:LINE".
  std::string origin(uint64_t sample) const;

 private:
  struct Place {
    size_t shard = 0;
    uint64_t document = 0;  // the source; the target is the next one
  };
  Place place(uint64_t pair) const;
  uint64_t pair_of(uint64_t sample) const;
  std::vector<int32_t> document(const Place& place, uint64_t index) const;
  void add(uint64_t pair, Batch& batch) const;

  const TokenStream& stream_;
  PairOptions options_;
  std::vector<uint64_t> pairs_;  // before each shard, and all
};

}  // namespace cairn
