// Context-free grammars over characters, as plain data: what a text may look like. Written in GBNF
// (gbnf.h) or made from a JSON Schema (json_schema.h); compiled into an automaton over bytes
// (automaton.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cairn {

// Code points low to high.
struct CharRange {
  uint32_t low = 0, high = 0;
  bool operator==(const CharRange&) const = default;
};

// What stands on the right of a rule.
struct GrammarExpression {
  enum class Kind {
    text,        // these bytes; none is the empty text
    characters,  // one character in any of `ranges`, as UTF-8; surrogates never match
    sequence,    // all parts, one after another
    choice,      // any of the parts; without parts nothing matches
    repeat,      // parts[0], `least` to `most` times
    rule,        // what rule number `rule` stands for
  };
  static constexpr uint32_t kUnbounded = UINT32_MAX;

  Kind kind = Kind::text;
  std::string text;
  std::vector<CharRange> ranges;
  std::vector<GrammarExpression> parts;
  uint32_t least = 0, most = kUnbounded;
  uint32_t rule = 0;
};

struct GrammarRule {
  std::string name;
  GrammarExpression body;
};

struct Grammar {
  std::vector<GrammarRule> rules;
  uint32_t root = 0;
};

// Short ways to write expressions.
namespace grammar {
using Expression = GrammarExpression;

Expression text(std::string_view bytes);
Expression characters(std::vector<CharRange> ranges);
// All characters but these.
Expression other_characters(std::vector<CharRange> ranges);
Expression sequence(std::vector<Expression> parts);
Expression choice(std::vector<Expression> parts);
Expression repeat(Expression part, uint32_t least, uint32_t most = Expression::kUnbounded);
Expression optional(Expression part);
Expression rule(uint32_t index);
}  // namespace grammar

// Sorted, without overlaps or neighbours that touch, inside [0, U+10FFFF].
std::vector<CharRange> normalized_ranges(std::vector<CharRange> ranges);
// The characters outside of ranges that are normalized.
std::vector<CharRange> complement(const std::vector<CharRange>& ranges);

inline constexpr uint32_t kLastCharacter = 0x10FFFF;

// The code point at `at`, which moves behind it; -1 when the bytes there are no UTF-8.
int64_t next_utf8(std::string_view text, size_t& at);

}  // namespace cairn
