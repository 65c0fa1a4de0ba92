// UTF-8 and the three Unicode classes that pre-tokenisation asks about: letters (\p{L}), numbers
// (\p{N}) and white space (\s, the Unicode property White_Space). The classes are read from PCRE2
// once a process, so the hand-written matcher and PCRE2 agree whatever the Unicode version is.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cairn {

enum class CharClass : uint8_t { other, letter, number, space };

// One character of a text: its code point and its bytes. A byte that is not part of well-formed
// UTF-8 (RFC 3629: no overlong forms, no surrogates) is a character of its own, kInvalidByte.
struct DecodedChar {
  uint32_t code_point = 0;
  uint32_t length = 0;  // bytes, 1 to 4
};
inline constexpr uint32_t kInvalidByte = 0xFFFFFFFF;

// The character at `text`, which must be before `end`. Reads nothing at or beyond `end`.
DecodedChar decode_char(const char* text, const char* end);

// Appends `code_point` (at most 0x10FFFF, not a surrogate) as UTF-8.
void append_utf8(uint32_t code_point, std::string& text);

// Whether all of `text` is well-formed UTF-8.
bool is_utf8(std::string_view text);

// The classes of all characters. Immutable once built; any thread may read.
class CharClasses {
 public:
  // The one table of the process, built at the first call (a few milliseconds).
  static const CharClasses& instance();

  CharClass ascii(char byte) const { return ascii_[static_cast<unsigned char>(byte)]; }

  // Class of any code point; kInvalidByte is `other`.
  CharClass of(uint32_t code_point) const {
    return code_point < table_.size() ? static_cast<CharClass>(table_[code_point])
                                      : CharClass::other;
  }

  // The Unicode version the classes come from ("14.0.0").
  static std::string unicode_version();

 private:
  CharClasses();
  // By byte; bytes from 0x80 are not read.
  std::array<CharClass, 256> ascii_{};
  // Planes 0 to 3: no later plane has a letter, number or space.
  std::vector<uint8_t> table_;
};

}  // namespace cairn
