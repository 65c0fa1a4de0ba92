// The tokens of a template as its parsers read them. Internal to jinja.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cairn/io/json.h"
#include "cairn/text/jinja/lexer.h"

namespace cairn::jinja {

class TokenCursor {
 public:
  using Kind = Token::Kind;

  // Borrows the name of the template, for messages.
  TokenCursor(std::vector<Token> tokens, const std::string& name)
      : tokens_(std::move(tokens)), name_(name) {}

 protected:
  static constexpr int kDeepest = 100;  // nesting of expressions and statements

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

  std::vector<Token> tokens_;
  const std::string& name_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace cairn::jinja
