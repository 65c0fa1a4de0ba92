#include "cairn/text/grammar/json_text.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <utility>

namespace cairn {
namespace {

using grammar::Expression;

constexpr std::pair<char, char> kShortEscapes[] = {
    {'"', '"'}, {'\\', '\\'}, {'\b', 'b'}, {'\f', 'f'}, {'\n', 'n'}, {'\r', 'r'}, {'\t', 't'}};

std::string escape_of(uint32_t code) {
  for (const auto& [meaning, letter] : kShortEscapes)
    if (code == static_cast<uint32_t>(meaning)) return {'\\', letter};
  return fmt::format("\\u{:04x}", code);
}

bool needs_escape(uint32_t code) {
  return code < 0x20 || code == '"' || code == '\\';
}

// A regular expression read by recursive descent.
class Pattern {
 public:
  explicit Pattern(std::string_view text) : text_(text) {}

  // Alternatives of the whole pattern, each anchored or open at its ends.
  Expression whole() {
    std::vector<Expression> alternatives;
    do {
      const bool at_start = take('^');
      Expression middle = sequence();
      const bool at_end = take('$');
      std::vector<Expression> parts;
      if (!at_start) parts.push_back(grammar::repeat(any_json_character(), 0));
      parts.push_back(std::move(middle));
      if (!at_end) parts.push_back(grammar::repeat(any_json_character(), 0));
      alternatives.push_back(grammar::sequence(std::move(parts)));
    } while (take('|'));
    if (at_ < text_.size())
      refuse(peek() == ')' ? "a \")\" without its \"(\"" : "an anchor inside");
    return grammar::choice(std::move(alternatives));
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw std::invalid_argument(fmt::format("{} at {}", what, at_));
  }
  bool ended() const { return at_ == text_.size(); }
  char peek() const { return ended() ? '\0' : text_[at_]; }
  bool take(char c) {
    if (ended() || peek() != c) return false;
    ++at_;
    return true;
  }

  Expression choice() {
    if (++depth_ > 50) refuse("groups nested too deep");
    std::vector<Expression> alternatives;
    do alternatives.push_back(sequence());
    while (take('|'));
    --depth_;
    return grammar::choice(std::move(alternatives));
  }

  Expression sequence() {
    std::vector<Expression> parts;
    while (!ended() && peek() != '|' && peek() != ')' && peek() != '$') {
      Expression part = atom();
      parts.push_back(quantified(std::move(part)));
    }
    if (parts.empty()) return grammar::text("");
    return grammar::sequence(std::move(parts));
  }

