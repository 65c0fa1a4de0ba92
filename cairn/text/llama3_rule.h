// The pre-tokenisation rules of Llama 3 and of Qwen 2, matched by hand:
//
//   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|
//   \s*[\r\n]+|\s+(?!\S)|\s+
//
// with \p{N}{1,3} (Llama 3) or \p{N} (Qwen 2). A word is an English contraction in either case;
// letters with one other character before them; up to three numbers; other characters with a blank
// before and line ends behind; white space up to its last line end; or white space, of which the
// last character is left to the word that follows. Tests hold it equal to PCRE2.
#pragma once

#include <string_view>

#include "cairn/text/gpt2_rule.h"

namespace cairn {

inline constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

namespace llama3_rule {

inline bool is_line_end(char c) {
  return c == '\n' || c == '\r';
}

// End of the contraction at `at`, in either case, or `at`. U+017F (long s) is an s without case.
inline const char* contraction_end(const char* at, const char* end) {
  if (end - at < 2 || *at != '\'') return at;
  const char a = static_cast<char>(at[1] | 0x20);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return at + 2;
  if (end - at < 3) return at;
  if (at[1] == '\xC5' && at[2] == '\xBF') return at + 3;
  const char b = static_cast<char>(at[2] | 0x20);
  const bool found = (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l');
  return found ? at + 3 : at;
}

inline const char* line_ends_end(const char* at, const char* end) {
  while (at < end && is_line_end(*at)) ++at;
  return at;
}

// White space from `at` on: up to the last line end in it, else all but the last character when
// something follows, else all.
inline const char* space_end(const char* at, const char* end, const CharClasses& classes) {
  const char* last = at;      // where the last white space character starts
  const char* line_end = at;  // behind the last line end
  const char* next = at;
  while (next < end) {
    const gpt2_rule::ClassAt found = gpt2_rule::class_at(next, end, classes);
    if (found.cls != CharClass::space) break;
    last = next;
    next += found.length;
    if (is_line_end(*last)) line_end = next;
  }
  if (line_end > at) return line_end;
  return next == end || last == at ? next : last;
}

}  // namespace llama3_rule

// End of the word that starts at `at`, as gpt2_word_end. kMostDigits: 3 (Llama 3) or 1 (Qwen 2).
template <int kMostDigits>
inline const char* llama3_word_end(const char* at, const char* end, const CharClasses& classes) {
  using gpt2_rule::class_at;
  using gpt2_rule::ClassAt;
  using gpt2_rule::run_end;
  const ClassAt first = class_at(at, end, classes);
  const char* next = at + first.length;
  if (first.cls == CharClass::letter) return run_end(next, end, CharClass::letter, classes);
  if (first.cls == CharClass::number) {
    for (int digits = 1; digits < kMostDigits && next < end; ++digits) {
      const ClassAt found = class_at(next, end, classes);
      if (found.cls != CharClass::number) break;
      next += found.length;
    }
    return next;
  }
  if (const char* contraction = llama3_rule::contraction_end(at, end); contraction != at) {
    return contraction;
  }
  const bool line_end = llama3_rule::is_line_end(*at);
  if (next < end && !line_end) {
    const ClassAt second = class_at(next, end, classes);
    if (second.cls == CharClass::letter) {
      return run_end(next + second.length, end, CharClass::letter, classes);
    }
    if (first.cls == CharClass::other || (*at == ' ' && second.cls == CharClass::other)) {
      return llama3_rule::line_ends_end(run_end(next, end, CharClass::other, classes), end);
    }
  } else if (first.cls == CharClass::other) {
    return next;
  }
  return llama3_rule::space_end(at, end, classes);
}

}  // namespace cairn
