// The byte-level alphabet of GPT-2: every byte is written as one printable character, so that
// vocabularies and merges are ordinary text. Bytes 33-126, 161-172 and 174-255 are the character of
// the same number; the other 68, in rising order, are U+0100, U+0101, ... (blank: U+0120 "Ġ").
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace cairn {

// The bytes in the order of their characters: '!' first, the last of the 68 last. HF trainers give
// the single bytes their ids in this order.
const std::array<uint8_t, 256>& byte_level_order();

// The bytes written as characters; the second form appends them.
std::string to_byte_level(std::string_view bytes);
void append_byte_level(std::string_view bytes, std::string& text);

// The bytes behind the characters; nothing when a character is none of the 256.
std::optional<std::string> from_byte_level(std::string_view text);

}  // namespace cairn