  Expression atom() {
    if (take('(')) return group();
    if (take('[')) return set();
    if (take('.'))
      return json_character(complement({{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}));
    if (peek() == '^') refuse("an anchor inside");
    if (peek() == '*' || peek() == '+' || peek() == '?' || peek() == '{')
      refuse("a repetition of nothing");
    return json_character(one());
  }

  Expression group() {
    if (take('?')) {
      if (take('<')) {
        if (peek() == '=' || peek() == '!') refuse("a look behind");
        while (!ended() && peek() != '>') ++at_;
        take('>');
      } else if (!take(':')) {
        refuse("a look ahead or an option");
      }
    }
    Expression inside = choice();
    if (!take(')')) refuse(peek() == '$' ? "an anchor inside" : "a group that does not end");
    return inside;
  }

  Expression quantified(Expression part) {
    uint32_t least = 0, most = Expression::kUnbounded;
    if (take('+')) {
      least = 1;
    } else if (take('?')) {
      most = 1;
    } else if (take('{')) {
      least = number();
      most = take(',') ? (peek() == '}' ? Expression::kUnbounded : number()) : least;
      if (!take('}') || most < least) refuse("bounds of a repetition");
    } else if (!take('*')) {
      return part;
    }
    take('?');  // lazy or not, the same texts match
    return grammar::repeat(std::move(part), least, most);
  }

  uint32_t number() {
    uint32_t value = 0;
    const size_t begin = at_;
    while (peek() >= '0' && peek() <= '9' && value < 100'000)
      value = value * 10 + static_cast<uint32_t>(text_[at_++] - '0');
    if (at_ == begin || value >= 100'000) refuse("bounds of a repetition");
    return value;
  }

  Expression set() {
    const bool negated = take('^');
    std::vector<CharRange> ranges;
    while (!take(']')) {
      if (ended()) refuse("a class that does not end");
      std::vector<CharRange> first = one();
      const bool single = first.size() == 1 && first[0].low == first[0].high;
      if (single && peek() == '-' && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        ++at_;
        const std::vector<CharRange> last = one();
        if (last.size() != 1 || last[0].low != last[0].high || last[0].low < first[0].low)
          refuse("a range of a class");
        first[0].high = last[0].low;
      }
      ranges.insert(ranges.end(), first.begin(), first.end());
    }
    ranges = normalized_ranges(std::move(ranges));
    return json_character(negated ? complement(ranges) : ranges);
  }

  // A character or what an escape stands for.
  std::vector<CharRange> one() {
    if (take('\\')) return escape();
    const int64_t code = next_utf8(text_, at_);
    if (code < 0) refuse("bytes that are no UTF-8");
    return {{static_cast<uint32_t>(code), static_cast<uint32_t>(code)}};
  }

  std::vector<CharRange> escape() {
    if (ended()) refuse("an escape of nothing");
    const char c = text_[at_++];
    const std::vector<CharRange> digits = {{'0', '9'}};
    const std::vector<CharRange> word = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
    const std::vector<CharRange> blank = {{'\t', '\r'}, {' ', ' '}};
    const auto others = [](std::vector<CharRange> ranges) {  // of ASCII: engines differ beyond
      ranges.push_back({0x80, kLastCharacter});
      return complement(normalized_ranges(std::move(ranges)));
    };
    const auto single = [](uint32_t code) { return std::vector<CharRange>{{code, code}}; };
    switch (c) {
      case 'd':
        return digits;
      case 'D':
        return others(digits);
      case 'w':
        return word;
      case 'W':
        return others(word);
      case 's':
        return blank;
      case 'S':
        return others(blank);
      case 'n':
        return single('\n');
      case 'r':
        return single('\r');
      case 't':
        return single('\t');
      case 'f':
        return single('\f');
      case 'v':
        return single('\v');
      case 'x':
        return single(hexadecimal(2));
      case 'u':
        return single(hexadecimal(4));
      default:
        break;
    }
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (letter || static_cast<uint8_t>(c) >= 0x80) refuse(fmt::format("the escape \\{}", c));
    return single(static_cast<uint8_t>(c));
  }

  uint32_t hexadecimal(int digits) {
    uint32_t code = 0;
    for (int i = 0; i < digits; ++i) {
      const char c = peek();
      const bool decimal = c >= '0' && c <= '9';
      const char lower = static_cast<char>(c | 0x20);
      if (!decimal && !(lower >= 'a' && lower <= 'f')) refuse("a hexadecimal escape");
      code = code * 16 + static_cast<uint32_t>(decimal ? c - '0' : lower - 'a' + 10);
      ++at_;
    }
    return code;
  }

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

GrammarExpression json_character(std::vector<CharRange> ranges) {
  ranges = normalized_ranges(std::move(ranges));
  std::vector<Expression> alternatives;
  std::vector<CharRange> plain;
  for (const CharRange& range : ranges) {
    uint32_t begin = range.low;
    for (uint32_t code = range.low; code <= std::min<uint32_t>(range.high, '\\'); ++code) {
      if (!needs_escape(code)) continue;
      alternatives.push_back(grammar::text(escape_of(code)));
      if (code > begin) plain.push_back({begin, code - 1});
      begin = code + 1;
    }
    if (begin <= range.high) plain.push_back({begin, range.high});
  }
  if (!plain.empty()) alternatives.push_back(grammar::characters(std::move(plain)));
  return grammar::choice(std::move(alternatives));
}

GrammarExpression any_json_character() {
  const auto hex = [](uint32_t count) {
    return grammar::repeat(grammar::characters({{'0', '9'}, {'a', 'f'}, {'A', 'F'}}), count, count);
  };
  const auto digit_d = grammar::characters({{'d', 'd'}, {'D', 'D'}});
  // \u with four digits, but no half of a surrogate pair (D8 to DF).
  std::vector<Expression> safe;
  safe.push_back(grammar::sequence(
      {grammar::characters({{'0', '9'}, {'a', 'c'}, {'A', 'C'}, {'e', 'f'}, {'E', 'F'}}), hex(3)}));
  safe.push_back(grammar::sequence({digit_d, grammar::characters({{'0', '7'}}), hex(2)}));
  std::vector<Expression> escapes;
  escapes.push_back(grammar::characters({{'"', '"'},
                                         {'\\', '\\'},
                                         {'/', '/'},
                                         {'b', 'b'},
                                         {'f', 'f'},
                                         {'n', 'n'},
                                         {'r', 'r'},
                                         {'t', 't'}}));
  escapes.push_back(grammar::sequence({grammar::text("u"), grammar::choice(std::move(safe))}));
  std::vector<Expression> alternatives;
  alternatives.push_back(grammar::other_characters({{0, 0x1F}, {'"', '"'}, {'\\', '\\'}}));
  alternatives.push_back(
      grammar::sequence({grammar::text("\\"), grammar::choice(std::move(escapes))}));
  return grammar::choice(std::move(alternatives));
}

GrammarExpression json_characters(std::string_view text) {
  std::string bytes;
  for (const char c : text) {
    const auto code = static_cast<uint8_t>(c);
    bytes += needs_escape(code) ? escape_of(code) : std::string(1, c);
  }
  return grammar::text(bytes);
}

GrammarExpression json_pattern(std::string_view pattern) {
  return Pattern(pattern).whole();
}

}  // namespace cairn
