// The syntax tree of a template: plain data, made by the parser, walked by the evaluator.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cairn/text/jinja/lexer.h"
#include "cairn/text/jinja/value.h"

namespace cairn::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;
using NamedExpressions = std::vector<std::pair<std::string, ExpressionPtr>>;

struct Expression {
  enum class Kind {
    constant,     // value
    name,         // text
    list,         // parts
    tuple,        // parts
    dict,         // parts: key, value, key, value, ...
    attribute,    // parts[0] . text
    subscript,    // parts[0] [ parts[1] ]
    slice,        // parts[0] [ parts[1] : parts[2] : parts[3] ], each may be null
    call,         // parts[0] ( parts[1...], named )
    filter,       // parts[0] | text ( parts[1...], named ); parts[0] null: of a filter block
    test,         // parts[0] is text ( parts[1...] )
    unary,        // text parts[0]: - + not
    binary,       // parts[0] text parts[1]: + - * / // % ** ~ and or
    compare,      // parts[0], then for each of `names` an operator and the next part
    conditional,  // parts[0] if parts[1] else parts[2] (may be null)
  };
  Kind kind = Kind::constant;
  Place place;
  int depth = 0;  // of its first parts: bounds what chains of operators may need of the stack
  std::string text;
  Value value;
  std::vector<ExpressionPtr> parts;
  NamedExpressions named;
  std::vector<std::string> names;
};

struct Statement;
using Body = std::vector<std::unique_ptr<Statement>>;

// A macro's or call block's parameter, with its default or null.
using Parameters = NamedExpressions;

struct Statement {
  enum class Kind {
    text,        // text
    print,       // value
    if_,         // branches; other
    for_,        // target in value if condition: body, else other; recursive
    set,         // target = value
    set_block,   // target, filters in value (may be null): body
    macro,       // text, parameters: body
    call,        // parameters, value (a call): body
    filter,      // value (filters on null): body
    with,        // parameters are assignments: body
    generation,  // body: what the assistant said
    break_,
    continue_,
  };
  Kind kind = Kind::text;
  Place place;
  std::string text;
  ExpressionPtr value;
  ExpressionPtr target;
  ExpressionPtr condition;
  bool recursive = false;
  std::vector<std::pair<ExpressionPtr, Body>> branches;
  Parameters parameters;
  Body body;
  Body other;
};

}  // namespace cairn::jinja
