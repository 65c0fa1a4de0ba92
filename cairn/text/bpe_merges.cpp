#include "cairn/text/bpe_merges.h"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>

#include "cairn/base/error.h"

namespace cairn {
namespace {

constexpr size_t kShortWord = 48;  // up to here looking at all pairs beats the heap
constexpr uint32_t kNone = 0xFFFFFFFF;
constexpr size_t kLongestWord = size_t{1} << 31;

// Merges `count` tokens in place; returns how many are left.
size_t merge_short(const MergeTable& merges, int32_t* id, size_t count) {
  std::array<MergeTable::Merge, kShortWord> merge;  // of each token with the next
  for (size_t i = 0; i + 1 < count; ++i) merge[i] = merges.find(id[i], id[i + 1]);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i) {
      if (merge[i].rank < merge[best].rank) best = i;
    }
    if (merge[best].rank == MergeTable::kNoRank) break;
    id[best] = merge[best].result;
    for (size_t i = best + 1; i + 1 < count; ++i) {
      id[i] = id[i + 1];
      merge[i] = merge[i + 1];
    }
    --count;
    if (best > 0) merge[best - 1] = merges.find(id[best - 1], id[best]);
    if (best + 1 < count) merge[best] = merges.find(id[best], id[best + 1]);
  }
  return count;
}

}  // namespace

MergeTable::MergeTable(size_t pairs) {
  // From a third to two thirds full.
  const size_t size = std::bit_ceil(std::max<size_t>(pairs + pairs / 2, 16));
  slots_.resize(size);
  mask_ = size - 1;
  shift_ = 64 - std::countr_zero(size);
}

void MergeTable::insert(int32_t left, int32_t right, Merge merge) {
  const uint64_t key = key_of(left, right);
  size_t slot = slot_of(key);
  while (slots_[slot].key != kEmpty && slots_[slot].key != key) slot = (slot + 1) & mask_;
  slots_[slot] = {key, merge};
}

void WordScratch::merge_long(const MergeTable& merges, std::vector<int32_t>& ids) {
  const auto rank_pair = [&](uint32_t at) {
    Node& node = nodes_[at];
    node.merge =
        node.next == kNone ? MergeTable::Merge{} : merges.find(node.id, nodes_[node.next].id);
    return node.merge.rank;
  };
  const auto entry = [](uint32_t rank, uint32_t at) { return uint64_t{rank} << 32 | at; };
  heap_.clear();
  for (uint32_t at = 0; at < nodes_.size(); ++at) {
    const uint32_t rank = rank_pair(at);
    if (rank != MergeTable::kNoRank) heap_.push_back(entry(rank, at));
  }
  std::make_heap(heap_.begin(), heap_.end(), std::greater<>());
  const auto push = [&](uint32_t at) {
    const uint32_t rank = rank_pair(at);
    if (rank == MergeTable::kNoRank) return;
    heap_.push_back(entry(rank, at));
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
  };
  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
    const auto rank = static_cast<uint32_t>(heap_.back() >> 32);
    const auto at = static_cast<uint32_t>(heap_.back());
    heap_.pop_back();
    Node& node = nodes_[at];
    // The pair that this entry meant may have changed since: then another entry speaks for it.
    if (node.merge.rank != rank) continue;
    Node& gone = nodes_[node.next];
    node.id = node.merge.result;
    node.next = gone.next;
    gone.merge = {};
    if (gone.next != kNone) nodes_[gone.next].previous = at;
    push(at);
    if (node.previous != kNone) push(node.previous);
  }
  for (uint32_t at = 0; at != kNone; at = nodes_[at].next) ids.push_back(nodes_[at].id);
}

void merge_tokens(const MergeTable& merges, size_t from, WordScratch& scratch,
                  std::vector<int32_t>& ids) {
  const size_t tokens = ids.size() - from;
  if (tokens <= kShortWord) {
    ids.resize(from + merge_short(merges, ids.data() + from, tokens));
    return;
  }
  if (tokens >= kLongestWord) {
    throw Error({.kind = ErrorKind::data,
                 .doing = "encoding text",
                 .expected = "words shorter than 2 GiB",
                 .found = "one of " + std::to_string(tokens) + " bytes"});
  }
  const auto count = static_cast<uint32_t>(tokens);
  scratch.nodes_.resize(count);
  for (uint32_t i = 0; i < count; ++i) {
    scratch.nodes_[i] = {.id = ids[from + i],
                         .previous = i == 0 ? kNone : i - 1,
                         .next = i + 1 == count ? kNone : i + 1,
                         .merge = {}};
  }
  ids.resize(from);
  scratch.merge_long(merges, ids);
}

}  // namespace cairn
