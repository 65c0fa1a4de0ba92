#include "cairn/infer/constraint/vocabulary_trie.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace cairn {

VocabularyTrie::VocabularyTrie(const Tokenizer& tokenizer, size_t vocab_size)
    : vocab_size_(vocab_size) {
  std::vector<std::pair<std::string_view, int32_t>> sorted;
  const size_t known = std::min(vocab_size, tokenizer.vocab_size());
  for (size_t i = 0; i < known; ++i) {
    const auto id = static_cast<int32_t>(i);
    const std::string_view bytes = tokenizer.token_bytes(id);
    if (!bytes.empty() && bytes.size() <= UINT16_MAX && !tokenizer.is_special(id))
      sorted.emplace_back(bytes, id);
  }
  std::sort(sorted.begin(), sorted.end());
  std::vector<uint32_t> open;  // the nodes from the root to the last one
  const auto close_to = [&](size_t depth) {
    while (open.size() > depth) {
      nodes_[open.back()].skip = static_cast<uint32_t>(nodes_.size());
      open.pop_back();
    }
  };
  std::string_view last;
  for (const auto& [bytes, id] : sorted) {
    const auto end = std::mismatch(bytes.begin(), bytes.end(), last.begin(), last.end()).first;
    close_to(static_cast<size_t>(end - bytes.begin()));
    while (open.size() < bytes.size()) {
      const size_t depth = open.size();
      open.push_back(static_cast<uint32_t>(nodes_.size()));
      nodes_.push_back({0, static_cast<uint32_t>(tokens_.size()), static_cast<uint16_t>(depth + 1),
                        static_cast<uint8_t>(bytes[depth])});
    }
    tokens_.push_back(id);
    deepest_ = std::max(deepest_, bytes.size());
    last = bytes;
  }
  close_to(0);
  nodes_.push_back(
      {static_cast<uint32_t>(nodes_.size()) + 1, static_cast<uint32_t>(tokens_.size()), 0, 0});
}

}  // namespace cairn
