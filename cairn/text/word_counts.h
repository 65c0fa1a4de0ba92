// How often each word occurs: what a BPE trainer learns from. An open-addressed table whose words
// lie one after another in an arena.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace cairn {

// One a thread while counting.
class WordCounts {
 public:
  // Counts `word` `times` more.
  void add(std::string_view word, int64_t times = 1);
  void add_all(const WordCounts& other);
  size_t size() const { return words_.size(); }

  // In order of first occurrence. Views are valid until the next add.
  std::string_view word(size_t index) const {
    return {arena_.data() + words_[index].offset, words_[index].length};
  }
  int64_t count(size_t index) const { return words_[index].count; }

 private:
  struct Word {
    uint64_t hash;
    size_t offset;
    size_t length;
    int64_t count;
  };
  void grow();
  std::vector<char> arena_;
  std::vector<Word> words_;
  std::vector<uint32_t> slots_;  // index into words_ plus one; 0: free
};

}  // namespace cairn
