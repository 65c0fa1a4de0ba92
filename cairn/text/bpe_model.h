// Byte pair encoding over bytes or characters, by the merges of a file or by SentencePiece scores.
#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "cairn/text/bpe_merges.h"
#include "cairn/text/vocabulary.h"

namespace cairn {

// Borrows the vocabulary, which must outlive it. Immutable after construction.
class BpeModel {
 public:
  // Throws Error (data) for a merge whose parts or result have no id, and for scores that are not
  // as many as tokens, or not finite.
  BpeModel(const TokenizerSpec& spec, const Vocabulary& vocabulary);

  // Appends the tokens of a word.
  void encode(std::string_view word, WordScratch& scratch, std::vector<int32_t>& ids) const;

  // Bytes that have no token: 0 but for unusual byte-level vocabularies.
  size_t bytes_without_token() const;

 private:
  void read_merges(const TokenizerSpec& spec);
  void merges_from_scores(const TokenizerSpec& spec);
  void index_bytes();
  bool is_joined(int32_t id, std::string_view left, std::string_view right) const;
  void append_char(std::string_view bytes, size_t from, std::vector<int32_t>& ids) const;
  void expand_chars(size_t from, std::vector<int32_t>& ids) const;

  const Vocabulary* vocabulary_;
  bool byte_level_;
  MergeTable merges_ = MergeTable(0);
  std::array<int32_t, 256> byte_ids_{};  // byte level: of bytes; else of ASCII characters
  bool ignore_merges_ = false;
  // scored_bpe: characters that are no token but part of one. They have ids behind the vocabulary
  // while a word is merged.
  std::vector<std::string> chars_;
  StringIndex char_index_;
};

}  // namespace cairn
