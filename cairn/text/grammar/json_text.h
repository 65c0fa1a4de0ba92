// The pieces of JSON as grammar expressions, and regular expressions over the characters of JSON
// strings.
#pragma once

#include <string_view>
#include <vector>

#include "cairn/text/grammar/grammar.h"

namespace cairn {

// One character of a JSON string out of `ranges`, as JSON writes it: quotes, backslashes and
// control characters by their shortest escape, all others as they are.
GrammarExpression json_character(std::vector<CharRange> ranges);
// Any character of a JSON string, by any escape.
GrammarExpression any_json_character();
// `text` without its quotes.
GrammarExpression json_characters(std::string_view text);

// What a regular expression (ECMA-262, as in JSON Schema's "pattern") matches somewhere in the
// characters of a JSON string: the whole string, without quotes. Understands literals, classes,
// \d \w \s \D \W \S (of ASCII), groups, alternatives, * + ? {m,n}, ^ at the start and $ at the end
// of alternatives. Throws std::invalid_argument that says what is not understood.
GrammarExpression json_pattern(std::string_view pattern);

}  // namespace cairn
