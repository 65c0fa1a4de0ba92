// Expressions of templates, from the weakest binding to the strongest. Internal to jinja.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "cairn/text/jinja/ast.h"
#include "cairn/text/jinja/token_cursor.h"

namespace cairn::jinja {

class ExpressionParser : public TokenCursor {
 public:
  using TokenCursor::TokenCursor;

 protected:
  using EKind = Expression::Kind;

  ExpressionPtr make(EKind kind) const;
  ExpressionPtr make(EKind kind, ExpressionPtr first, std::string text = "") const;
  // `conditions`: "x if y" belongs to it.
  ExpressionPtr expression(bool conditions = true);
  ExpressionPtr tuple_or_expression(bool conditions = true);
  bool ends_tuple() const;
  ExpressionPtr conditional();
  ExpressionPtr disjunction();
  ExpressionPtr conjunction();
  ExpressionPtr negation();
  // The comparison at this place, taken, or "".
  std::string comparison_operator();
  ExpressionPtr comparison();
  template <size_t N>
  ExpressionPtr binary(const std::array<std::string_view, N>& ops,
                       ExpressionPtr (ExpressionParser::*next)());
  ExpressionPtr sum();
  ExpressionPtr concatenation();
  ExpressionPtr product();
  ExpressionPtr power();
  ExpressionPtr filtered_unary();
  ExpressionPtr unary(bool with_filters);
  ExpressionPtr constant(Value value);
  ExpressionPtr primary();
  ExpressionPtr name_or_literal();
  ExpressionPtr parenthesised();
  ExpressionPtr bracketed(EKind kind);
  ExpressionPtr braced();
  ExpressionPtr postfix(ExpressionPtr value);
  ExpressionPtr attribute(ExpressionPtr value);
  ExpressionPtr subscript(ExpressionPtr value);
  void arguments(Expression& to);
  ExpressionPtr call(ExpressionPtr value);
  ExpressionPtr filters_and_tests(ExpressionPtr value);
  std::string dotted_name();
  ExpressionPtr filter(ExpressionPtr value);
  ExpressionPtr filter_named(ExpressionPtr value, Place place);
  // Whether a test's argument without parentheses starts here.
  bool starts_argument() const;
  ExpressionPtr test(ExpressionPtr value);
};

}  // namespace cairn::jinja
