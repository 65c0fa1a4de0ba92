// Pre-tokenisation: cutting text into the words inside which tokens are found. Steps apply in
// sequence, each to the pieces that the one before it left (HF `Sequence`).
//
// Input is never lost: the words joined are the text, invalid UTF-8 included (each invalid byte is
// a character that is neither letter, number nor space), except where a step asks for it: a
// removing split, white space that goes, blanks that become metaspaces.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/base/function_ref.h"
#include "cairn/text/llama3_rule.h"
#include "cairn/text/split_regex.h"
#include "cairn/text/tokenizer_spec.h"

namespace cairn {

// Immutable after construction; any thread may use it.
class Pretokenizer {
 public:
  // No steps: the text is one word. Throws Error (data) when a pattern is not understood.
  explicit Pretokenizer(std::vector<PretokenizerStep> steps = gpt2());

  // The usual rules: GPT-2; every digit apart, then GPT-2 (StarCoder, Granite code, SmolLM).
  static std::vector<PretokenizerStep> gpt2() { return {PretokenizerStep{}}; }
  static std::vector<PretokenizerStep> smollm();
  // One regular expression whose matches, and what is between them, are the words.
  static std::vector<PretokenizerStep> by_regex(std::string_view pattern);

  const std::vector<PretokenizerStep>& steps() const { return steps_; }

  // Calls word(std::string_view) for each non-empty word in order. Views point into `text`, or
  // where a step changes text into memory that lives until `word` returns. `at_start`: this is the
  // start of the whole text, which a metaspace step may ask.
  template <class Word>
  void for_each_word(std::string_view text, Word&& word, bool at_start = true) const {
    switch (fast_) {
      case Fast::gpt2:
        return cut<gpt2_word_end<false>>(text, word);
      case Fast::smollm:
        return cut<gpt2_word_end<true>>(text, word);
      case Fast::llama3:
        return cut<llama3_word_end<3>>(text, word);
      case Fast::qwen2:
        return cut<llama3_word_end<1>>(text, word);
      case Fast::none:
        break;
    }
    run_steps(text, 0, at_start, word);
  }

  // Whether all words point into the text: it may be read up to its end behind each of them.
  bool keeps_text() const { return fast_ != Fast::none; }

  // Whether the text may be cut into two before a blank or line end that follows a printing ASCII
  // character without changing any word. True for the hand-written GPT-2 rules.
  bool cuts_before_space() const { return fast_ == Fast::gpt2 || fast_ == Fast::smollm; }

 private:
  enum class Fast { none, gpt2, smollm, llama3, qwen2 };
  using Piece = FunctionRef<void(std::string_view)>;

  template <const char* (*kWordEnd)(const char*, const char*, const CharClasses&), class Word>
  void cut(std::string_view text, Word& word) const {
    const char* const end = text.data() + text.size();
    for (const char* at = text.data(); at < end;) {
      const char* next = kWordEnd(at, end, *classes_);
      word(std::string_view(at, static_cast<size_t>(next - at)));
      at = next;
    }
  }
  void run_steps(std::string_view text, size_t step, bool at_start, Piece word) const;
  void split_digits(std::string_view text, bool individual, Piece piece) const;
  void split_metaspace(std::string_view text, const PretokenizerStep& step, bool at_start,
                       Piece piece) const;

  std::vector<PretokenizerStep> steps_;
  std::vector<std::shared_ptr<const SplitRegex>> regexes_;  // one a step, null but for splits
  const CharClasses* classes_;
  Fast fast_ = Fast::none;
};

// Cuts `text` at the matches of `regex`, as `behavior` says; with `invert` what is between them
// counts as the matches. Views point into `text`.
void split_by(const SplitRegex& regex, std::string_view text, PretokenizerStep::Behavior behavior,
              bool invert, FunctionRef<void(std::string_view)> piece);

}  // namespace cairn
