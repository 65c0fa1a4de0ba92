// What a pass of decoding is asked about the tokens that may follow: all logits, or only the
// highest, of all tokens or of those that a constraint allows. Rows of the head that nobody asks
// for are neither read nor multiplied, sixteen at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "cairn/infer/token_mask.h"
#include "cairn/infer/top_logits.h"
#include "cairn/tensor/view.h"

namespace cairn {

// Borrows all it names. A place is a token of the pass that something follows: the last one, or
// each of them.
struct HeadRequest {
  static constexpr size_t kMostBest = 256;
  // Unless all logits of all ids are wanted.
  static constexpr size_t kMostPlaces = 8;

  // The logits of every place [places, vocab_size], -infinity for ids that may not follow ...
  View2<float> logits;
  // ... or the `k` highest of every place, 1 to kMostBest, in rising order of ids [places].
  std::span<TopLogits> best;
  size_t k = 0;
  // Ids from here on may not follow.
  size_t ids = SIZE_MAX;
  // By place the ids that may follow, null for all; or empty, for all at every place.
  std::span<const TokenMask* const> allowed;

  size_t places() const { return best.empty() ? logits.rows : best.size(); }
  // Whether some of `vocab_size` ids may not follow.
  bool excludes(size_t vocab_size) const { return ids < vocab_size || !allowed.empty(); }
  // Which of ids [first, first + 16) may follow at a place, a bit each; `first` a multiple of 16.
  uint32_t allowed16(size_t place, size_t first) const {
    uint32_t bits = first >= ids ? 0 : 0xFFFF;
    if (first < ids && ids - first < 16) bits = (1U << (ids - first)) - 1;
    if (allowed.empty() || allowed[place] == nullptr) return bits;
    return bits & allowed[place]->sixteen(first);
  }
};

}  // namespace cairn
