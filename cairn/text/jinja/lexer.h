// Cuts a template into text and tokens, with the white-space rules of Jinja: trim_blocks and
// lstrip_blocks on (as transformers sets them), "-" and "+" at the marks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cairn::jinja {

struct Place {
  int line = 1;
  int column = 1;
};

struct Token {
  enum class Kind {
    text,
    print_begin,  // {{
    print_end,
    block_begin,  // {%
    block_end,
    name,
    string,
    integer,
    number,
    op,  // one of the signs, in `text`
    end,
  };
  Kind kind = Kind::end;
  std::string text;
  Place place;
};

// Ends with a token of kind end. Throws Error (data) with line and column; `name` is what errors
// call the template.
std::vector<Token> tokenize(std::string_view source, const std::string& name);

// Throws that error: "reading NAME: line 3, column 7, found ...".
[[noreturn]] void fail_at(const std::string& name, Place place, const std::string& found,
                          const std::string& expected = "");

}  // namespace cairn::jinja
