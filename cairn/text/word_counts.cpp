#include "cairn/text/word_counts.h"

#include <cstring>

#include "cairn/base/error.h"
#include "cairn/base/hash.h"

namespace cairn {
namespace {
constexpr size_t kFirstSlots = 1 << 14;
constexpr size_t kMostWords = 0x7FFFFFFF;
}  // namespace

void WordCounts::add(std::string_view word, int64_t times) {
  if (words_.size() * 2 >= slots_.size()) grow();
  const uint64_t hash = hash64(word);
  const size_t mask = slots_.size() - 1;
  size_t slot = hash & mask;
  for (; slots_[slot] != 0; slot = (slot + 1) & mask) {
    Word& known = words_[slots_[slot] - 1];
    if (known.hash == hash && known.length == word.size() &&
        std::memcmp(arena_.data() + known.offset, word.data(), word.size()) == 0) {
      known.count += times;
      return;
    }
  }
  words_.push_back({hash, arena_.size(), word.size(), times});
  arena_.insert(arena_.end(), word.begin(), word.end());
  slots_[slot] = static_cast<uint32_t>(words_.size());
}

void WordCounts::grow() {
  if (words_.size() >= kMostWords) {
    throw Error({.doing = "counting words", .expected = "fewer than 2^31 different words"});
  }
  slots_.assign(slots_.empty() ? kFirstSlots : slots_.size() * 2, 0);
  const size_t mask = slots_.size() - 1;
  for (size_t i = 0; i < words_.size(); ++i) {
    size_t slot = words_[i].hash & mask;
    while (slots_[slot] != 0) slot = (slot + 1) & mask;
    slots_[slot] = static_cast<uint32_t>(i + 1);
  }
}

void WordCounts::add_all(const WordCounts& other) {
  for (size_t i = 0; i < other.size(); ++i) add(other.word(i), other.count(i));
}

}  // namespace cairn
