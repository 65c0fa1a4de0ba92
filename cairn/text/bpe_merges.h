// Byte pair encoding of one word (Sennrich et al. 2016, arXiv:1508.07909): start from single bytes
// or characters and merge the neighbours of lowest rank, leftmost first among equals, until no pair
// of neighbours has a rank.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace cairn {

// Pairs of token ids and what they merge into. Built once, then read by any thread.
class MergeTable {
 public:
  static constexpr uint32_t kNoRank = 0xFFFFFFFF;
  struct Merge {
    uint32_t rank = kNoRank;  // lower merges first
    int32_t result = -1;
  };

  // Room for `pairs` insertions.
  explicit MergeTable(size_t pairs);
  // A pair given twice keeps its last merge, as the HF library does.
  void insert(int32_t left, int32_t right, Merge merge);
  // Asks for the memory of a pair that is inserted or found soon.
  void prefetch(int32_t left, int32_t right) const {
    __builtin_prefetch(&slots_[slot_of(key_of(left, right))], 1);
  }
  Merge find(int32_t left, int32_t right) const {
    const uint64_t key = key_of(left, right);
    for (size_t slot = slot_of(key);; slot = (slot + 1) & mask_) {
      if (slots_[slot].key == key) return slots_[slot].merge;
      if (slots_[slot].key == kEmpty) return {};
    }
  }

 private:
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  struct Slot {
    uint64_t key = kEmpty;
    Merge merge;
  };
  static uint64_t key_of(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  size_t slot_of(uint64_t key) const {
    return static_cast<size_t>((key * 0x9E3779B97F4A7C15u) >> shift_);
  }
  std::vector<Slot> slots_;
  size_t mask_ = 0;
  int shift_ = 0;
};

// Working memory for a word: one a thread, reused from word to word.
class WordScratch {
 public:
  std::string spelling;  // the word's, where tokens are spelled otherwise than text

 private:
  friend void merge_tokens(const MergeTable&, size_t, WordScratch&, std::vector<int32_t>&);
  struct Node {
    int32_t id;
    uint32_t previous;
    uint32_t next;
    MergeTable::Merge merge;  // with the next node
  };
  std::vector<Node> nodes_;
  std::vector<uint64_t> heap_;  // rank in the high half, position in the low

  void merge_long(const MergeTable& merges, std::vector<int32_t>& ids);
};

// Merges the tokens from ids[from] on, one word. Takes time O(n log n) in their number. Throws
// Error (data) for 2^31 of them or more.
void merge_tokens(const MergeTable& merges, size_t from, WordScratch& scratch,
                  std::vector<int32_t>& ids);

}  // namespace cairn
