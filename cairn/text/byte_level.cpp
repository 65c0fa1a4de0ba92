#include "cairn/text/byte_level.h"

#include <algorithm>

#include "cairn/text/char_classes.h"

namespace cairn {
namespace {

constexpr uint32_t kFirstMoved = 0x100;
constexpr size_t kMoved = 68;

bool keeps_its_number(uint32_t byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

struct Letter {
  std::array<char, 2> utf8{};
  uint8_t length = 0;
};

// All characters of the alphabet are below U+0800: one byte in UTF-8, or two.
Letter letter_of(uint32_t character) {
  std::string utf8;
  append_utf8(character, utf8);
  return {{utf8[0], utf8.size() > 1 ? utf8[1] : '\0'}, static_cast<uint8_t>(utf8.size())};
}

struct Alphabet {
  std::array<uint32_t, 256> character{};
  std::array<Letter, 256> letters{};
  std::array<int16_t, kFirstMoved + kMoved> byte{};  // by character; -1: none
  std::array<uint8_t, 256> order{};

  Alphabet() {
    byte.fill(-1);
    uint32_t moved = kFirstMoved;
    for (uint32_t b = 0; b < 256; ++b) {
      character[b] = keeps_its_number(b) ? b : moved++;
      letters[b] = letter_of(character[b]);
      byte[character[b]] = static_cast<int16_t>(b);
      order[b] = static_cast<uint8_t>(b);
    }
    std::sort(order.begin(), order.end(),
              [&](uint8_t a, uint8_t b) { return character[a] < character[b]; });
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

const std::array<uint8_t, 256>& byte_level_order() {
  return alphabet().order;
}

std::string to_byte_level(std::string_view bytes) {
  std::string text;
  append_byte_level(bytes, text);
  return text;
}

void append_byte_level(std::string_view bytes, std::string& text) {
  const auto& letters = alphabet().letters;
  const size_t before = text.size();
  text.resize(before + 2 * bytes.size());
  char* out = text.data() + before;
  for (const char c : bytes) {
    const Letter& letter = letters[static_cast<unsigned char>(c)];
    out[0] = letter.utf8[0];
    out[1] = letter.utf8[1];
    out += letter.length;
  }
  text.resize(static_cast<size_t>(out - text.data()));
}

std::optional<std::string> from_byte_level(std::string_view text) {
  const auto& byte_of = alphabet().byte;
  std::string bytes;
  for (size_t at = 0; at < text.size(); ++at) {
    size_t character = static_cast<unsigned char>(text[at]);
    if (character >= 0x80) {
      if (character < 0xC2 || ++at == text.size()) return std::nullopt;
      const auto last = static_cast<unsigned char>(text[at]);
      if ((last & 0xC0) != 0x80) return std::nullopt;
      character = (character & 0x3F) << 6 | (last & 0x3F);
    }
    if (character >= byte_of.size() || byte_of[character] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte_of[character]));
  }
  return bytes;
}

}  // namespace cairn
