// Grammars in GBNF, the notation of llama.cpp: rules `name ::= alternatives`, of which `root` is
// the whole text.
//
//   root  ::= "yes" | "no" | number     # a comment
//   number ::= [0-9]{1,3} ("." [0-9]+)?
//
// Literals in double quotes and classes [a-z], [^...] take the escapes \n \r \t \\ \" \[ \] \- \^
// \xHH \uHHHH \UHHHHHHHH; `.` is any character; ( ) groups; * + ? {m} {m,} {m,n} repeat. A rule
// ends at the end of its line, but inside parentheses and after ::= and |.
#pragma once

#include <string>
#include <string_view>

#include "cairn/text/grammar/grammar.h"

namespace cairn {

// Throws Error (data) with line and column: bytes that are no UTF-8, syntax, a rule that is defined
// twice or not at all, no root, nesting beyond 100 levels, texts beyond 4 MiB. `source` is what
// errors call it.
Grammar parse_gbnf(std::string_view text, const std::string& source);

}  // namespace cairn
