// Tokens that are found in the text before pre-tokenisation: special tokens (<|endoftext|>) and
// those a user added. Among the matches at one place the longest wins; after a match the search
// goes on behind it (leftmost-longest, as the HF library's Aho-Corasick does). White space that a
// token swallows is spent; the HF library still finds added tokens in it and emits it twice.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/base/function_ref.h"

namespace cairn {

// As tokenizer.json describes one.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;      // plain text unless the caller asks; left out by decode on request
  bool single_word = false;  // only where no letter, number or _ touches it
  bool lstrip = false;       // swallows white space before it
  bool rstrip = false;       // and after it
  bool normalized = false;   // looked for only after all tokens that are not
  bool operator==(const AddedToken&) const = default;
};

// A range of bytes of a text.
struct TextRange {
  size_t begin = 0;
  size_t end = 0;
  bool operator==(const TextRange&) const = default;
};

// Whether one of `ranges` (sorted, apart) shares a byte with `range`.
bool overlaps(std::span<const TextRange> ranges, TextRange range);

// Immutable after construction; any thread may use it.
class AddedTokenMatcher {
 public:
  // Contents longer than this are refused: matching takes O(text * longest content).
  static constexpr size_t kLongestContent = 1024;

  AddedTokenMatcher() = default;
  // Copies what it needs. Throws Error (data) for an empty or overlong content.
  explicit AddedTokenMatcher(std::span<const AddedToken> tokens);

  bool empty() const { return nodes_.empty(); }

  // Which special tokens count: none, or those that share no byte with `plain` (sorted ranges,
  // counted from `offset` bytes before the text).
  struct Specials {
    bool parse = false;
    std::span<const TextRange> plain = {};
    size_t offset = 0;
  };

  // Cuts `text` into pieces: added tokens (with their id) and the text between them (id -1), in
  // order, none empty. Special tokens that do not count are text. Swallowed white space belongs to
  // its token's piece.
  void split(std::string_view text, Specials specials,
             FunctionRef<void(std::string_view piece, int32_t id)> piece) const;

 private:
  struct Node {
    std::vector<std::pair<uint8_t, uint32_t>> next;  // sorted by byte
    int32_t token = -1;                              // index into tokens_
  };
  struct Match {
    int32_t token = -1;
    size_t length = 0;
  };
  Match longest_at(std::string_view text, size_t at) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;  // a trie; the root is 0
  std::array<bool, 256> starts_{};
};

}  // namespace cairn
