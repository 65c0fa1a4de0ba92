// One split of a dataset on its way to disk: documents go in, token shards and the list of files
// come out.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "cairn/data/dataset.h"

namespace cairn {

class SplitWriter {
 public:
  // Writes into `folder`, which must be there. `tokenizer`: its fingerprint.
  SplitWriter(uint64_t vocab_size, uint64_t tokenizer, Split split, const Path& folder,
              uint64_t shard_tokens);

  // A document of `bytes` bytes of text, and where it came from. Throws Error (data) on tokens
  // outside the vocabulary.
  void add(std::span<const int32_t> tokens, uint64_t bytes, const std::string& origin);
  // The shard may end here, and does if it has shard_tokens.
  void cut();
  // Writes what is left.
  SplitInfo finish();

 private:
  void write_shard();

  Split split_;
  Path folder_;
  uint64_t shard_tokens_;
  ShardWriter writer_;
  SplitInfo info_;
  std::string names_;
};

}  // namespace cairn
