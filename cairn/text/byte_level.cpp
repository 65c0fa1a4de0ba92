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

struct Alphabet {
  std::array<uint32_t, 256> character{};
  std::array<int16_t, kFirstMoved + kMoved> byte{};  // by character; -1: none
  std::array<uint8_t, 256> order{};

  Alphabet() {
    byte.fill(-1);
    uint32_t moved = kFirstMoved;
    for (uint32_t b = 0; b < 256; ++b) {
      character[b] = keeps_its_number(b) ? b : moved++;
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
  text.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    append_utf8(alphabet().character[static_cast<unsigned char>(c)], text);
  }
  return text;
}

std::optional<std::string> from_byte_level(std::string_view text) {
  std::string bytes;
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); at < end;) {
    const DecodedChar character = decode_char(at, end);
    if (character.code_point >= alphabet().byte.size()) return std::nullopt;
    const int16_t byte = alphabet().byte[character.code_point];
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
    at += character.length;
  }
  return bytes;
}

}  // namespace cairn
