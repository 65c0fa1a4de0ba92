#include "cairn/text/grammar/grammar.h"

#include <algorithm>
#include <utility>

#include "cairn/text/char_classes.h"

namespace cairn {
namespace grammar {

using Kind = Expression::Kind;

Expression text(std::string_view bytes) {
  Expression result;
  result.text = bytes;
  return result;
}

Expression characters(std::vector<CharRange> ranges) {
  Expression result;
  result.kind = Kind::characters;
  result.ranges = normalized_ranges(std::move(ranges));
  return result;
}

Expression other_characters(std::vector<CharRange> ranges) {
  return characters(complement(normalized_ranges(std::move(ranges))));
}

Expression sequence(std::vector<Expression> parts) {
  if (parts.size() == 1) return std::move(parts.front());
  Expression result;
  result.kind = Kind::sequence;
  result.parts = std::move(parts);
  return result;
}

Expression choice(std::vector<Expression> parts) {
  if (parts.size() == 1) return std::move(parts.front());
  Expression result;
  result.kind = Kind::choice;
  result.parts = std::move(parts);
  return result;
}

Expression repeat(Expression part, uint32_t least, uint32_t most) {
  Expression result;
  result.kind = Kind::repeat;
  result.parts.push_back(std::move(part));
  result.least = least;
  result.most = most;
  return result;
}

Expression optional(Expression part) {
  return repeat(std::move(part), 0, 1);
}

Expression rule(uint32_t index) {
  Expression result;
  result.kind = Kind::rule;
  result.rule = index;
  return result;
}

}  // namespace grammar

std::vector<CharRange> normalized_ranges(std::vector<CharRange> ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const CharRange& a, const CharRange& b) {
    return a.low != b.low ? a.low < b.low : a.high < b.high;
  });
  std::vector<CharRange> result;
  for (CharRange range : ranges) {
    range.high = std::min(range.high, kLastCharacter);
    if (range.low > range.high) continue;
    if (!result.empty() && range.low <= result.back().high + 1)
      result.back().high = std::max(result.back().high, range.high);
    else
      result.push_back(range);
  }
  return result;
}

std::vector<CharRange> complement(const std::vector<CharRange>& ranges) {
  std::vector<CharRange> result;
  uint32_t next = 0;
  for (const CharRange& range : ranges) {
    if (range.low > next) result.push_back({next, range.low - 1});
    next = range.high + 1;
  }
  if (next <= kLastCharacter) result.push_back({next, kLastCharacter});
  return result;
}

int64_t next_utf8(std::string_view text, size_t& at) {
  const DecodedChar decoded = decode_char(text.data() + at, text.data() + text.size());
  if (decoded.code_point == kInvalidByte) return -1;
  at += decoded.length;
  return decoded.code_point;
}

}  // namespace cairn
