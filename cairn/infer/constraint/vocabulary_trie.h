// The tokens of a vocabulary by their bytes, as a trie laid out in the order of a depth-first walk:
// which tokens may follow is found in one pass forward over an array.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cairn/text/tokenizer.h"

namespace cairn {

// Immutable; any thread may use it.
class VocabularyTrie {
 public:
  struct Node {
    uint32_t skip;         // the node behind all that begin with these bytes
    uint32_t first_token;  // of tokens(), those whose bytes end here; up to the next node's
    uint16_t depth;        // bytes from the root to here, at least 1
    uint8_t byte;
  };

  // Tokens that text can become: with bytes, and not special. Tokens longer than 65535 bytes are
  // left out. Ids from `vocab_size` on are, too.
  VocabularyTrie(const Tokenizer& tokenizer, size_t vocab_size);

  // In depth-first order, with one more at the end that no token reaches.
  std::span<const Node> nodes() const { return nodes_; }
  std::span<const int32_t> tokens() const { return tokens_; }
  size_t vocab_size() const { return vocab_size_; }
  size_t deepest() const { return deepest_; }

 private:
  std::vector<Node> nodes_;
  std::vector<int32_t> tokens_;
  size_t vocab_size_;
  size_t deepest_ = 0;
};

}  // namespace cairn
