// Keys and values of one text for layers of plain softmax attention, as the compiled decode step
// reads them (infer/attention_step.h). Memory comes in pages of 256 positions that hold all layers,
// so a text takes what it needs, growing moves nothing, and forks share the pages they have in
// common until one of them writes (Kwon et al. 2023, arXiv:2309.06180, at the scale of one user).
//
// Within a page a key head has its keys in tiles of 16 positions, [16][head_dim][16], so that one
// vector register holds the same dimension of 16 positions and scores need no horizontal sums, and
// its values row by row, [256][value_dim]. Elements are f32, f16 or bf16.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "cairn/base/memory.h"
#include "cairn/tensor/dtype.h"

namespace cairn {

struct CacheShape {
  size_t layers = 0;
  size_t kv_heads = 0;
  size_t head_dim = 0;
  size_t value_dim = 0;
  DType dtype = DType::f16;
};

class PagedCache {
 public:
  static constexpr size_t kPage = 256;  // positions
  static constexpr size_t kTile = 16;   // positions that lie side by side

  // Throws Error (usage) when the type is none of the three.
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
  size_t keys_bytes_ = 0;  // of one head in one page
  size_t head_bytes_ = 0;
  size_t page_bytes_ = 0;
  std::vector<std::shared_ptr<AlignedBuffer>> pages_;
};

}  // namespace cairn
