#include "cairn/text/char_classes.h"

#include <string>

#include "cairn/text/split_regex.h"

namespace cairn {
namespace {

constexpr uint32_t kClassifiedCodePoints = 0x40000;

bool is_surrogate(uint32_t code_point) {
  return code_point >= 0xD800 && code_point <= 0xDFFF;
}

// Marks the members of the class `pattern` among all code points of `text`.
void mark(const std::string& text, const std::string& pattern, CharClass what,
          std::vector<uint8_t>& table) {
  const char* const end = text.data() + text.size();
  SplitRegex(pattern).for_each_match(text, [&](std::string_view match) {
    const char* at = match.data();
    while (at < match.data() + match.size()) {
      const DecodedChar character = decode_char(at, end);
      table[character.code_point] = static_cast<uint8_t>(what);
      at += character.length;
    }
  });
}

}  // namespace

DecodedChar decode_char(const char* text, const char* end) {
  const auto* p = reinterpret_cast<const unsigned char*>(text);
  const auto left = static_cast<size_t>(end - text);
  const uint32_t first = p[0];
  const DecodedChar invalid{kInvalidByte, 1};
  const auto continues = [&](size_t i) { return (p[i] & 0xC0) == 0x80; };
  if (first < 0x80) return {first, 1};
  if (first < 0xC2) return invalid;
  if (first < 0xE0) {
    if (left < 2 || !continues(1)) return invalid;
    return {(first & 0x1F) << 6 | (p[1] & 0x3Fu), 2};
  }
  if (first < 0xF0) {
    if (left < 3 || !continues(1) || !continues(2)) return invalid;
    const uint32_t c = (first & 0x0F) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
    return c < 0x800 || is_surrogate(c) ? invalid : DecodedChar{c, 3};
  }
  if (first > 0xF4 || left < 4 || !continues(1) || !continues(2) || !continues(3)) return invalid;
  const uint32_t c =
      (first & 0x07) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu);
  return c < 0x10000 || c > 0x10FFFF ? invalid : DecodedChar{c, 4};
}

void append_utf8(uint32_t c, std::string& text) {
  const auto put = [&](uint32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6);
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

bool is_utf8(std::string_view text) {
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); at < end;) {
    if (static_cast<unsigned char>(*at) < 0x80) {
      ++at;
      continue;
    }
    const DecodedChar character = decode_char(at, end);
    if (character.code_point == kInvalidByte) return false;
    at += character.length;
  }
  return true;
}

CharClasses::CharClasses() : table_(kClassifiedCodePoints, 0) {
  std::string text;
  text.reserve(kClassifiedCodePoints * 4);
  for (uint32_t c = 0; c < kClassifiedCodePoints; ++c) {
    if (!is_surrogate(c)) append_utf8(c, text);
  }
  mark(text, R"(\p{L}+)", CharClass::letter, table_);
  mark(text, R"(\p{N}+)", CharClass::number, table_);
  mark(text, R"(\s+)", CharClass::space, table_);
  for (size_t byte = 0; byte < 0x80; ++byte) ascii_[byte] = static_cast<CharClass>(table_[byte]);
}

const CharClasses& CharClasses::instance() {
  static const CharClasses classes;
  return classes;
}

std::string CharClasses::unicode_version() {
  return SplitRegex::unicode_version();
}

}  // namespace cairn
