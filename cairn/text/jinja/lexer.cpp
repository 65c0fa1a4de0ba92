#include "cairn/text/jinja/lexer.h"

#include <fmt/core.h>

#include <array>

#include "cairn/base/error.h"
#include "cairn/io/json.h"
#include "cairn/text/char_classes.h"
#include "cairn/text/jinja/value.h"

namespace cairn::jinja {
namespace {

using Kind = Token::Kind;

constexpr std::array<std::string_view, 27> kOperators = {
    "==", "!=", "<=", ">=", "//", "**", "+", "-", "*", "/", "%", "~", "<", ">",
    "=",  "(",  ")",  "[",  "]",  "{",  "}", ".", ":", ",", "|", ";", "!"};

bool is_name_start(char c) {
  return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         static_cast<signed char>(c) < 0;
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_blank(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r') || (c >= '\x1C' && c <= '\x1F');
}

// Line ends as \n; one at the end goes (keep_trailing_newline is off).
std::string with_plain_lines(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      text.push_back(source[i]);
      continue;
    }
    text.push_back('\n');
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

class Lexer {
 public:
  Lexer(std::string_view source, const std::string& name)
      : source_(with_plain_lines(source)), name_(name) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) text_and_mark();
    add(Kind::end, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(const std::string& found, const std::string& expected = "") {
    fail_at(name_, place_of(at_), found, expected);
  }

  // Places are asked for in rising order.
  Place place_of(size_t at) {
    for (; counted_ < at && counted_ < source_.size(); ++counted_) {
      const char c = source_[counted_];
      if (c == '\n') {
        ++place_.line;
        place_.column = 1;
      } else if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) {
        ++place_.column;
      }
    }
    return place_;
  }

  void add(Kind kind, std::string text) { add_at(kind, std::move(text), at_); }
  void add_at(Kind kind, std::string text, size_t at) {
    tokens_.push_back({kind, std::move(text), place_of(at)});
  }

  bool next_is(std::string_view text) const { return source_.compare(at_, text.size(), text) == 0; }

  // The text up to the next {{, {% or {#, without the white space that the mark takes; then what
  // the mark opens.
  void text_and_mark() {
    const size_t start = at_;
    size_t mark = start;
    for (;; ++mark) {
      mark = source_.find('{', mark);
      if (mark == std::string::npos || mark + 1 >= source_.size()) {
        mark = source_.size();
        break;
      }
      const char second = source_[mark + 1];
      if (second == '{' || second == '%' || second == '#') break;
    }
    const bool found = mark < source_.size();
    const char sign = found && mark + 2 < source_.size() ? source_[mark + 2] : ' ';
    const bool is_print = found && source_[mark + 1] == '{';
    size_t end = mark;
    if (found && sign == '-') {
      while (end > start && is_blank_before(start, end)) --end;
    } else if (found && sign != '+' && !is_print) {
      end = without_indent(start, mark);
    }
    if (end > start) add_at(Kind::text, source_.substr(start, end - start), start);
    at_ = mark;
    if (!found) return;
    at_ += 2;
    const bool has_sign = sign == '-' || (sign == '+' && !is_print);
    if (has_sign) ++at_;
    switch (source_[mark + 1]) {
      case '#':
        return comment();
      case '%':
        return block(mark);
      default:
        add_at(Kind::print_begin, "{{", mark);
        return expression(Kind::print_end, "}}");
    }
  }

  bool is_blank_before(size_t, size_t end) const { return is_blank(source_[end - 1]); }

  // lstrip_blocks: blanks between the start of a line and a block's mark go.
  size_t without_indent(size_t start, size_t mark) const {
    size_t end = mark;
    while (end > start && is_blank(source_[end - 1]) && source_[end - 1] != '\n') --end;
    const bool line_start =
        end > start ? source_[end - 1] == '\n' : start == 0 || source_[start - 1] == '\n';
    return line_start ? end : mark;
  }

  // Behind a closing mark at `at_`: "-" takes all white space, trim_blocks one line end.
  void after_mark(char sign, bool trims) {
    if (sign == '-') {
      while (at_ < source_.size() && is_blank(source_[at_])) ++at_;
    } else if (trims && sign != '+' && at_ < source_.size() && source_[at_] == '\n') {
      ++at_;
    }
  }

  void comment() {
    const size_t end = source_.find("#}", at_);
    if (end == std::string::npos) fail("a comment without its end", "#}");
    const char sign = end > at_ ? source_[end - 1] : ' ';
    at_ = end + 2;
    after_mark(sign == '-' || sign == '+' ? sign : ' ', true);
  }

  void block(size_t mark) {
    if (raw_block(mark)) return;
    add_at(Kind::block_begin, "{%", mark);
    expression(Kind::block_end, "%}");
  }

  void skip_blanks() {
    while (at_ < source_.size() && is_blank(source_[at_])) ++at_;
  }

  // {% raw %} ... {% endraw %}
  bool raw_block(size_t mark) {
    const size_t start = at_;
    skip_blanks();
    if (!next_is("raw")) return at_ = start, false;
    at_ += 3;
    skip_blanks();
    char sign = next_is("-%}") ? '-' : ' ';
    at_ += sign == '-' ? 1 : 0;
    if (!next_is("%}")) return at_ = start, false;
    at_ += 2;
    after_mark(sign, false);
    const size_t begin = at_;
    for (size_t found = source_.find("{%", at_); found != std::string::npos;
         found = source_.find("{%", found + 2)) {
      at_ = found + 2;
      const char open = at_ < source_.size() ? source_[at_] : ' ';
      at_ += open == '-' || open == '+' ? 1 : 0;
      skip_blanks();
      if (!next_is("endraw")) continue;
      at_ += 6;
      skip_blanks();
      sign = at_ < source_.size() ? source_[at_] : ' ';
      at_ += sign == '-' || sign == '+' ? 1 : 0;
      if (!next_is("%}")) continue;
      at_ += 2;
      size_t end = found;
      if (open == '-') {
        while (end > begin && is_blank(source_[end - 1])) --end;
      } else if (open != '+') {
        end = without_indent(begin, found);
      }
      if (end > begin) add_at(Kind::text, source_.substr(begin, end - begin), begin);
      after_mark(sign, true);
      return true;
    }
    at_ = mark;
    fail("a raw block without its end", "{% endraw %}");
  }

  // Tokens up to the closing mark, which inside brackets is none.
  void expression(Kind close, std::string_view mark) {
    std::string open;
    for (;;) {
      skip_blanks();
      if (at_ >= source_.size()) fail("the end of the template", std::string(mark));
      if (open.empty()) {
        const char sign = source_[at_];
        const bool signed_end = (sign == '-' || (sign == '+' && close == Kind::block_end)) &&
                                source_.compare(at_ + 1, mark.size(), mark) == 0;
        if (signed_end || next_is(mark)) {
          add(close, std::string(mark));
          at_ += mark.size() + (signed_end ? 1 : 0);
          return after_mark(signed_end ? sign : ' ', close == Kind::block_end);
        }
      }
      token(open);
    }
  }

  void token(std::string& open) {
    const char c = source_[at_];
    if (c == '"' || c == '\'') return string(c);
    if (is_digit(c)) return number();
    if (is_name_start(c)) {
      const size_t start = at_;
      while (at_ < source_.size() && (is_name_start(source_[at_]) || is_digit(source_[at_]))) ++at_;
      return add_at(Kind::name, source_.substr(start, at_ - start), start);
    }
    for (const std::string_view op : kOperators) {
      if (!next_is(op) || op == "!") continue;
      if (op == "(" || op == "[" || op == "{") open.push_back(op[0]);
      if (op == ")" || op == "]" || op == "}") {
        const char wanted = op == ")" ? '(' : op == "]" ? '[' : '{';
        if (open.empty() || open.back() != wanted)
          fail("\"" + std::string(op) + "\" without its start");
        open.pop_back();
      }
      add(Kind::op, std::string(op));
      at_ += op.size();
      return;
    }
    fail("character " +
         in_quotes(std::string_view(source_).substr(
             at_, decode_char(source_.data() + at_, source_.data() + source_.size()).length)));
  }

  void number() {
    const size_t start = at_;
    const auto digits = [&] {
      while (at_ < source_.size() && (is_digit(source_[at_]) || source_[at_] == '_')) ++at_;
    };
    digits();
    bool is_float = false;
    if (at_ + 1 < source_.size() && source_[at_] == '.' && is_digit(source_[at_ + 1])) {
      is_float = true;
      ++at_;
      digits();
    }
    if (at_ + 1 < source_.size() && (source_[at_] == 'e' || source_[at_] == 'E')) {
      const size_t sign = source_[at_ + 1] == '+' || source_[at_ + 1] == '-' ? 1 : 0;
      if (at_ + 1 + sign < source_.size() && is_digit(source_[at_ + 1 + sign])) {
        is_float = true;
        at_ += 1 + sign;
        digits();
      }
    }
    std::string text;
    for (const char c : source_.substr(start, at_ - start)) {
      if (c != '_') text.push_back(c);
    }
    add_at(is_float ? Kind::number : Kind::integer, text, start);
  }

  // A hexadecimal number of `digits` digits behind an escape.
  void code_point(size_t digits, std::string& text) {
    uint32_t code = 0;
    for (size_t i = 0; i < digits; ++i, ++at_) {
      const char c = at_ < source_.size() ? source_[at_] : ' ';
      const int value = is_digit(c)            ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (value < 0) fail("a broken escape", "hexadecimal digits");
      code = code << 4 | static_cast<uint32_t>(value);
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) fail("no character of that number");
    append_utf8(code, text);
  }

  void string(char quote) {
    const size_t start = at_++;
    std::string text;
    for (;;) {
      if (at_ >= source_.size()) {
        at_ = start;
        fail("a string without its end");
      }
      const char c = source_[at_++];
      if (c == quote) break;
      c == '\\' && at_ < source_.size() ? escape(text) : text.push_back(c);
    }
    add_at(Kind::string, text, start);
  }

  void escape(std::string& text) {
    constexpr std::string_view kFrom = "ntrabfv0\\'\"";
    constexpr std::string_view kTo("\n\t\r\a\b\f\v\0\\'\"", 11);
    const char c = source_[at_++];
    if (c == '\n') return;
    if (c == 'x') return code_point(2, text);
    if (c == 'u') return code_point(4, text);
    if (c == 'U') return code_point(8, text);
    if (const size_t found = kFrom.find(c); found != kFrom.npos) return text.push_back(kTo[found]);
    text.push_back('\\');  // Python keeps escapes it does not know
    text.push_back(c);
  }

  std::string source_;
  const std::string& name_;
  size_t at_ = 0;
  std::vector<Token> tokens_;
  size_t counted_ = 0;
  Place place_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source, const std::string& name) {
  if (!is_utf8(source)) fail_at(name, {}, "bytes that are not UTF-8");
  return Lexer(source, name).run();
}

void fail_at(const std::string& name, Place place, const std::string& found,
             const std::string& expected) {
  throw Error({.kind = ErrorKind::data,
               .doing = name,
               .subject = fmt::format("line {}, column {}", place.line, place.column),
               .expected = expected,
               .found = found});
}

}  // namespace cairn::jinja
