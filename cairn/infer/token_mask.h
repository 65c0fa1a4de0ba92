// A set of token ids, one bit each: which tokens may come next.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace cairn {

class TokenMask {
 public:
  TokenMask() = default;
  // Of ids [0, vocab_size); empty at first.
  explicit TokenMask(size_t vocab_size) : words_((vocab_size + 63) / 64), size_(vocab_size) {}

  size_t size() const { return size_; }
  bool contains(int32_t id) const {
    const auto at = static_cast<size_t>(id);
    return id >= 0 && at < size_ && (words_[at / 64] >> (at % 64) & 1) != 0;
  }
  // The id must be inside [0, size()).
  void insert(int32_t id) {
    words_[static_cast<size_t>(id) / 64] |= uint64_t{1} << (static_cast<size_t>(id) % 64);
  }
  // Ids [first, first + 16), a bit each; `first` must be a multiple of 16.
  uint32_t sixteen(size_t first) const {
    return first < size_ ? static_cast<uint32_t>(words_[first / 64] >> (first % 64) & 0xFFFF) : 0;
  }
  size_t count() const {
    size_t sum = 0;
    for (const uint64_t word : words_) sum += static_cast<size_t>(std::popcount(word));
    return sum;
  }
  bool empty() const {
    for (const uint64_t word : words_)
      if (word != 0) return false;
    return true;
  }
  // Calls body(id) for the ids in rising order.
  template <class Body>
  void for_each(Body&& body) const {
    for (size_t w = 0; w < words_.size(); ++w)
      for (uint64_t left = words_[w]; left != 0; left &= left - 1)
        body(static_cast<int32_t>(w * 64 + static_cast<size_t>(std::countr_zero(left))));
  }
  size_t bytes() const { return words_.size() * sizeof(uint64_t); }

  bool operator==(const TokenMask&) const = default;

 private:
  std::vector<uint64_t> words_;
  size_t size_ = 0;
};

}  // namespace cairn
