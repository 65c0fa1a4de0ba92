// A regular expression that cuts text into pieces, with Unicode classes: PCRE2 with UTF and UCP,
// compiled to machine code. Patterns are those of tokenizer.json (Oniguruma's dialect): where PCRE2
// would read one differently it is rewritten (\s is the property White_Space, without U+180E), or
// refused when there is no equal.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "cairn/base/function_ref.h"

namespace cairn {

class SplitRegex {
 public:
  // Throws Error (data) with PCRE2's words and the position when the pattern is not understood.
  explicit SplitRegex(const std::string& pattern);
  ~SplitRegex();
  SplitRegex(SplitRegex&&) noexcept;
  SplitRegex& operator=(SplitRegex&&) noexcept;

  const std::string& pattern() const { return pattern_; }

  // Calls `piece` for every non-empty match, from left to right. Invalid UTF-8 is matched as if
  // each invalid byte were the noncharacter U+FFFF. Views point into `text`. Thread-safe.
  // Throws Error (data) when a match exceeds PCRE2's limits (a hostile pattern).
  void for_each_match(std::string_view text, FunctionRef<void(std::string_view)> match) const;

  // The same, and the text between matches as pieces of their own, so that the pieces joined are
  // the text. `matched` tells which is which.
  void split(std::string_view text, FunctionRef<void(std::string_view, bool matched)> piece) const;

  // Unicode version of PCRE2's classes.
  static std::string unicode_version();

 private:
  struct Code;
  std::string pattern_;
  std::unique_ptr<Code> code_;
};

// A pattern that matches exactly `text`.
std::string regex_escape(std::string_view text);

}  // namespace cairn
