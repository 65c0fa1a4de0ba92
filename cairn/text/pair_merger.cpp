#include "cairn/text/pair_merger.h"

#include <algorithm>
#include <utility>

namespace cairn {
namespace {

constexpr size_t kFirstSlots = 1 << 12;

uint64_t key_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

size_t hash_of(uint64_t key) {
  key *= 0x9E3779B97F4A7C15u;
  return static_cast<size_t>(key ^ key >> 32);
}

}  // namespace

PairMerger::PairMerger(const WordCounts& counts, const std::array<int32_t, 256>& byte_ids) {
  size_t bytes = 0;
  for (size_t i = 0; i < counts.size(); ++i) bytes += counts.word(i).size();
  tokens_.reserve(bytes);
  words_.reserve(counts.size());
  for (size_t i = 0; i < counts.size(); ++i) {
    const std::string_view word = counts.word(i);
    words_.push_back({tokens_.size(), static_cast<uint32_t>(word.size()), counts.count(i)});
    for (const char c : word) tokens_.push_back(byte_ids[static_cast<unsigned char>(c)]);
  }
  for (uint32_t w = 0; w < words_.size(); ++w) {
    const int32_t* token = tokens_.data() + words_[w].offset;
    for (uint32_t i = 0; i + 1 < words_[w].length; ++i) {
      change(token[i], token[i + 1], words_[w].count, w);
    }
  }
  risen_.clear();
  heap_.reserve(entries_.size());
  for (uint32_t i = 0; i < entries_.size(); ++i) {
    heap_.push_back({entries_[i].count, entries_[i].key, i});
  }
  std::make_heap(heap_.begin(), heap_.end());
}

void PairMerger::grow() {
  slots_.assign(slots_.empty() ? kFirstSlots : slots_.size() * 2, 0);
  const size_t mask = slots_.size() - 1;
  for (uint32_t i = 0; i < entries_.size(); ++i) {
    size_t slot = hash_of(entries_[i].key) & mask;
    while (slots_[slot] != 0) slot = (slot + 1) & mask;
    slots_[slot] = i + 1;
  }
}

uint32_t PairMerger::entry_of(int32_t left, int32_t right) {
  if (entries_.size() * 2 >= slots_.size()) grow();
  const uint64_t key = key_of(left, right);
  const size_t mask = slots_.size() - 1;
  size_t slot = hash_of(key) & mask;
  for (; slots_[slot] != 0; slot = (slot + 1) & mask) {
    if (entries_[slots_[slot] - 1].key == key) return slots_[slot] - 1;
  }
  entries_.push_back({.key = key, .count = 0, .words = {}});
  slots_[slot] = static_cast<uint32_t>(entries_.size());
  return slots_[slot] - 1;
}

void PairMerger::change(int32_t left, int32_t right, int64_t amount, uint32_t word) {
  const uint32_t index = entry_of(left, right);
  PairEntry& entry = entries_[index];
  entry.count += amount;
  if (amount <= 0) return;
  if (entry.words.empty() || entry.words.back() != word) entry.words.push_back(word);
  risen_.push_back(index);
}

void PairMerger::offer(uint32_t index) {
  const PairEntry& entry = entries_[index];
  if (entry.count <= 0) return;
  heap_.push_back({entry.count, entry.key, index});
  std::push_heap(heap_.begin(), heap_.end());
}

PairMerger::Pair PairMerger::most_frequent() {
  while (!heap_.empty()) {
    const Candidate top = heap_.front();
    const PairEntry& entry = entries_[top.entry];
    if (entry.count == top.count && top.count > 0) {
      return {static_cast<int32_t>(top.key >> 32), static_cast<int32_t>(top.key), top.count};
    }
    std::pop_heap(heap_.begin(), heap_.end());
    heap_.pop_back();
    // A count that rose has been offered again already; one that fell is offered here. It may then
    // be in the heap twice, which is harmless: after its merge the count is 0.
    if (entry.count < top.count) offer(top.entry);
  }
  return {};
}

void PairMerger::merge(const Pair& pair, int32_t token) {
  const uint32_t index = entry_of(pair.left, pair.right);
  const std::vector<uint32_t> words = std::exchange(entries_[index].words, {});
  risen_.clear();
  for (const uint32_t word : words) merge_in(word, pair.left, pair.right, token);
  entries_[index].count = 0;  // overlaps ("aaa") were counted, and none is left
  std::sort(risen_.begin(), risen_.end());
  risen_.erase(std::unique(risen_.begin(), risen_.end()), risen_.end());
  for (const uint32_t entry : risen_) offer(entry);
}

void PairMerger::merge_in(uint32_t index, int32_t left, int32_t right, int32_t token) {
  Word& word = words_[index];
  int32_t* const tokens = tokens_.data() + word.offset;
  uint32_t kept = 0;  // tokens before this are final
  for (uint32_t at = 0; at < word.length;) {
    const bool found = at + 1 < word.length && tokens[at] == left && tokens[at + 1] == right;
    if (!found) {
      tokens[kept++] = tokens[at++];
      continue;
    }
    if (kept > 0) {
      change(tokens[kept - 1], left, -word.count, index);
      change(tokens[kept - 1], token, word.count, index);
    }
    if (at + 2 < word.length) {
      change(right, tokens[at + 2], -word.count, index);
      change(token, tokens[at + 2], word.count, index);
    }
    tokens[kept++] = token;
    at += 2;
  }
  word.length = kept;
}

}  // namespace cairn
