#include "cairn/text/grammar/gbnf.h"

#include <fmt/core.h>

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/text/char_classes.h"

namespace cairn {
namespace {

constexpr size_t kLargestText = size_t{4} << 20;
constexpr int kDeepest = 100;
constexpr uint32_t kMostRepeats = 100'000;

class Parser {
 public:
  Parser(std::string_view text, const std::string& source) : text_(text), source_(source) {}

  Grammar parse();

 private:
  using Expression = GrammarExpression;

  [[noreturn]] void fail(size_t at, const std::string& expected, std::string found = "") const;
  bool at_end() const { return at_ == text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[at_]; }
  bool take(std::string_view word) {
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }
  void skip_blanks(bool lines);
  std::string read_name();
  uint32_t rule_number(const std::string& name, size_t at);
  Expression read_choice(bool grouped);
  Expression read_sequence(bool grouped);
  bool read_part(bool grouped, Expression& part);
  Expression read_literal();
  Expression read_class();
  void read_repeats(Expression& part);
  void read_bounds(uint32_t& least, uint32_t& most);
  uint32_t read_count();
  uint32_t read_character();
  uint32_t read_escape();

  std::string_view text_;
  const std::string& source_;
  size_t at_ = 0;
  int depth_ = 0;
  Grammar grammar_;
  std::unordered_map<std::string, uint32_t> numbers_;
  std::vector<bool> defined_;
  std::vector<size_t> first_use_;
};

void Parser::fail(size_t at, const std::string& expected, std::string found) const {
  const std::string_view before = text_.substr(0, std::min(at, text_.size()));
  const size_t line = static_cast<size_t>(std::count(before.begin(), before.end(), '\n')) + 1;
  const size_t column = before.size() - (before.rfind('\n') + 1) + 1;
  if (found.empty()) {
    if (at >= text_.size()) {
      found = "the end";
    } else {
      size_t end = at;
      while (end < text_.size() && end < at + 20 && text_[end] >= ' ' && text_[end] < 127) ++end;
      found = end > at ? fmt::format("\"{}\"", text_.substr(at, end - at))
                       : fmt::format("byte 0x{:02X}", static_cast<uint8_t>(text_[at]));
    }
  }
  throw Error({.kind = ErrorKind::data,
               .doing = "reading the grammar " + source_,
               .subject = fmt::format("line {}, column {}", line, column),
               .expected = expected,
               .found = std::move(found)});
}

Grammar Parser::parse() {
  if (text_.size() > kLargestText) fail(0, "at most 4 MiB", std::to_string(text_.size()));
  skip_blanks(true);
  while (!at_end()) {
    const size_t at = at_;
    const std::string name = read_name();
    const uint32_t number = rule_number(name, at);
    if (defined_[number]) fail(at, "each rule once", "\"" + name + "\" a second time");
    defined_[number] = true;
    skip_blanks(false);
    if (!take("::=")) fail(at_, "::=");
    skip_blanks(true);
    grammar_.rules[number].body = read_choice(false);
    if (!at_end() && peek() != '\n' && peek() != '\r') fail(at_, "the end of the rule");
    skip_blanks(true);
  }
  for (size_t i = 0; i < defined_.size(); ++i)
    if (!defined_[i])
      fail(first_use_[i], "a rule that is defined", "\"" + grammar_.rules[i].name + "\"");
  const auto root = numbers_.find("root");
  if (root == numbers_.end()) fail(text_.size(), "a rule named root", "none");
  grammar_.root = root->second;
  return std::move(grammar_);
}

void Parser::skip_blanks(bool lines) {
  while (!at_end()) {
    const char c = peek();
    if (c == '#') {
      while (!at_end() && peek() != '\n') ++at_;
    } else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'))) {
      ++at_;
    } else {
      return;
    }
  }
}

bool name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_';
}

std::string Parser::read_name() {
  const size_t begin = at_;
  while (!at_end() && name_character(peek())) ++at_;
  if (at_ == begin) fail(at_, "the name of a rule");
  return std::string(text_.substr(begin, at_ - begin));
}

uint32_t Parser::rule_number(const std::string& name, size_t at) {
  const auto [entry, fresh] = numbers_.emplace(name, static_cast<uint32_t>(grammar_.rules.size()));
  if (fresh) {
    grammar_.rules.push_back({name, {}});
    defined_.push_back(false);
    first_use_.push_back(at);
  }
  return entry->second;
}

GrammarExpression Parser::read_choice(bool grouped) {
  if (++depth_ > kDeepest) fail(at_, fmt::format("at most {} levels of groups", kDeepest));
  std::vector<Expression> parts;
  do {
    skip_blanks(true);
    parts.push_back(read_sequence(grouped));
    skip_blanks(grouped);
  } while (take("|"));
  --depth_;
  return grammar::choice(std::move(parts));
}

GrammarExpression Parser::read_sequence(bool grouped) {
  std::vector<Expression> parts;
  Expression part;
  while (read_part(grouped, part)) {
    read_repeats(part);
    parts.push_back(std::move(part));
    skip_blanks(grouped);
  }
  if (parts.empty()) return grammar::text("");
  return grammar::sequence(std::move(parts));
}

