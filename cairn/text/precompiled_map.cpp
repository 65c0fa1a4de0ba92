#include "cairn/text/precompiled_map.h"

#include <cstring>

#include "cairn/base/error.h"

namespace cairn {
namespace {

// The fields of a unit.
bool has_leaf(uint32_t unit) {
  return (unit >> 8 & 1) != 0;
}
uint32_t label(uint32_t unit) {
  return unit & (uint32_t{1} << 31 | 0xFF);
}
size_t offset(uint32_t unit) {
  return static_cast<size_t>(unit >> 10) << ((unit & (1u << 9)) >> 6);
}
size_t value(uint32_t unit) {
  return unit & 0x7FFFFFFF;
}

}  // namespace

PrecompiledMap::PrecompiledMap(std::string_view data) {
  uint32_t bytes = 0;
  if (data.size() >= sizeof bytes) std::memcpy(&bytes, data.data(), sizeof bytes);
  if (bytes == 0 || bytes % 4 != 0 || bytes > data.size() - sizeof bytes) {
    throw Error({.kind = ErrorKind::data,
                 .doing = "reading a precompiled normalisation map",
                 .expected = "the size of a trie, the trie and replacements",
                 .found = std::to_string(data.size()) + " bytes"});
  }
  units_.resize(bytes / 4);
  std::memcpy(units_.data(), data.data() + sizeof bytes, bytes);
  replacements_ = data.substr(sizeof bytes + bytes);
}

template <bool kFirst>
PrecompiledMap::Match PrecompiledMap::find(std::string_view text) const {
  Match match;
  size_t node = offset(units_[0]);
  for (size_t i = 0; i < text.size() && text[i] != '\0'; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    node ^= byte;
    if (node >= units_.size() || label(units_[node]) != byte) break;
    const uint32_t unit = units_[node];
    node ^= offset(unit);
    if (!has_leaf(unit)) continue;
    if (node >= units_.size() || value(units_[node]) >= replacements_.size()) break;
    const std::string_view rest = std::string_view(replacements_).substr(value(units_[node]));
    match = {i + 1, rest.substr(0, rest.find('\0'))};
    if (kFirst) break;
  }
  return match;
}

PrecompiledMap::Match PrecompiledMap::longest(std::string_view text) const {
  return find<false>(text);
}

PrecompiledMap::Match PrecompiledMap::shortest(std::string_view text) const {
  return find<true>(text);
}

}  // namespace cairn
