#include "cairn/text/jinja/expression_parser.h"

#include <charconv>
#include <cstdlib>

#include "cairn/text/jinja/parser.h"

namespace cairn::jinja {
namespace {

constexpr int kLongestChain = 200;

}  // namespace

ExpressionPtr ExpressionParser::make(EKind kind) const {
  auto made = std::make_unique<Expression>();
  made->kind = kind;
  made->place = now().place;
  return made;
}

ExpressionPtr ExpressionParser::make(EKind kind, ExpressionPtr first, std::string text) const {
  auto made = std::make_unique<Expression>();
  made->kind = kind;
  made->place = first ? first->place : now().place;
  made->depth = first ? first->depth + 1 : 0;
  if (made->depth > kLongestChain) fail("a longer chain", "chains of at most 200 operators");
  made->text = std::move(text);
  made->parts.push_back(std::move(first));
  return made;
}

ExpressionPtr ExpressionParser::expression(bool conditions) {
  const Level level(depth_);
  check_depth();
  return conditions ? conditional() : disjunction();
}

ExpressionPtr ExpressionParser::tuple_or_expression(bool conditions) {
  ExpressionPtr first = expression(conditions);
  if (!is_op(",")) return first;
  ExpressionPtr tuple = make(EKind::tuple, std::move(first));
  while (skip_op(",")) {
    if (ends_tuple()) break;
    tuple->parts.push_back(expression(conditions));
  }
  return tuple;
}

bool ExpressionParser::ends_tuple() const {
  return now().kind == Kind::print_end || now().kind == Kind::block_end || is_op(")") ||
         is_op("]") || is_op("=") || is_name("in");
}

ExpressionPtr ExpressionParser::conditional() {
  ExpressionPtr value = disjunction();
  while (skip_name("if")) {
    value = make(EKind::conditional, std::move(value));
    value->parts.push_back(disjunction());
    value->parts.push_back(skip_name("else") ? expression() : nullptr);
  }
  return value;
}

ExpressionPtr ExpressionParser::disjunction() {
  ExpressionPtr left = conjunction();
  while (skip_name("or")) {
    left = make(EKind::binary, std::move(left), "or");
    left->parts.push_back(conjunction());
  }
  return left;
}

ExpressionPtr ExpressionParser::conjunction() {
  ExpressionPtr left = negation();
  while (skip_name("and")) {
    left = make(EKind::binary, std::move(left), "and");
    left->parts.push_back(negation());
  }
  return left;
}

ExpressionPtr ExpressionParser::negation() {
  if (!is_name("not")) return comparison();
  const Level level(depth_);
  check_depth();
  ExpressionPtr made = make(EKind::unary);
  take();
  made->text = "not";
  made->parts.push_back(negation());
  return made;
}

std::string ExpressionParser::comparison_operator() {
  for (const std::string_view op : {"==", "!=", "<=", ">=", "<", ">"}) {
    if (skip_op(op)) return std::string(op);
  }
  if (skip_name("in")) return "in";
  if (is_name("not") && ahead().kind == Kind::name && ahead().text == "in") {
    at_ += 2;
    return "not in";
  }
  return "";
}

ExpressionPtr ExpressionParser::comparison() {
  ExpressionPtr left = sum();
  std::string op = comparison_operator();
  if (op.empty()) return left;
  left = make(EKind::compare, std::move(left));
  for (; !op.empty(); op = comparison_operator()) {
    left->names.push_back(op);
    left->parts.push_back(sum());
  }
  return left;
}

template <size_t N>
ExpressionPtr ExpressionParser::binary(const std::array<std::string_view, N>& ops,
                                       ExpressionPtr (ExpressionParser::*next)()) {
  ExpressionPtr left = (this->*next)();
  for (;;) {
    const auto op = std::find_if(ops.begin(), ops.end(),
                                 [&](std::string_view candidate) { return is_op(candidate); });
    if (op == ops.end()) return left;
    const Place place = take().place;
    left = make(EKind::binary, std::move(left), std::string(*op));
    left->place = place;
    left->parts.push_back((this->*next)());
  }
}

ExpressionPtr ExpressionParser::sum() {
  constexpr std::array<std::string_view, 2> kOps = {"+", "-"};
  return binary(kOps, &ExpressionParser::concatenation);
}

ExpressionPtr ExpressionParser::concatenation() {
  constexpr std::array<std::string_view, 1> kOps = {"~"};
  return binary(kOps, &ExpressionParser::product);
}

ExpressionPtr ExpressionParser::product() {
  constexpr std::array<std::string_view, 4> kOps = {"*", "/", "//", "%"};
  return binary(kOps, &ExpressionParser::power);
}

ExpressionPtr ExpressionParser::power() {
  constexpr std::array<std::string_view, 1> kOps = {"**"};
  return binary(kOps, &ExpressionParser::filtered_unary);
}

ExpressionPtr ExpressionParser::filtered_unary() {
  return unary(true);
}

ExpressionPtr ExpressionParser::unary(bool with_filters) {
  const Level level(depth_);
  check_depth();
  ExpressionPtr value;
  if (is_op("-") || is_op("+")) {
    value = make(EKind::unary);
    value->text = take().text;
    value->parts.push_back(unary(false));
  } else {
    value = postfix(primary());
  }
  return with_filters ? filters_and_tests(std::move(value)) : std::move(value);
}

ExpressionPtr ExpressionParser::constant(Value value) {
  ExpressionPtr made = make(EKind::constant);
  made->value = std::move(value);
  take();
  return made;
}

ExpressionPtr ExpressionParser::primary() {
  switch (now().kind) {
    case Kind::name:
      return name_or_literal();
    case Kind::string: {
      ExpressionPtr made = make(EKind::constant);
      std::string text;
      while (now().kind == Kind::string) text += take().text;  // neighbours join
      made->value = Value(Text(std::move(text)));
      return made;
    }
    case Kind::integer: {
      int64_t value = 0;
      const std::string& text = now().text;
      const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
      if (code != std::errc{}) fail("integer " + text, "one of 64 bits");
      return constant(value);
    }
    case Kind::number:
      return constant(std::strtod(now().text.c_str(), nullptr));
    default:
      break;
  }
  if (is_op("(")) return parenthesised();
  if (is_op("[")) return bracketed(EKind::list);
  if (is_op("{")) return braced();
  fail_expected("an expression");
}

ExpressionPtr ExpressionParser::name_or_literal() {
  const std::string& text = now().text;
  if (text == "true" || text == "True") return constant(true);
  if (text == "false" || text == "False") return constant(false);
  if (text == "none" || text == "None") return constant(Value());
  ExpressionPtr made = make(EKind::name);
  made->text = take().text;
  return made;
}

ExpressionPtr ExpressionParser::parenthesised() {
  ExpressionPtr empty = make(EKind::tuple);
  take();
  if (skip_op(")")) return empty;
  ExpressionPtr inside = tuple_or_expression();
  expect_op(")");
  return inside;
}

ExpressionPtr ExpressionParser::bracketed(EKind kind) {
  ExpressionPtr made = make(kind);
  take();
  while (!skip_op("]")) {
    made->parts.push_back(expression());
    if (!is_op("]")) expect_op(",");
  }
  return made;
}

ExpressionPtr ExpressionParser::braced() {
  ExpressionPtr made = make(EKind::dict);
  take();
  while (!skip_op("}")) {
    made->parts.push_back(expression());
    expect_op(":");
    made->parts.push_back(expression());
    if (!is_op("}")) expect_op(",");
  }
  return made;
}

ExpressionPtr ExpressionParser::postfix(ExpressionPtr value) {
  for (;;) {
    if (is_op(".")) {
      value = attribute(std::move(value));
    } else if (is_op("[")) {
      value = subscript(std::move(value));
    } else if (is_op("(")) {
      value = call(std::move(value));
    } else {
      return value;
    }
  }
}

ExpressionPtr ExpressionParser::attribute(ExpressionPtr value) {
  const Place place = take().place;
  if (now().kind == Kind::integer) {
    value = make(EKind::subscript, std::move(value));
    value->parts.push_back(primary());
  } else {
    value = make(EKind::attribute, std::move(value), expect_name());
  }
  value->place = place;
  return value;
}

ExpressionPtr ExpressionParser::subscript(ExpressionPtr value) {
  const Place place = take().place;
  ExpressionPtr first = is_op(":") ? nullptr : expression();
  if (!is_op(":")) {
    if (is_op(",")) {
      first = make(EKind::tuple, std::move(first));
      while (skip_op(",")) first->parts.push_back(expression());
    }
    value = make(EKind::subscript, std::move(value));
    value->parts.push_back(std::move(first));
  } else {
    value = make(EKind::slice, std::move(value));
    value->parts.push_back(std::move(first));
    for (int part = 0; part < 2; ++part) {
      const bool given = skip_op(":") && !is_op(":") && !is_op("]");
      value->parts.push_back(given ? expression() : nullptr);
    }
  }
  value->place = place;
  expect_op("]");
  return value;
}

void ExpressionParser::arguments(Expression& to) {
  expect_op("(");
  while (!skip_op(")")) {
    if (is_op("*") || is_op("**")) fail("unpacked arguments", "arguments one by one");
    if (now().kind == Kind::name && ahead().kind == Kind::op && ahead().text == "=") {
      std::string name = take().text;
      take();
      to.named.emplace_back(std::move(name), expression());
    } else {
      if (!to.named.empty()) fail("an argument without a name after one with a name");
      to.parts.push_back(expression());
    }
    if (!is_op(")")) expect_op(",");
  }
}

ExpressionPtr ExpressionParser::call(ExpressionPtr value) {
  const Place place = now().place;
  value = make(EKind::call, std::move(value));
  value->place = place;
  arguments(*value);
  return value;
}

ExpressionPtr ExpressionParser::filters_and_tests(ExpressionPtr value) {
  for (;;) {
    if (is_op("|")) {
      value = filter(std::move(value));
    } else if (is_name("is")) {
      value = test(std::move(value));
    } else if (is_op("(")) {
      value = call(std::move(value));
    } else {
      return value;
    }
  }
}

std::string ExpressionParser::dotted_name() {
  std::string name = expect_name();
  while (skip_op(".")) name.append(".").append(expect_name());
  return name;
}

ExpressionPtr ExpressionParser::filter(ExpressionPtr value) {
  const Place place = take().place;
  return filter_named(std::move(value), place);
}

ExpressionPtr ExpressionParser::filter_named(ExpressionPtr value, Place place) {
  value = make(EKind::filter, std::move(value));
  value->place = place;
  if (now().kind == Kind::name && !is_filter(now().text)) {
    fail("filter " + in_quotes(now().text), "a filter that exists");
  }
  value->text = dotted_name();
  if (is_op("(")) arguments(*value);
  return value;
}

bool ExpressionParser::starts_argument() const {
  switch (now().kind) {
    case Kind::name:
      return !is_name("else") && !is_name("or") && !is_name("and") && !is_name("is");
    case Kind::string:
    case Kind::integer:
    case Kind::number:
      return true;
    default:
      return is_op("[") || is_op("{");
  }
}

ExpressionPtr ExpressionParser::test(ExpressionPtr value) {
  const Place place = take().place;
  const bool negated = skip_name("not");
  value = make(EKind::test, std::move(value));
  value->place = place;
  if (now().kind == Kind::name && !is_test(now().text)) {
    fail("test " + in_quotes(now().text), "a test that exists");
  }
  value->text = expect_name();
  if (is_op("(")) {
    arguments(*value);
  } else if (starts_argument() && !is_name("if")) {
    value->parts.push_back(postfix(primary()));
  }
  if (!negated) return value;
  value = make(EKind::unary, std::move(value), "not");
  return value;
}

}  // namespace cairn::jinja
