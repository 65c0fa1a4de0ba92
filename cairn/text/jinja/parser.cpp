#include "cairn/text/jinja/parser.h"

#include <algorithm>

#include "cairn/text/jinja/expression_parser.h"

namespace cairn::jinja {
namespace {

using SKind = Statement::Kind;

class Parser : public ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Body run() {
    Body body = statements({});
    if (now().kind != Kind::end) fail("a block that nothing opened");
    return body;
  }

 private:
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

  int loops_ = 0;
};

}  // namespace

Body parse(std::string_view source, const std::string& name) {
  return Parser(tokenize(source, name), name).run();
}

}  // namespace cairn::jinja
