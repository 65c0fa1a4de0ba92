// Prompt lookup: what followed the last few tokens where they stood before, in this text or in
// earlier ones (Saxena 2023, "Prompt Lookup Decoding"; Yang et al. 2023, arXiv:2304.04487). Free,
// and often right where a text quotes, edits or repeats.
#pragma once

#include <array>
#include <unordered_map>

#include "cairn/infer/speculation/proposer.h"

namespace cairn {

// Where each sequence of 1 to kLongest tokens last ended in a text that grows.
class NgramIndex {
 public:
  static constexpr size_t kLongest = 3;

  // Takes more tokens at the end.
  void extend(std::span<const int32_t> tokens);
  std::span<const int32_t> text() const { return text_; }

  // The place behind the latest of the last `length` tokens of `history` in the text that something
  // follows; 0 when there is none.
  size_t find(std::span<const int32_t> history, size_t length) const;

 private:
  std::vector<int32_t> text_;
  // By hash of the sequence: the place behind it. Only sequences that something follows.
  std::array<std::unordered_map<uint64_t, uint32_t>, kLongest> places_;
};

class LookupProposer final : public Proposer {
 public:
  // `earlier`: texts to quote from when the present one has nothing.
  explicit LookupProposer(std::span<const int32_t> earlier = {});

  void propose(std::span<const int32_t> history, size_t most, Proposal& proposal) override;

 private:
  NgramIndex own_, earlier_;
};

}  // namespace cairn
