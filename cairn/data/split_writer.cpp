#include "cairn/data/split_writer.h"

#include <fmt/core.h>

#include <algorithm>

namespace cairn {

SplitWriter::SplitWriter(uint64_t vocab_size, uint64_t tokenizer, Split split, const Path& folder,
                         uint64_t shard_tokens)
    : split_(split), folder_(folder), shard_tokens_(shard_tokens), writer_(vocab_size, tokenizer) {}

void SplitWriter::add(std::span<const int32_t> tokens, uint64_t bytes, const std::string& origin) {
  writer_.add_document(tokens);
  info_.tokens += tokens.size();
  info_.bytes += bytes;
  ++info_.documents;
  // File names may hold anything but '/'; the list has one line each.
  const size_t begin = names_.size();
  names_ += origin + "\n";
  std::replace(names_.begin() + static_cast<std::ptrdiff_t>(begin), names_.end() - 1, '\n', '?');
}

void SplitWriter::cut() {
  if (writer_.tokens() >= shard_tokens_) write_shard();
}

SplitInfo SplitWriter::finish() {
  if (writer_.tokens() > 0) write_shard();
  write_file_atomically(folder_ / (std::string(split_name(split_)) + ".files"), names_);
  return info_;
}

void SplitWriter::write_shard() {
  info_.shards.push_back(fmt::format("{}-{:05}.tokens", split_name(split_), info_.shards.size()));
  writer_.write(folder_ / info_.shards.back());
}

}  // namespace cairn
