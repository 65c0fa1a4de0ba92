// Token shards: files of token ids that training reads from.
//
//   header        128 bytes, little-endian (below), with a hash of itself and of both tables
//   block hashes  u64 x blocks: XXH3 of each 16 MiB of the payload
//   documents     u64 x documents: token index at which each begins
//   payload       token ids, u16 or u32, from a multiple of 64 bytes to the end of the file
//
// Opening checks everything but the payload; a block of the payload is checked when it is first
// read. Shards are read, not mapped: one that is cut while a run trains on it ends in an Error.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cairn/base/file.h"

namespace cairn {

struct ShardInfo {
  uint64_t vocab_size = 0;
  uint64_t tokenizer = 0;  // fingerprint of the tokenizer that made it
  uint64_t tokens = 0;
  uint64_t documents = 0;
  uint32_t token_bytes = 2;  // 2 or 4
};

// A shard opened for reading. Thread-safe.
class Shard {
 public:
  // Throws Error (data) that names file, field, expected and found.
  explicit Shard(const Path& path);

  const ShardInfo& info() const { return info_; }
  const Path& path() const { return file_.path(); }

  // Copies tokens [begin, begin + out.size()). Throws Error (usage) beyond the end, Error (data)
  // when a block's hash is wrong, a token is not below vocab_size, or the file has been cut.
  void read(uint64_t begin, std::span<int32_t> out) const;
  // Where documents begin, rising, the first at 0.
  std::span<const uint64_t> document_starts() const { return documents_; }
  // The document that token `index` belongs to.
  uint64_t document_of(uint64_t index) const;
  // Asks the kernel to fetch tokens [begin, begin + count).
  void will_need(uint64_t begin, uint64_t count) const;

 private:
  void check_header();
  void check_block(uint64_t block) const;

  FileReader file_;
  ShardInfo info_;
  std::vector<uint64_t> tables_;
  std::span<const uint64_t> block_hashes_, documents_;  // parts of tables_
  uint64_t payload_ = 0;                                // where tokens begin in the file
  std::unique_ptr<std::atomic<bool>[]> checked_;        // a block each
};

// Collects documents and writes them as one shard.
class ShardWriter {
 public:
  ShardWriter(uint64_t vocab_size, uint64_t tokenizer);
  // Appends one document. Throws Error (data) on a token outside the vocabulary.
  void add_document(std::span<const int32_t> tokens);
  uint64_t tokens() const { return tokens_; }
  uint64_t documents() const { return documents_.size(); }
  // Writes the file; it appears whole or not at all. The writer is empty afterwards.
  void write(const Path& path);

 private:
  ShardInfo info_;
  std::string payload_;
  uint64_t tokens_ = 0;
  std::vector<uint64_t> documents_;
};

}  // namespace cairn