bool Parser::read_part(bool grouped, Expression& part) {
  const char c = peek();
  if (at_end() || c == '|' || c == ')' || (!grouped && (c == '\n' || c == '\r'))) return false;
  if (c == '"') {
    part = read_literal();
  } else if (c == '[') {
    part = read_class();
  } else if (c == '.') {
    ++at_;
    part = grammar::characters({{0, kLastCharacter}});
  } else if (c == '(') {
    ++at_;
    part = read_choice(true);
    if (!take(")")) fail(at_, "\")\"");
  } else if (name_character(c)) {
    const size_t at = at_;
    part = grammar::rule(rule_number(read_name(), at));
  } else {
    fail(at_, "a literal, a class, a group or the name of a rule");
  }
  return true;
}

GrammarExpression Parser::read_literal() {
  const size_t begin = at_++;
  std::string bytes;
  while (peek() != '"' || at_end()) {
    if (at_end()) fail(begin, "a literal that ends");
    append_utf8(read_character(), bytes);
  }
  ++at_;
  return grammar::text(bytes);
}

GrammarExpression Parser::read_class() {
  const size_t begin = at_++;
  const bool negated = take("^");
  std::vector<CharRange> ranges;
  while (peek() != ']' || at_end()) {
    if (at_end()) fail(begin, "a class that ends");
    const size_t at = at_;
    CharRange range;
    range.low = range.high = read_character();
    if (peek() == '-' && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
      ++at_;
      range.high = read_character();
      if (range.high < range.low) fail(at, "a range that does not fall");
    }
    ranges.push_back(range);
  }
  ++at_;
  return negated ? grammar::other_characters(std::move(ranges))
                 : grammar::characters(std::move(ranges));
}

void Parser::read_repeats(Expression& part) {
  constexpr int kMostStacked = 4;  // each one more level of the expression
  for (int stacked = 0;; ++stacked) {
    const size_t at = at_;
    uint32_t least = 0, most = Expression::kUnbounded;
    if (take("+")) {
      least = 1;
    } else if (take("?")) {
      most = 1;
    } else if (take("{")) {
      read_bounds(least, most);
      if (most < least) fail(at, "bounds that do not fall");
    } else if (!take("*")) {
      return;
    }
    if (stacked == kMostStacked) fail(at, fmt::format("at most {} of * + ? {{}}", kMostStacked));
    part = grammar::repeat(std::move(part), least, most);
  }
}

// m} m,} m,n} or ,n}
void Parser::read_bounds(uint32_t& least, uint32_t& most) {
  skip_blanks(false);
  least = peek() == ',' ? 0 : read_count();
  most = least;
  skip_blanks(false);
  if (take(",")) {
    skip_blanks(false);
    most = peek() == '}' ? Expression::kUnbounded : read_count();
    skip_blanks(false);
  }
  if (!take("}")) fail(at_, "\"}\"");
}

uint32_t Parser::read_count() {
  const size_t at = at_;
  uint32_t count = 0;
  while (peek() >= '0' && peek() <= '9') {
    count = count * 10 + static_cast<uint32_t>(text_[at_++] - '0');
    if (count > kMostRepeats) fail(at, fmt::format("at most {}", kMostRepeats));
  }
  if (at_ == at) fail(at, "a number");
  return count;
}

uint32_t Parser::read_character() {
  if (take("\\")) return read_escape();
  const size_t at = at_;
  const int64_t code = next_utf8(text_, at_);
  if (code < 0) fail(at, "UTF-8");
  return static_cast<uint32_t>(code);
}

uint32_t Parser::read_escape() {
  constexpr std::pair<char, char> kPlain[] = {{'n', '\n'},  {'r', '\r'}, {'t', '\t'},
                                              {'\\', '\\'}, {'"', '"'},  {'[', '['},
                                              {']', ']'},   {'-', '-'},  {'^', '^'}};
  const size_t at = at_;
  if (at_end()) fail(at, "an escape");
  const char c = text_[at_++];
  for (const auto& [letter, meaning] : kPlain)
    if (c == letter) return static_cast<uint32_t>(meaning);
  const int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
  if (digits == 0) fail(at - 1, "one of \\n \\r \\t \\\\ \\\" \\[ \\] \\- \\^ \\x \\u \\U");
  uint32_t code = 0;
  for (int i = 0; i < digits; ++i) {
    const char d = peek();
    const int value = d >= '0' && d <= '9'   ? d - '0'
                      : d >= 'a' && d <= 'f' ? d - 'a' + 10
                      : d >= 'A' && d <= 'F' ? d - 'A' + 10
                                             : -1;
    if (value < 0) fail(at_, fmt::format("{} hexadecimal digits", digits));
    if (code > kLastCharacter) fail(at, "a character up to U+10FFFF");
    code = code * 16 + static_cast<uint32_t>(value);
    ++at_;
  }
  if (code > kLastCharacter || (code >= 0xD800 && code < 0xE000))
    fail(at, "a character up to U+10FFFF, no surrogate");
  return code;
}

}  // namespace

Grammar parse_gbnf(std::string_view text, const std::string& source) {
  return Parser(text, source).parse();
}

}  // namespace cairn
