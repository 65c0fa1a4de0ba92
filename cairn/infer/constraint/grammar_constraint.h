// A text of a grammar: the tokens that may come next are those whose bytes go on from every byte
// before them, wherever in a rule or a character a token begins or ends. The mask of a state is
// worked out once, by a walk over the vocabulary's trie.
//
//   const auto grammar = std::make_shared<GrammarAutomaton>(parse_gbnf(text, name), name);
//   GrammarConstraint constraint(grammar, trie, end_ids);
#pragma once

#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "cairn/infer/constraint/constraint.h"
#include "cairn/infer/constraint/vocabulary_trie.h"
#include "cairn/text/grammar/automaton.h"
#include "cairn/text/grammar/states.h"

namespace cairn {

class GrammarConstraint final : public TokenConstraint {
 public:
  // `ends`: the tokens that end a text, allowed where the grammar's text is whole. Bytes that
  // `tokenizer` gives to tokens must be those of the trie.
  GrammarConstraint(std::shared_ptr<const GrammarAutomaton> automaton,
                    std::shared_ptr<const VocabularyTrie> trie, const Tokenizer& tokenizer,
                    std::span<const int32_t> ends);

  // These throw Error (data) when the grammar needs more memory than it may (GrammarStates).
  const TokenMask& allowed() override;
  bool accept(int32_t id) override;
  void rollback(size_t tokens) override;
  bool complete() const override;
  bool finished() const override;
  void reset() override;

 private:
  // Behind the token that ends the text.
  static constexpr uint32_t kEnded = UINT32_MAX;

  TokenMask make_mask(uint32_t state);
  void tidy();

  GrammarStates states_;
  std::shared_ptr<const VocabularyTrie> trie_;
  Tokenizer tokenizer_;
  std::vector<int32_t> ends_;
  std::vector<uint32_t> history_;  // the state before each token, and the present one
  std::unordered_map<uint32_t, TokenMask> masks_;
  std::vector<uint32_t> path_;  // make_mask: states from the root of the trie downwards
  TokenMask nothing_;
};

}  // namespace cairn
