// Unigram language model tokens (Kudo 2018, arXiv:1804.10959): of all cuts of a word into tokens,
// the one with the highest sum of scores, found by the Viterbi algorithm. Among equals the one
// found first stays. Scores are summed in double, word by word, as in the HF library.
//
// A SentencePiece model is done as in that library, whose choices where cuts are nearly equal
// depend on rounding: the whole text is one word and its sum is kept in float.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "cairn/text/vocabulary.h"

namespace cairn {

// Working memory: one a thread.
struct UnigramScratch {
  struct Step {
    double score = 0;     // of the best cut that ends here
    int32_t id = 0;       // of its last token; -1: an unknown character
    uint32_t length = 0;  // 0: no cut ends here
  };
  std::vector<Step> steps;  // by byte, one more than the word has
  std::vector<UnigramScratch::Step> path;
  double text_score = 0;  // SentencePiece: of the text so far; 0 at its start
};

// Borrows the vocabulary, which must outlive it. Immutable after construction.
class UnigramModel {
 public:
  // Throws Error (data) for scores that are not as many as tokens, or not finite.
  UnigramModel(const TokenizerSpec& spec, const Vocabulary& vocabulary);

  // Appends the tokens of a word. Throws Error (data) for a word of 2 GiB or more.
  void encode(std::string_view word, UnigramScratch& scratch, std::vector<int32_t>& ids) const;

  // Whether words are whole texts between added tokens, to be given in their order.
  bool takes_whole_texts() const { return in_float_; }
  // Counts a user-defined token of so many bytes that stood between two such texts.
  void pass_user_defined(size_t bytes, UnigramScratch& scratch) const;

 private:
  static constexpr uint32_t kNone = 0xFFFFFFFF;
  struct Node {
    uint32_t first = 0;  // of its children, which are neighbours in nodes_, sorted by label
    uint16_t count = 0;  // of its children
    uint8_t label = 0;
    int32_t id = -1;  // of the token that ends here
  };
  void build_trie();
  void find_best_score(const TokenizerSpec& spec);
  uint32_t child(uint32_t node, uint8_t label) const;
  void try_tokens(std::string_view word, size_t at, size_t char_length,
                  UnigramScratch& scratch) const;

  const Vocabulary* vocabulary_;
  const std::vector<double>* scores_;
  double unknown_score_ = 0;
  bool in_float_ = false;
  float best_score_ = 0;               // of a normal piece of a SentencePiece model
  std::vector<Node> nodes_;            // the root is 0
  std::array<uint32_t, 256> roots_{};  // the root's children by label; 0: none
};

}  // namespace cairn
