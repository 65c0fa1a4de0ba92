// From the tokens of a template to its syntax tree: Jinja's grammar, without inheritance and
// inclusion (there are no other templates here), which are refused by name.
#pragma once

#include <string>
#include <string_view>

#include "cairn/text/jinja/ast.h"

namespace cairn::jinja {

// Throws Error (data) with line and column. Nesting is bounded.
Body parse(std::string_view source, const std::string& name);

// Whether there is a filter, or a test, of this name: unknown ones are found when parsing.
bool is_filter(std::string_view name);
bool is_test(std::string_view name);

}  // namespace cairn::jinja
