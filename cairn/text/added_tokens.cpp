#include "cairn/text/added_tokens.h"

#include <algorithm>

#include "cairn/base/error.h"
#include "cairn/text/char_classes.h"
#include "cairn/text/gpt2_rule.h"

namespace cairn {
namespace {

// Where the character before `at` starts.
size_t previous_char(std::string_view text, size_t at) {
  size_t start = at - 1;
  while (start > 0 && at - start < 4 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) {
    --start;
  }
  const DecodedChar found = decode_char(text.data() + start, text.data() + at);
  return start + found.length == at ? start : at - 1;
}

CharClass class_of(std::string_view text, size_t at) {
  const char* const end = text.data() + text.size();
  return gpt2_rule::class_at(text.data() + at, end, CharClasses::instance()).cls;
}

bool is_word_char(std::string_view text, size_t at) {
  const CharClass cls = class_of(text, at);
  return cls == CharClass::letter || cls == CharClass::number || text[at] == '_';
}

bool stands_alone(std::string_view text, size_t start, size_t end) {
  if (start > 0 && is_word_char(text, previous_char(text, start))) return false;
  return end == text.size() || !is_word_char(text, end);
}

size_t spaces_start_before(std::string_view text, size_t at, size_t floor) {
  while (at > floor) {
    const size_t before = previous_char(text, at);
    if (before < floor || class_of(text, before) != CharClass::space) break;
    at = before;
  }
  return at;
}

size_t spaces_end_after(std::string_view text, size_t at) {
  const char* const end = text.data() + text.size();
  const char* stop =
      gpt2_rule::run_end(text.data() + at, end, CharClass::space, CharClasses::instance());
  return static_cast<size_t>(stop - text.data());
}

}  // namespace

bool overlaps(std::span<const TextRange> ranges, TextRange range) {
  const auto after = std::upper_bound(ranges.begin(), ranges.end(), range.begin,
                                      [](size_t at, const TextRange& r) { return at < r.end; });
  return after != ranges.end() && after->begin < range.end;
}

AddedTokenMatcher::AddedTokenMatcher(std::span<const AddedToken> tokens)
    : tokens_(tokens.begin(), tokens.end()) {
  if (tokens_.empty()) return;
  nodes_.emplace_back();
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const std::string& content = tokens_[i].content;
    if (content.empty() || content.size() > kLongestContent) {
      throw Error({.kind = ErrorKind::data,
                   .doing = "building a tokenizer",
                   .subject = "added token " + std::to_string(tokens_[i].id),
                   .expected = "1 to " + std::to_string(kLongestContent) + " bytes of content",
                   .found = std::to_string(content.size())});
    }
    uint32_t node = 0;
    for (const char c : content) {
      const auto byte = static_cast<uint8_t>(c);
      auto& next = nodes_[node].next;
      auto place = std::lower_bound(next.begin(), next.end(), byte,
                                    [](const auto& edge, uint8_t b) { return edge.first < b; });
      if (place == next.end() || place->first != byte) {
        const auto child = static_cast<uint32_t>(nodes_.size());
        next.insert(place, {byte, child});
        nodes_.emplace_back();
        node = child;
      } else {
        node = place->second;
      }
    }
    nodes_[node].token = static_cast<int32_t>(i);
    starts_[static_cast<unsigned char>(content[0])] = true;
  }
}

AddedTokenMatcher::Match AddedTokenMatcher::longest_at(std::string_view text, size_t at) const {
  Match longest;
  uint32_t node = 0;
  for (size_t i = at; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    const auto& next = nodes_[node].next;
    const auto place = std::lower_bound(next.begin(), next.end(), byte,
                                        [](const auto& e, uint8_t b) { return e.first < b; });
    if (place == next.end() || place->first != byte) break;
    node = place->second;
    if (nodes_[node].token >= 0) longest = {nodes_[node].token, i + 1 - at};
  }
  return longest;
}

void AddedTokenMatcher::split(std::string_view text, Specials specials,
                              FunctionRef<void(std::string_view, int32_t)> piece) const {
  size_t done = 0;
  size_t at = 0;
  while (!nodes_.empty() && at < text.size()) {
    if (!starts_[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    const Match match = longest_at(text, at);
    if (match.token < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<size_t>(match.token)];
    size_t start = at;
    size_t end = at + match.length;
    at = end;
    const TextRange where = {start + specials.offset, end + specials.offset};
    if (token.special && (!specials.parse || overlaps(specials.plain, where))) continue;
    if (token.single_word && !stands_alone(text, start, end)) continue;
    if (token.lstrip) start = spaces_start_before(text, start, done);
    if (token.rstrip) at = end = spaces_end_after(text, end);
    if (start > done) piece(text.substr(done, start - done), -1);
    piece(text.substr(start, end - start), token.id);
    done = end;
  }
  if (done < text.size()) piece(text.substr(done), -1);
}

}  // namespace cairn
