#include "cairn/text/jinja/parser.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>

#include "cairn/io/json.h"

namespace cairn::jinja {
namespace {

using Kind = Token::Kind;
using EKind = Expression::Kind;
using SKind = Statement::Kind;

constexpr int kDeepest = 100;  // nesting of expressions and statements
constexpr int kLongestChain = 200;

// Counts nesting while it lives.
class Level {
 public:
  explicit Level(int& depth) : depth_(depth) { ++depth_; }
  ~Level() { --depth_; }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;

 private:
  int& depth_;
};

class Parser {
 public:
  Parser(std::vector<Token> tokens, const std::string& name)
      : tokens_(std::move(tokens)), name_(name) {}

  Body run() {
    Body body = statements({});
    if (now().kind != Kind::end) fail("a block that nothing opened");
    return body;
  }

 private:
  // ---- tokens ----

  const Token& now() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token take() { return tokens_[now().kind == Kind::end ? at_ : at_++]; }
  bool is_op(std::string_view op) const { return now().kind == Kind::op && now().text == op; }
  bool is_name(std::string_view name) const {
    return now().kind == Kind::name && now().text == name;
  }
  bool skip_op(std::string_view op) { return is_op(op) && (++at_, true); }
  bool skip_name(std::string_view name) { return is_name(name) && (++at_, true); }

  [[noreturn]] void fail(const std::string& found, const std::string& expected = "") const {
    fail_at(name_, now().place, found, expected);
  }
  [[noreturn]] void fail_expected(const std::string& expected) const {
    const bool over = now().kind == Kind::end;
    fail(over ? "the end of the template" : in_quotes(now().text), expected);
  }
  void expect_op(std::string_view op) {
    if (!skip_op(op)) fail_expected(std::string(op));
  }
  std::string expect_name() {
    if (now().kind != Kind::name) fail_expected("a name");
    return take().text;
  }
  void expect_block_end() {
    if (now().kind != Kind::block_end) fail_expected("%}");
    take();
  }
  void check_depth() const {
    if (depth_ > kDeepest) fail("deeper nesting", "nesting of at most 100");
  }

  ExpressionPtr make(EKind kind) const {
    auto made = std::make_unique<Expression>();
    made->kind = kind;
    made->place = now().place;
    return made;
  }
  ExpressionPtr make(EKind kind, ExpressionPtr first, std::string text = "") const {
    auto made = std::make_unique<Expression>();
    made->kind = kind;
    made->place = first ? first->place : now().place;
    made->depth = first ? first->depth + 1 : 0;
    if (made->depth > kLongestChain) fail("a longer chain", "chains of at most 200 operators");
    made->text = std::move(text);
    made->parts.push_back(std::move(first));
    return made;
  }

  // ---- expressions, from the weakest binding to the strongest ----

  // `tuples`: a comma makes a tuple. `conditions`: "x if y" belongs to it.
  ExpressionPtr expression(bool conditions = true) {
    const Level level(depth_);
    check_depth();
    return conditions ? conditional() : disjunction();
  }

  ExpressionPtr tuple_or_expression(bool conditions = true) {
    ExpressionPtr first = expression(conditions);
    if (!is_op(",")) return first;
    ExpressionPtr tuple = make(EKind::tuple, std::move(first));
    while (skip_op(",")) {
      if (ends_tuple()) break;
      tuple->parts.push_back(expression(conditions));
    }
    return tuple;
  }
  bool ends_tuple() const {
    return now().kind == Kind::print_end || now().kind == Kind::block_end || is_op(")") ||
           is_op("]") || is_op("=") || is_name("in");
  }

  ExpressionPtr conditional() {
    ExpressionPtr value = disjunction();
    while (skip_name("if")) {
      value = make(EKind::conditional, std::move(value));
      value->parts.push_back(disjunction());
      value->parts.push_back(skip_name("else") ? expression() : nullptr);
    }
    return value;
  }

  ExpressionPtr disjunction() {
    ExpressionPtr left = conjunction();
    while (skip_name("or")) {
      left = make(EKind::binary, std::move(left), "or");
      left->parts.push_back(conjunction());
    }
    return left;
  }

  ExpressionPtr conjunction() {
    ExpressionPtr left = negation();
    while (skip_name("and")) {
      left = make(EKind::binary, std::move(left), "and");
      left->parts.push_back(negation());
    }
    return left;
  }

  ExpressionPtr negation() {
    if (!is_name("not")) return comparison();
    const Level level(depth_);
    check_depth();
    ExpressionPtr made = make(EKind::unary);
    take();
    made->text = "not";
    made->parts.push_back(negation());
    return made;
  }

