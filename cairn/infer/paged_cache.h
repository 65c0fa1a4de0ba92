// Keys and values of one text for layers of plain softmax attention, as the compiled decode step
// reads them (infer/attention_step.h). Memory comes in pages of 256 positions, so a text takes what
// it needs, growing moves nothing, and forks share the pages they have in common until one of them
// writes (Kwon et al. 2023, arXiv:2309.06180, at the scale of one user).
//
// Layers with the same sliding window share pages and let go of those that no query can see any
// more, so that they hold their window and kRewind positions however long the text is.
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
  std::vector<size_t> windows;  // [layers] keys that a query sees, its own included; 0: all
  size_t kv_heads = 0;
  size_t head_dim = 0;
  size_t value_dim = 0;
  BlockType type = BlockType::f16;
};

// The first position that a query at `position` sees.
constexpr size_t first_visible(size_t window, size_t position) {
  return window == 0 || position < window ? 0 : position + 1 - window;
}

class PagedCache {
 public:
  static constexpr size_t kPage = 256;  // positions
  static constexpr size_t kTile = 16;   // positions that lie side by side
  // Positions by which a text can always be cut short; the most that prepare() takes at once.
  static constexpr size_t kRewind = 256;

  // Throws Error (usage) when the type is none of the four, or q8_0 and a head no multiple of 32.
  explicit PagedCache(const CacheShape& shape);
  // An independent text that continues from here; pages are shared until written.
  PagedCache(const PagedCache& other);
  PagedCache(PagedCache&&) noexcept = default;
  PagedCache& operator=(PagedCache&&) noexcept = default;

  const CacheShape& shape() const { return shape_; }
  // Bytes of all pages, shared and reserved ones included.
  size_t bytes() const;

  // Bytes that a position takes of a head's keys and of its values.
  size_t key_bytes() const { return key_bytes_; }
  size_t value_bytes() const { return value_bytes_; }

  // Memory for positions [begin, end), at most kRewind, all of it this text's own. Layers with a
  // window then hold what the queries at `mark`, and from kRewind before `end` on, can see. Throws
  // Error (failed) when there is not enough memory; what was stored stays. Allocates only for pages
  // that are new or shared.
  void prepare(size_t begin, size_t end, size_t mark);
  void prepare(size_t begin, size_t end) { prepare(begin, end, begin); }
  // Takes the memory that a text of `length` positions has now will need until it has `end`. Throws
  // as prepare() does.
  void reserve(size_t length, size_t end);
  // Copies the page that holds position `from`, of all layers, over the one that holds `to`. Both
  // are held, and `to` is this text's own (prepare); layers have no windows.
  void copy_page(size_t from, size_t to);
  // Forgets positions from `length` on.
  void truncate(size_t length);
  // Whether all that a query at `position` sees before itself is held.
  bool holds_before(size_t position) const;
  // Most pages that a layer holds of a text of `length` positions.
  static size_t most_pages(size_t window, size_t length);

  // The tiles of keys, or the rows of values, of the page that holds `position`.
  std::byte* keys(size_t layer, size_t kv_head, size_t position) const {
    const Place& place = places_[layer];
    return groups_[place.group].pages[position / kPage]->data() +
           (place.index * shape_.kv_heads + kv_head) * head_bytes_;
  }
  std::byte* values(size_t layer, size_t kv_head, size_t position) const {
    return keys(layer, kv_head, position) + keys_bytes_;
  }

 private:
  using Page = std::shared_ptr<AlignedBuffer>;

  // The layers of one window.
  struct Group {
    size_t window = 0, layers = 0;
    size_t lowest = 0, held = 0;  // pages before `lowest` are null; how many are not
    std::vector<Page> pages;      // by position / kPage
    std::vector<Page> spare;      // this text's own
  };
  struct Place {
    size_t group, index;
  };

  size_t page_bytes(const Group& group) const {
    return group.layers * shape_.kv_heads * head_bytes_;
  }
  void check_memory(size_t begin, size_t end) const;
  void release(Group& group, size_t index);
  Page take(Group& group);

  CacheShape shape_;
  size_t key_bytes_ = 0, value_bytes_ = 0;
  size_t keys_bytes_ = 0;  // of one head in one page
  size_t head_bytes_ = 0;
  std::vector<Group> groups_;
  std::vector<Place> places_;  // by layer
};

}  // namespace cairn
