// The GPT-2 pre-tokenisation rule (Radford et al. 2019; the `use_regex` of a ByteLevel step)
//
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// matched by hand: a word is an English contraction; a run of letters, of numbers or of other
// characters, with one blank before it; or white space, of which the last character is left to the
// word that follows. Tests hold it equal to PCRE2 (SplitRegex with kGpt2Pattern).
#pragma once

#include <string_view>

#include "cairn/text/char_classes.h"

namespace cairn {

inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace gpt2_rule {

struct ClassAt {
  CharClass cls;
  uint32_t length;
};

inline ClassAt class_at(const char* at, const char* end, const CharClasses& classes) {
  if (static_cast<signed char>(*at) >= 0) return {classes.ascii(*at), 1};
  const DecodedChar character = decode_char(at, end);
  return {classes.of(character.code_point), character.length};
}

// End of the run of characters of class `cls` that starts at or before `at`.
inline const char* run_end(const char* at, const char* end, CharClass cls,
                           const CharClasses& classes) {
  while (at < end) {
    const ClassAt next = class_at(at, end, classes);
    if (next.cls != cls) break;
    at += next.length;
  }
  return at;
}

// End of the contraction at `at` ('s 't 'm 'd 're 've 'll), or `at` when there is none.
inline const char* contraction_end(const char* at, const char* end) {
  if (end - at < 2 || *at != '\'') return at;
  const char a = at[1];
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return at + 2;
  if (end - at < 3) return at;
  const char b = at[2];
  const bool found = (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l');
  return found ? at + 3 : at;
}

// End of the word of white space that starts at `at`.
template <bool kSplitDigits>
inline const char* space_end(const char* at, const char* end, const CharClasses& classes) {
  const char* last = at;  // where the last white space character starts
  const char* next = at;
  while (next < end) {
    const ClassAt found = class_at(next, end, classes);
    if (found.cls != CharClass::space) {
      // A piece ends before a digit that stands alone, so nothing follows: (?!\S) holds.
      if (kSplitDigits && found.cls == CharClass::number) return next;
      return last == at ? next : last;
    }
    last = next;
    next += found.length;
  }
  return end;
}

}  // namespace gpt2_rule

// End of the word that starts at `at`, which must be before `end` and at the start of the text or
// at the end of the word before. With `kSplitDigits` every number character is split off by itself
// first (StarCoder, SmolLM: Digits, then this rule on what is left).
template <bool kSplitDigits>
inline const char* gpt2_word_end(const char* at, const char* end, const CharClasses& classes) {
  using namespace gpt2_rule;
  const ClassAt first = class_at(at, end, classes);
  if (first.cls == CharClass::space) {
    if (*at == ' ' && at + 1 < end) {
      const ClassAt second = class_at(at + 1, end, classes);
      const bool joins =
          second.cls != CharClass::space && !(kSplitDigits && second.cls == CharClass::number);
      if (joins) return run_end(at + 1 + second.length, end, second.cls, classes);
    }
    return space_end<kSplitDigits>(at, end, classes);
  }
  if (kSplitDigits && first.cls == CharClass::number) return at + first.length;
  if (const char* contraction = contraction_end(at, end); contraction != at) return contraction;
  return run_end(at + first.length, end, first.cls, classes);
}

}  // namespace cairn