  // The comparison at this place, taken, or "".
  std::string comparison_operator() {
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

  ExpressionPtr comparison() {
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
  ExpressionPtr binary(const std::array<std::string_view, N>& ops,
                       ExpressionPtr (Parser::*next)()) {
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
  ExpressionPtr sum() {
    constexpr std::array<std::string_view, 2> kOps = {"+", "-"};
    return binary(kOps, &Parser::concatenation);
  }
  ExpressionPtr concatenation() {
    constexpr std::array<std::string_view, 1> kOps = {"~"};
    return binary(kOps, &Parser::product);
  }
  ExpressionPtr product() {
    constexpr std::array<std::string_view, 4> kOps = {"*", "/", "//", "%"};
    return binary(kOps, &Parser::power);
  }
  ExpressionPtr power() {
    constexpr std::array<std::string_view, 1> kOps = {"**"};
    return binary(kOps, &Parser::filtered_unary);
  }

  ExpressionPtr filtered_unary() { return unary(true); }

  ExpressionPtr unary(bool with_filters) {
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

  ExpressionPtr constant(Value value) {
    ExpressionPtr made = make(EKind::constant);
    made->value = std::move(value);
    take();
    return made;
  }

  ExpressionPtr primary() {
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

  ExpressionPtr name_or_literal() {
    const std::string& text = now().text;
    if (text == "true" || text == "True") return constant(true);
    if (text == "false" || text == "False") return constant(false);
    if (text == "none" || text == "None") return constant(Value());
    ExpressionPtr made = make(EKind::name);
    made->text = take().text;
    return made;
  }

  ExpressionPtr parenthesised() {
    ExpressionPtr empty = make(EKind::tuple);
    take();
    if (skip_op(")")) return empty;
    ExpressionPtr inside = tuple_or_expression();
    expect_op(")");
    return inside;
  }

  ExpressionPtr bracketed(EKind kind) {
    ExpressionPtr made = make(kind);
    take();
    while (!skip_op("]")) {
      made->parts.push_back(expression());
      if (!is_op("]")) expect_op(",");
    }
    return made;
  }

  ExpressionPtr braced() {
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

  ExpressionPtr postfix(ExpressionPtr value) {
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

  ExpressionPtr attribute(ExpressionPtr value) {
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

  ExpressionPtr subscript(ExpressionPtr value) {
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

  void arguments(Expression& to) {
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

  ExpressionPtr call(ExpressionPtr value) {
    const Place place = now().place;
    value = make(EKind::call, std::move(value));
    value->place = place;
    arguments(*value);
    return value;
  }

  ExpressionPtr filters_and_tests(ExpressionPtr value) {
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

  std::string dotted_name() {
    std::string name = expect_name();
    while (skip_op(".")) name += "." + expect_name();
    return name;
  }

  ExpressionPtr filter(ExpressionPtr value) {
    const Place place = take().place;
    return filter_named(std::move(value), place);
  }

  ExpressionPtr filter_named(ExpressionPtr value, Place place) {
    value = make(EKind::filter, std::move(value));
    value->place = place;
    if (now().kind == Kind::name && !is_filter(now().text)) {
      fail("filter " + in_quotes(now().text), "a filter that exists");
    }
    value->text = dotted_name();
    if (is_op("(")) arguments(*value);
    return value;
  }

  // Whether a test's argument without parentheses starts here.
  bool starts_argument() const {
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

  ExpressionPtr test(ExpressionPtr value) {
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

  // ---- statements ----

  // Up to a block whose name is one of `ends`, which is not taken.
  Body statements(std::initializer_list<std::string_view> ends) {
    const Level level(depth_);
    check_depth();
    Body body;
    for (;;) {
      switch (now().kind) {
        case Kind::text:
          body.push_back(statement(SKind::text));
          body.back()->text = take().text;
          break;
        case Kind::print_begin:
          body.push_back(statement(SKind::print));
          take();
          body.back()->value = tuple_or_expression();
          if (now().kind != Kind::print_end) fail_expected("}}");
          take();
          break;
        case Kind::block_begin: {
          const bool ending = std::any_of(ends.begin(), ends.end(), [&](std::string_view end) {
            return ahead().kind == Kind::name && ahead().text == end;
          });
          if (ending) return body;
          body.push_back(block());
          break;
        }
        default:
          if (ends.size() > 0) fail_expected("{% " + std::string(*(ends.end() - 1)) + " %}");
          return body;
      }
    }
  }

  std::unique_ptr<Statement> statement(SKind kind) const {
    auto made = std::make_unique<Statement>();
    made->kind = kind;
    made->place = now().place;
    return made;
  }

  // Takes "{% name".
  std::string open_block() {
    take();
    return expect_name();
  }
  // Takes "{% name %}".
  void close_block() {
    open_block();
    expect_block_end();
  }

  std::unique_ptr<Statement> block() {
    auto made = statement(SKind::text);
    const Place place = now().place;
    const std::string name = open_block();
    if (name == "if") return if_block(std::move(made));
    if (name == "for") return for_block(std::move(made));
    if (name == "set") return set_block(std::move(made));
    if (name == "macro") return macro_block(std::move(made));
    if (name == "call") return call_block(std::move(made));
    if (name == "filter") return filter_block(std::move(made));
    if (name == "with") return with_block(std::move(made));
    if (name == "generation") {
      made->kind = SKind::generation;
      expect_block_end();
      made->body = statements({"endgeneration"});
      close_block();
      return made;
    }
    if (name == "break" || name == "continue") {
      if (loops_ == 0) fail_at(name_, place, name + " outside a loop");
      made->kind = name == "break" ? SKind::break_ : SKind::continue_;
      expect_block_end();
      return made;
    }
    fail_at(name_, place, "block " + in_quotes(name),
            "if, for, set, macro, call, filter, with, generation, break or continue");
  }

  std::unique_ptr<Statement> if_block(std::unique_ptr<Statement> made) {
    made->kind = SKind::if_;
    for (;;) {
      ExpressionPtr condition = tuple_or_expression(false);
      expect_block_end();
      Body body = statements({"elif", "else", "endif"});
      made->branches.emplace_back(std::move(condition), std::move(body));
      const std::string next = open_block();
      if (next == "elif") continue;
      expect_block_end();
      if (next == "endif") return made;
      made->other = statements({"endif"});
      close_block();
      return made;
    }
  }

  // What is assigned to: names, perhaps in a tuple; or an attribute of a namespace.
  ExpressionPtr target(bool attributes) {
    ExpressionPtr first = target_part();
    if (attributes && is_op(".")) {
      take();
      return make(EKind::attribute, std::move(first), expect_name());
    }
    if (!is_op(",")) return first;
    ExpressionPtr tuple = make(EKind::tuple, std::move(first));
    while (skip_op(",")) {
      if (ends_tuple()) break;
      tuple->parts.push_back(target_part());
    }
    return tuple;
  }
  ExpressionPtr target_part() {
    if (skip_op("(")) {
      const Level level(depth_);
      check_depth();
      ExpressionPtr inside = target(false);
      expect_op(")");
      return inside;
    }
    ExpressionPtr made = make(EKind::name);
    made->text = expect_name();
    return made;
  }

  std::unique_ptr<Statement> for_block(std::unique_ptr<Statement> made) {
    made->kind = SKind::for_;
    made->target = target(false);
    if (!skip_name("in")) fail_expected("in");
    made->value = tuple_or_expression(false);
    if (skip_name("if")) made->condition = expression();
    made->recursive = skip_name("recursive");
    expect_block_end();
    ++loops_;
    made->body = statements({"else", "endfor"});
    --loops_;
    const bool has_else = open_block() == "else";
    expect_block_end();
    if (has_else) {
      made->other = statements({"endfor"});
      close_block();
    }
    return made;
  }

  std::unique_ptr<Statement> set_block(std::unique_ptr<Statement> made) {
    made->target = target(true);
    if (skip_op("=")) {
      made->kind = SKind::set;
      made->value = tuple_or_expression();
      expect_block_end();
      return made;
    }
    made->kind = SKind::set_block;
    while (is_op("|")) made->value = filter(std::move(made->value));
    expect_block_end();
    made->body = statements({"endset"});
    close_block();
    return made;
  }

  Parameters parameters() {
    Parameters result;
    expect_op("(");
    while (!skip_op(")")) {
      std::string name = expect_name();
      ExpressionPtr otherwise = skip_op("=") ? expression() : nullptr;
      if (!otherwise && !result.empty() && result.back().second) {
        fail("a parameter without a default after one with a default");
      }
      result.emplace_back(std::move(name), std::move(otherwise));
      if (!is_op(")")) expect_op(",");
    }
    return result;
  }

  // A body in which loops around it cannot be left.
  Body own_body(std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    Body body = statements({end});
    loops_ = loops;
    close_block();
    return body;
  }

  std::unique_ptr<Statement> macro_block(std::unique_ptr<Statement> made) {
    made->kind = SKind::macro;
    made->text = expect_name();
    made->parameters = parameters();
    expect_block_end();
    made->body = own_body("endmacro");
    return made;
  }

  std::unique_ptr<Statement> call_block(std::unique_ptr<Statement> made) {
    made->kind = SKind::call;
    if (is_op("(")) made->parameters = parameters();
    made->value = expression();
    if (made->value->kind != EKind::call) fail("something else", "a call");
    expect_block_end();
    made->body = own_body("endcall");
    return made;
  }

  std::unique_ptr<Statement> filter_block(std::unique_ptr<Statement> made) {
    made->kind = SKind::filter;
    made->value = filter_named(nullptr, now().place);
    while (is_op("|")) made->value = filter(std::move(made->value));
    expect_block_end();
    made->body = statements({"endfilter"});
    close_block();
    return made;
  }

  std::unique_ptr<Statement> with_block(std::unique_ptr<Statement> made) {
    made->kind = SKind::with;
    while (now().kind != Kind::block_end) {
      std::string name = expect_name();
      expect_op("=");
      made->parameters.emplace_back(std::move(name), expression());
      if (now().kind != Kind::block_end) expect_op(",");
    }
    expect_block_end();
    made->body = statements({"endwith"});
    close_block();
    return made;
  }

  std::vector<Token> tokens_;
  const std::string& name_;
  size_t at_ = 0;
  int depth_ = 0;
  int loops_ = 0;
};

}  // namespace

Body parse(std::string_view source, const std::string& name) {
  return Parser(tokenize(source, name), name).run();
}

}  // namespace cairn::jinja
