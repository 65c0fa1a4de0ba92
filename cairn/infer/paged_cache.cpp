#include "cairn/infer/paged_cache.h"

#include <fmt/core.h>

#include <cstring>
#include <string>

#include "cairn/base/error.h"

namespace cairn {

namespace {

size_t row_bytes(BlockType type, size_t dim) {
  const std::string name(block_type_name(type));
  if (type != BlockType::f32 && type != BlockType::f16 && type != BlockType::bf16 &&
      type != BlockType::q8_0)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "making an attention cache",
                 .subject = "type",
                 .expected = "f32, f16, bf16 or q8_0",
                 .found = name});
  if (const size_t block = block_type_info(type).block_size; dim % block != 0)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "making an attention cache",
                 .subject = "keys and values as " + name,
                 .expected = fmt::format("heads of a multiple of {} dimensions", block),
                 .found = std::to_string(dim),
                 .hint = "keep keys and values in f16"});
  return block_row_bytes(type, dim);
}

}  // namespace

PagedCache::PagedCache(const CacheShape& shape)
    : shape_(shape),
      key_bytes_(row_bytes(shape.type, shape.head_dim)),
      value_bytes_(row_bytes(shape.type, shape.value_dim)) {
  keys_bytes_ = align_up(kPage * key_bytes_, kAlignment);
  head_bytes_ = keys_bytes_ + align_up(kPage * value_bytes_, kAlignment);
  page_bytes_ = shape.layers * shape.kv_heads * head_bytes_;
}

void PagedCache::prepare(size_t begin, size_t end) {
  if (page_bytes_ == 0 || begin >= end) return;
  const size_t wanted = (end + kPage - 1) / kPage;
  const size_t fresh = wanted > pages_.size() ? wanted - pages_.size() : 0;
  // The system gives addresses beyond its memory and ends the process later: ask before.
  if (const uint64_t free = fresh > 0 ? available_memory() : 0;
      fresh > 0 && fresh > free / page_bytes_)
    throw Error({.doing = "making room in an attention cache",
                 .expected = fmt::format("{} bytes for {} positions", fresh * page_bytes_, end),
                 .found = fmt::format("{} bytes available", free),
                 .hint = "shorten the text, or keep keys and values in f16 or q8_0"});
  for (size_t i = begin / kPage; i < std::min(wanted, pages_.size()); ++i) {
    if (pages_[i].use_count() == 1) continue;
    auto copy = std::make_shared<AlignedBuffer>(page_bytes_);
    std::memcpy(copy->data(), pages_[i]->data(), page_bytes_);
    pages_[i] = std::move(copy);
  }
  while (pages_.size() < wanted) pages_.push_back(std::make_shared<AlignedBuffer>(page_bytes_));
}

}  // namespace cairn
