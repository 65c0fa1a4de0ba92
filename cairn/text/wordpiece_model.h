// WordPiece (BERT): the longest token that the rest of a word starts with, again and again; tokens
// inside a word are spelled with a prefix ("##ing"). A word that cannot be spelled is unknown.
#pragma once

#include <string_view>
#include <vector>

#include "cairn/text/vocabulary.h"

namespace cairn {

// Borrows spec and vocabulary, which must outlive it. Immutable after construction.
class WordPieceModel {
 public:
  // Throws Error (data) when there is no unknown token.
  WordPieceModel(const TokenizerSpec& spec, const Vocabulary& vocabulary);

  // Appends the tokens of a word.
  void encode(std::string_view word, std::vector<int32_t>& ids) const;

 private:
  const Vocabulary* vocabulary_;
  std::string prefix_;
  size_t longest_word_;
  size_t longest_token_ = 0;  // bytes
};

}  // namespace cairn
