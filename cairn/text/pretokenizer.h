// Pre-tokenisation: cutting text into the words inside which byte pairs may merge. Steps apply in
// sequence, each to the pieces that the one before it left (HF `Sequence`).
//
// Input is never lost: the words joined are the text, invalid UTF-8 included (each invalid byte is
// a character that is neither letter, number nor space), except for a Removed split, whose file
// asks for the loss.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/base/function_ref.h"
#include "cairn/text/gpt2_rule.h"
#include "cairn/text/split_regex.h"

namespace cairn {

// One step of a pre-tokenizer: plain data, as tokenizer.json names it.
struct PretokenizerStep {
  enum class Kind {
    gpt2,    // the GPT-2 rule (ByteLevel with use_regex)
    digits,  // Digits: number characters apart, one by one or in runs
    split,   // Split: matches and the text between them are pieces
  };
  Kind kind = Kind::gpt2;
  bool individual_digits = false;  // digits
  std::string pattern;             // split: the text or the regular expression
  bool pattern_is_regex = true;    // split
  // split, behavior Removed with invert: only matches stay.
  bool keep_only_matches = false;

  bool operator==(const PretokenizerStep&) const = default;
};

// Immutable after construction; any thread may use it.
class Pretokenizer {
 public:
  // No steps: the text is one word. Throws Error (data) when a pattern is not understood.
  explicit Pretokenizer(std::vector<PretokenizerStep> steps = gpt2());

  // The usual rules: GPT-2; every digit apart, then GPT-2 (StarCoder, Granite code, SmolLM).
  static std::vector<PretokenizerStep> gpt2() { return {PretokenizerStep{}}; }
  static std::vector<PretokenizerStep> smollm();

  const std::vector<PretokenizerStep>& steps() const { return steps_; }

  // Calls word(std::string_view) for each non-empty word in order; views point into `text`.
  template <class Word>
  void for_each_word(std::string_view text, Word&& word) const {
    if (fast_ == Fast::gpt2) return cut<false>(text, word);
    if (fast_ == Fast::smollm) return cut<true>(text, word);
    run_steps(text, 0, word);
  }

  // Whether the text may be cut into two before a blank or line end that follows a printing ASCII
  // character without changing any word. True for the hand-written rules.
  bool cuts_before_space() const { return fast_ != Fast::none; }

 private:
  enum class Fast { none, gpt2, smollm };

  template <bool kSplitDigits, class Word>
  void cut(std::string_view text, Word& word) const {
    const char* const end = text.data() + text.size();
    for (const char* at = text.data(); at < end;) {
      const char* next = gpt2_word_end<kSplitDigits>(at, end, *classes_);
      word(std::string_view(at, static_cast<size_t>(next - at)));
      at = next;
    }
  }
  void run_steps(std::string_view text, size_t step,
                 FunctionRef<void(std::string_view)> word) const;
  void split_digits(std::string_view text, bool individual,
                    FunctionRef<void(std::string_view)> piece) const;

  std::vector<PretokenizerStep> steps_;
  std::vector<std::shared_ptr<const SplitRegex>> regexes_;  // one a step, null but for splits
  const CharClasses* classes_;
  Fast fast_ = Fast::none;
};

}  // namespace cairn
