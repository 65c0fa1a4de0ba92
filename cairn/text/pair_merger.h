// The inner loop of BPE training: all words as sequences of tokens, how often each pair of
// neighbours occurs in them, and the merge of one pair everywhere, which touches only the words
// that hold it and corrects the counts of the pairs beside it.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "cairn/text/word_counts.h"

namespace cairn {

// One thread at a time.
class PairMerger {
 public:
  struct Pair {
    int32_t left = -1;
    int32_t right = -1;
    int64_t count = 0;
  };

  // All words of `counts` as bytes; `byte_ids` gives the token of each.
  PairMerger(const WordCounts& counts, const std::array<int32_t, 256>& byte_ids);

  // The pair that occurs most often (overlaps counted: "aaa" holds two); among equals the one with
  // the lower left, then the lower right id. Count 0 when no pair is left.
  Pair most_frequent();

  // Replaces the pair by `token` in all words, from left to right in each.
  void merge(const Pair& pair, int32_t token);

 private:
  struct Word {
    size_t offset;    // of its first token in tokens_
    uint32_t length;  // tokens
    int64_t count;
  };
  struct PairEntry {
    uint64_t key = 0;
    int64_t count = 0;
    std::vector<uint32_t> words;  // those that hold it, and perhaps some that no longer do
  };
  struct Candidate {
    int64_t count;
    uint64_t key;
    uint32_t entry;
    // For a heap with the best on top.
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : key > other.key;
    }
  };

  uint32_t entry_of(int32_t left, int32_t right);
  void grow();
  void change(int32_t left, int32_t right, int64_t amount, uint32_t word);
  void merge_in(uint32_t word, int32_t left, int32_t right, int32_t token);
  void offer(uint32_t entry);

  std::vector<int32_t> tokens_;
  std::vector<Word> words_;
  std::vector<PairEntry> entries_;
  std::vector<uint32_t> slots_;  // index into entries_ plus one; 0: free
  std::vector<Candidate> heap_;  // counts may be out of date
  std::vector<uint32_t> risen_;  // entries whose count rose in this merge
};

}  // namespace cairn
