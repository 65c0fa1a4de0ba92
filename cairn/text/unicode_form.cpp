#include "cairn/text/unicode_form.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "cairn/text/char_classes.h"

namespace cairn {
namespace {

constexpr uint32_t kTabled = 0x30000;  // beyond there are no decompositions and marks that matter
constexpr size_t kLongestDecomposition = 32;  // Unicode's longest has 18

utf8proc_option_t options_of(UnicodeForm form) {
  const bool compat = form == UnicodeForm::nfkc || form == UnicodeForm::nfkd;
  return static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | UTF8PROC_STABLE |
                                        (compat ? UTF8PROC_COMPAT : 0));
}

bool composes(UnicodeForm form) {
  return form == UnicodeForm::nfc || form == UnicodeForm::nfkc;
}

bool is_surrogate(uint32_t c) {
  return c >= 0xD800 && c <= 0xDFFF;
}

int combining_class(int32_t c) {
  return static_cast<int>(utf8proc_get_property(c)->combining_class);
}

using Chars = std::vector<utf8proc_int32_t>;

void append_decomposed(UnicodeForm form, uint32_t c, Chars& chars) {
  std::array<utf8proc_int32_t, kLongestDecomposition> parts{};
  int boundary = 0;
  const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts.data(),
                                             parts.size(), options_of(form), &boundary);
  if (count <= 0 || static_cast<size_t>(count) > parts.size()) {
    chars.push_back(static_cast<utf8proc_int32_t>(c));
    return;
  }
  chars.insert(chars.end(), parts.begin(), parts.begin() + count);
}

// Sorts marks and composes: UAX 15, after the decomposition.
void order_and_compose(UnicodeForm form, Chars& chars) {
  for (size_t i = 0; i < chars.size();) {
    size_t end = i;
    while (end < chars.size() && combining_class(chars[end]) != 0) ++end;
    std::stable_sort(chars.begin() + static_cast<std::ptrdiff_t>(i),
                     chars.begin() + static_cast<std::ptrdiff_t>(end),
                     [](int32_t a, int32_t b) { return combining_class(a) < combining_class(b); });
    i = end + 1;
  }
  if (!composes(form)) return;
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE);
  const auto count =
      utf8proc_normalize_utf32(chars.data(), static_cast<utf8proc_ssize_t>(chars.size()), options);
  if (count >= 0) chars.resize(static_cast<size_t>(count));
}

// Characters that are their own form and never change with a neighbour.
struct StableChars {
  std::vector<bool> stable = std::vector<bool>(kTabled, true);

  explicit StableChars(UnicodeForm form) {
    Chars parts;
    for (uint32_t c = 0x80; c < kTabled; ++c) {
      if (is_surrogate(c)) continue;
      parts.clear();
      append_decomposed(form, c, parts);
      const bool itself = parts.size() == 1 && parts[0] == static_cast<int32_t>(c);
      if (combining_class(static_cast<int32_t>(c)) != 0) stable[c] = false;
      if (itself) continue;
      if (composes(form)) {
        // What composes with a character before it ends some decomposition.
        for (size_t i = 1; i < parts.size(); ++i) stable[static_cast<size_t>(parts[i])] = false;
        order_and_compose(form, parts);
      }
      if (parts.size() != 1 || parts[0] != static_cast<int32_t>(c)) stable[c] = false;
    }
  }
};

// Each table is made at the first use of its form, in about ten milliseconds.
const std::vector<bool>& stable_chars(UnicodeForm form) {
  switch (form) {
    case UnicodeForm::nfc: {
      static const StableChars nfc(UnicodeForm::nfc);
      return nfc.stable;
    }
    case UnicodeForm::nfd: {
      static const StableChars nfd(UnicodeForm::nfd);
      return nfd.stable;
    }
    case UnicodeForm::nfkc: {
      static const StableChars nfkc(UnicodeForm::nfkc);
      return nfkc.stable;
    }
    case UnicodeForm::nfkd:
      break;
  }
  static const StableChars nfkd(UnicodeForm::nfkd);
  return nfkd.stable;
}

// Where the first character from `at` on starts that may change; `end` when there is none.
// `before` becomes the start of the character before it.
const char* first_unstable(const std::vector<bool>& stable, const char* at, const char* end,
                           const char*& before) {
  before = at;
  while (at < end) {
    if (static_cast<signed char>(*at) >= 0) {
      before = at++;
      continue;
    }
    const DecodedChar c = decode_char(at, end);
    if (c.code_point < stable.size() && !stable[c.code_point]) return at;
    before = at;
    at += c.length;
  }
  return end;
}

}  // namespace

bool surely_in_form(UnicodeForm form, std::string_view text) {
  const char* const end = text.data() + text.size();
  const char* before = nullptr;
  return first_unstable(stable_chars(form), text.data(), end, before) == end;
}

void append_in_form(UnicodeForm form, std::string_view text, std::string& out) {
  const std::vector<bool>& stable = stable_chars(form);
  const char* const end = text.data() + text.size();
  Chars chars;
  for (const char* at = text.data(); at < end;) {
    // A stretch: the last character that stays, which marks may join, and those that may not stay.
    const char* start = at;
    const char* const unstable = first_unstable(stable, at, end, start);
    if (unstable == end) start = end;
    out.append(at, static_cast<size_t>(start - at));
    chars.clear();
    for (at = start; at < end;) {
      const DecodedChar c = decode_char(at, end);
      const bool stays = c.code_point >= stable.size() || stable[c.code_point];
      if (stays && at >= unstable) break;
      if (c.code_point == kInvalidByte) {
        out.push_back(*at);
      } else {
        append_decomposed(form, c.code_point, chars);
      }
      at += c.length;
    }
    order_and_compose(form, chars);
    for (const utf8proc_int32_t c : chars) append_utf8(static_cast<uint32_t>(c), out);
  }
}

bool is_nonspacing_mark(uint32_t c) {
  return c <= 0x10FFFF &&
         utf8proc_category(static_cast<utf8proc_int32_t>(c)) == UTF8PROC_CATEGORY_MN;
}

bool is_control(uint32_t c) {
  if (c > 0x10FFFF) return false;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF ||
         category == UTF8PROC_CATEGORY_CO;
}

void append_lowercase(uint32_t c, std::string& out) {
  if (c == 0x130) {  // the one letter whose lower case is two characters
    out += "i\u0307";
    return;
  }
  append_utf8(static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))), out);
}

void append_uppercase(uint32_t c, std::string& out) {
  if (c == 0xDF) {
    out += "SS";
    return;
  }
  append_utf8(static_cast<uint32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))), out);
}

const char* grapheme_end(const char* at, const char* end) {
  DecodedChar c = decode_char(at, end);
  at += c.length;
  utf8proc_int32_t state = 0;
  while (at < end && c.code_point != kInvalidByte) {
    const DecodedChar next = decode_char(at, end);
    if (next.code_point == kInvalidByte ||
        utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(c.code_point),
                                         static_cast<utf8proc_int32_t>(next.code_point), &state)) {
      break;
    }
    at += next.length;
    c = next;
  }
  return at;
}

}  // namespace cairn
