// The normalisation map inside SentencePiece models ("precompiled_charsmap", also the Precompiled
// normalizer of tokenizer.json): a double-array trie in darts-clone's layout (little-endian u32
// size in bytes, the units), then the replacements, each ended by a NUL.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cairn {

// Immutable after construction; any thread may use it.
class PrecompiledMap {
 public:
  // Copies `data`. Throws Error (data) when sizes do not fit. A map with broken links finds less,
  // but never reads outside itself.
  explicit PrecompiledMap(std::string_view data);

  struct Match {
    size_t length = 0;  // bytes of text that are replaced; 0: no match
    std::string_view replacement;
  };
  // The longest, or the shortest, entry that `text` starts with.
  Match longest(std::string_view text) const;
  Match shortest(std::string_view text) const;

 private:
  template <bool kFirst>
  Match find(std::string_view text) const;

  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace cairn
