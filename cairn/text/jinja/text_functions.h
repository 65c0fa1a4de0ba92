// Functions on texts that methods and filters share. All keep track of what users wrote.
#pragma once

#include <string>
#include <string_view>

#include "cairn/base/function_ref.h"
#include "cairn/text/jinja/context.h"

namespace cairn::jinja {

// Without the characters of `chars` at the ends; of white space when it is null.
Text strip(const Text& text, const std::string* chars, bool left, bool right);
Text replace(Context& context, const Text& text, const Text& from, const Text& to, int64_t most);
// Every character through `change`, which appends what it becomes.
Text change_chars(const Text& text,
                  FunctionRef<void(uint32_t code_point, std::string& out)> change);
Text upper(const Text& text);
Text lower(const Text& text);
Text capitalize(const Text& text);
// str.title(): a letter behind a letter is lower. Jinja's filter cuts words elsewhere.
Text title(const Text& text);
Text title_filter(const Text& text);
// str.split(); `separator` null: by white space.
List split(Context& context, const Text& text, const std::string* separator, int64_t most);
Text join(Context& context, const Text& separator, const List& items);
// str.format: {} {0} {name}, with attributes and items, !r and plain specs.
Text format_text(Context& context, const Text& format, const Arguments& arguments);
// format % values: %s %r %d %i %f %x %%.
Value printf_text(Context& context, const Text& format, const Value& values);

}  // namespace cairn::jinja
