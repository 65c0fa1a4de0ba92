// Tokens of words met before. Direct-mapped: a new word takes the place of another, so the memory
// is fixed (1.5 MiB) however long the text is. Words longer than 15 bytes or 7 tokens are not kept.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace cairn {

// One a thread and tokenizer.
class WordCache {
 public:
  static constexpr size_t kLongestWord = 15;
  static constexpr size_t kMostTokens = 7;

  // What a word is kept under. Valid for words of 1 to kLongestWord bytes.
  struct Key {
    uint64_t low = 0;
    uint64_t high = 0;  // its top byte is the length, so no word is all zero
    bool operator==(const Key& other) const { return low == other.low && high == other.high; }
  };

  // `readable` is where the memory that may be read ends: at least the word's end.
  static Key key_of(std::string_view word, const char* readable) {
    Key key;
    const size_t n = word.size();
    if (readable - word.data() >= 16) {  // two plain loads, then the excess masked off
      std::memcpy(&key.low, word.data(), 8);
      std::memcpy(&key.high, word.data() + 8, 8);
      key.low &= n >= 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * n)) - 1;
      key.high &= n > 8 ? (uint64_t{1} << (8 * (n - 8))) - 1 : 0;
    } else {
      std::memcpy(&key.low, word.data(), n < 8 ? n : 8);
      if (n > 8) std::memcpy(&key.high, word.data() + 8, n - 8);
    }
    key.high |= uint64_t{n} << 56;
    return key;
  }

  // The tokens, or an empty span. Valid until the next keep().
  std::span<const int32_t> find(const Key& key) const {
    if (slots_.empty()) return {};
    const Slot& slot = slots_[slot_of(key)];
    if (!(slot.key == key)) return {};
    return {slot.ids.data(), slot.count};
  }

  void keep(const Key& key, std::span<const int32_t> ids) {
    if (slots_.empty() || ids.empty() || ids.size() > kMostTokens) return;
    Slot& slot = slots_[slot_of(key)];
    slot.key = key;
    slot.count = static_cast<uint32_t>(ids.size());
    std::memcpy(slot.ids.data(), ids.data(), ids.size_bytes());
  }

  // Takes the memory; without it nothing is kept. Short texts do not need it.
  void allocate() {
    if (slots_.empty()) slots_.resize(kSlots);
  }

 private:
  static constexpr int kLog2Slots = 15;
  static constexpr size_t kSlots = size_t{1} << kLog2Slots;
  struct Slot {
    Key key;
    uint32_t count = 0;
    std::array<int32_t, kMostTokens> ids{};
  };
  static size_t slot_of(const Key& key) {
    const uint64_t mixed = (key.low ^ (key.high * 0x9E3779B97F4A7C15u)) * 0xD6E8FEB86659FD93u;
    return static_cast<size_t>((mixed ^ (mixed >> 29)) * 0x9E3779B97F4A7C15u >> (64 - kLog2Slots));
  }
  std::vector<Slot> slots_;
};

}  // namespace cairn
