// What the models of this folder share: the tokens by id, their index, and which of them text may
// become.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "cairn/text/string_index.h"
#include "cairn/text/tokenizer_spec.h"

namespace cairn {

// SentencePiece's stand-in for a blank, U+2581.
inline constexpr std::string_view kMetaspace = "\xE2\x96\x81";

// Borrows the spec, which must outlive it and stay in place. Immutable after construction.
class Vocabulary {
 public:
  // Throws Error (data) for two tokens of one spelling, too many tokens, ids out of range, and an
  // unknown token that the vocabulary does not hold.
  explicit Vocabulary(const TokenizerSpec& spec);

  size_t size() const { return spec_->vocabulary.size(); }
  // Empty when no token has this id.
  const std::string& spelling(int32_t id) const {
    return spec_->vocabulary[static_cast<size_t>(id)];
  }
  bool has(int32_t id) const {
    return id >= 0 && static_cast<size_t>(id) < size() && !spelling(id).empty();
  }
  // -1: none.
  int32_t find(std::string_view spelling) const { return index_.find(spelling); }
  // The same, of tokens that text may become: no special, control, unused or byte token.
  int32_t find_matchable(std::string_view spelling) const {
    const int32_t id = index_.find(spelling);
    return id >= 0 && matchable_[static_cast<size_t>(id)] ? id : -1;
  }
  bool matchable(int32_t id) const { return matchable_[static_cast<size_t>(id)]; }

  int32_t unknown_id() const { return unknown_id_; }  // -1: none

  // Appends what stands for bytes that no token matches: their <0xHH> tokens when the spec falls
  // back to bytes and has all of them, else the unknown token, else nothing (as the HF library
  // does). `from`: where the ids of this word start; behind an unknown token there no second one is
  // added when unknowns are fused.
  void append_unmatched(std::string_view bytes, size_t from, std::vector<int32_t>& ids) const;

 private:
  const TokenizerSpec* spec_;
  StringIndex index_;
  std::vector<bool> matchable_;
  int32_t unknown_id_ = -1;
  std::array<int32_t, 256> byte_tokens_;  // <0x00> to <0xFF>; -1: none
};

// Where a text may be cut before a metaspace without changing its tokens: wherever no token holds
// the character before followed by one. SentencePiece text has no other words.
class MetaspaceCuts {
 public:
  explicit MetaspaceCuts(const Vocabulary& vocabulary);

  // Calls piece(std::string_view) for each part of `text`, none empty.
  template <class Piece>
  void for_each(std::string_view text, Piece&& piece) const {
    size_t from = 0;
    if (possible_) {
      for (size_t at = text.find(kMetaspace, 1); at != text.npos;
           at = text.find(kMetaspace, at + 1)) {
        if (!may_cut(text, at)) continue;
        piece(text.substr(from, at - from));
        from = at;
      }
    }
    if (from < text.size()) piece(text.substr(from));
  }

 private:
  bool may_cut(std::string_view text, size_t at) const;

  bool possible_ = false;
  std::vector<uint32_t> before_;  // characters that some token holds before a metaspace, sorted
};

}  // namespace cairn
