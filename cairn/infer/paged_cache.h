// Keys and values of one text for layers of plain softmax attention, as the compiled decode step
// reads them (infer/attention_step.h). Memory comes in pages of 256 positions that hold all layers,
// so a text takes what it needs, growing moves nothing, and forks share the pages they have in
// common until one of them writes (Kwon et al. 2023, arXiv:2309.06180, at the scale of one user).
//
// Within a page a key head has its keys in tiles of 16 positions, [16][head_dim][16], so that one
// vector register holds the same dimension of 16 positions and scores need no horizontal sums, and
// its values row by row, [256][value_dim]. Elements are f32, f16, bf16, or 8 bits under one half
// for 32 dimensions of a position (q8_0), halves in front:
//   keys    [16][head_dim / 32] of halves [16] and int8 [32][16]
//   values  [4][value_dim / 32] of halves [64] and int8 [64][32]
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "cairn/base/memory.h"
#include "cairn/tensor/block_type.h"

namespace cairn {

struct CacheShape {
  size_t layers = 0;
  size_t kv_heads = 0;
  size_t head_dim = 0;
  size_t value_dim = 0;
  BlockType type = BlockType::f16;
};

class PagedCache {
 public:
  static constexpr size_t kPage = 256;  // positions
  static constexpr size_t kTile = 16;   // positions that lie side by side

  // Throws Error (usage) when the type is none of the four, or q8_0 and a head no multiple of 32.
  explicit PagedCache(const CacheShape& shape);
  // An independent text that continues from here; pages are shared until written.
  PagedCache(const PagedCache& other) = default;
  PagedCache(PagedCache&&) noexcept = default;
  PagedCache& operator=(PagedCache&&) noexcept = default;

  const CacheShape& shape() const { return shape_; }
  // Bytes of all pages, shared ones included.
  size_t bytes() const { return pages_.size() * page_bytes(); }
  size_t page_bytes() const { return page_bytes_; }
  // Positions that there is memory for.
  size_t capacity() const { return pages_.size() * kPage; }

  // Bytes that a position takes of a head's keys and of its values.
  size_t key_bytes() const { return key_bytes_; }
  size_t value_bytes() const { return value_bytes_; }

  // Memory for positions [begin, end), all of it this text's own. Throws Error (failed) when there
  // is not enough; what was stored stays. Allocates only for pages that are new or shared.
  void prepare(size_t begin, size_t end);

  // The tiles of keys, or the rows of values, of the page that holds `position`.
  std::byte* keys(size_t layer, size_t kv_head, size_t position) const {
    return page(position) + head_at(layer, kv_head);
  }
  std::byte* values(size_t layer, size_t kv_head, size_t position) const {
    return page(position) + head_at(layer, kv_head) + keys_bytes_;
  }

 private:
  std::byte* page(size_t position) const { return pages_[position / kPage]->data(); }
  size_t head_at(size_t layer, size_t kv_head) const {
    return (layer * shape_.kv_heads + kv_head) * head_bytes_;
  }

  CacheShape shape_;
  size_t key_bytes_ = 0, value_bytes_ = 0;
  size_t keys_bytes_ = 0;  // of one head in one page
  size_t head_bytes_ = 0;
  size_t page_bytes_ = 0;
  std::vector<std::shared_ptr<AlignedBuffer>> pages_;
};

}  // namespace cairn
