#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/io/json.h"
#include "cairn/text/char_classes.h"
#include "cairn/text/jinja/context.h"

namespace cairn::jinja {
namespace {

void append_json_text(const Text& text, Text& out) {
  out.append("\"");
  for (size_t at = 0; at < text.bytes.size();) {
    const auto byte = static_cast<unsigned char>(text.bytes[at]);
    const bool plain = byte >= 0x20 && byte != '"' && byte != '\\';
    if (plain) {  // a run at once
      size_t end = at + 1;
      const auto is_plain = [](char c) {
        return static_cast<unsigned char>(c) >= 0x20 && c != '"' && c != '\\';
      };
      while (end < text.bytes.size() && is_plain(text.bytes[end])) ++end;
      out.append_part(text, at, end);
      at = end;
      continue;
    }
    constexpr std::string_view kFrom = "\"\\\n\r\t\f\b";
    constexpr std::string_view kTo = "\"\\nrtfb";
    const size_t known = kFrom.find(static_cast<char>(byte));
    out.append(
        known != kFrom.npos ? std::string("\\") + kTo[known] : fmt::format("\\u{:04x}", byte),
        text.from_user(at));
    ++at;
  }
  out.append("\"");
}

class Writer {
 public:
  Writer(Context& context, int indent, bool sort, const std::string& item, const std::string& key)
      : context_(context), indent_(indent), sort_(sort), item_(item), key_(key) {}

  void write(const Value& value, Text& out) {
    if (value.is_text()) return append_json_text(value.text(), out);
    if (value.is_none()) return out.append("null");
    if (value.is_bool()) return out.append(value.truth() ? "true" : "false");
    if (value.is_integer()) return out.append(std::to_string(value.integer()));
    if (value.is_float()) return out.append(float_json(value.number()));
    if (value.is_list()) return write_list(value.list(), out);
    if (value.is_dict() && !value.dict().is_namespace) return write_dict(value.dict(), out);
    if (value.is_undefined()) context_.fail(in_quotes(value.undefined_name()) + " is undefined");
    context_.fail(std::string("JSON of a ") + value.type_name(), "data");
  }

 private:
  static std::string float_json(double value) {
    if (value != value) return "NaN";
    if (value - value != 0) return value < 0 ? "-Infinity" : "Infinity";
    return float_text(value);
  }

  void line(Text& out) {
    if (indent_ < 0) return;
    context_.spend(static_cast<size_t>(level_ * indent_) + 1);
    out.append("\n");
    out.append(std::string(static_cast<size_t>(level_ * indent_), ' '));
  }

  template <class Items, class One>
  void write_all(const Items& items, const char* open, const char* close, Text& out, One&& one) {
    out.append(open);
    ++level_;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out.append(item_);
      line(out);
      one(items[i]);
    }
    --level_;
    if (!items.empty()) line(out);
    out.append(close);
  }

  void write_list(const List& list, Text& out) {
    write_all(list.items, "[", "]", out, [&](const Value& item) { write(item, out); });
  }

  void write_dict(const Dict& dict, Text& out) {
    std::vector<Member> members = dict.items;
    if (sort_) {
      std::stable_sort(members.begin(), members.end(), [](const Member& a, const Member& b) {
        bool comparable = true;
        return less(a.first, b.first, comparable);
      });
    }
    write_all(members, "{", "}", out, [&](const Member& member) {
      if (member.first.is_text()) {
        append_json_text(member.first.text(), out);
      } else {
        out.append("\"");
        write(member.first, out);
        out.append("\"");
      }
      out.append(key_);
      write(member.second, out);
    });
  }

  Context& context_;
  int indent_;
  bool sort_;
  const std::string& item_;
  const std::string& key_;
  int level_ = 0;
};

// Templates build control tokens from roles ('<|' + role + '|>'), so these few are not a user's
// text.
bool is_role(std::string_view text) {
  constexpr std::string_view kRoles[] = {"system", "user",     "assistant", "tool",     "developer",
                                         "model",  "function", "ipython",   "documents"};
  return std::find(std::begin(kRoles), std::end(kRoles), text) != std::end(kRoles);
}

// Builds values from the parser's events; the order of keys stays.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  Builder(const std::string& source, size_t bytes, bool from_user)
      : source_(source), from_user_(from_user), context_(source_, limits(bytes)) {}

  Value take() { return std::move(root_); }

  bool null() override { return put(Value()); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(int64_t{value}); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<uint64_t>(INT64_MAX)) return put(static_cast<double>(value));
    return put(static_cast<int64_t>(value));
  }
  bool number_float(number_float_t value, const string_t&) override { return put(value); }
  bool string(string_t& value) override {
    const bool role = !stack_.empty() && stack_.back().dict &&
                      equal(stack_.back().key, Value("role")) && is_role(value);
    return put(context_.made(Text(std::move(value), from_user_ && !role)));
  }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open({.dict = true}); }
  bool start_array(std::size_t) override { return open({.dict = false}); }
  bool key(string_t& name) override {
    stack_.back().key = Value(Text(std::move(name), from_user_));
    return true;
  }
  bool end_object() override {
    Dict dict{.items = std::move(stack_.back().members)};
    std::vector<std::string_view> keys;
    for (const Member& member : dict.items) keys.push_back(member.first.text().bytes);
    std::sort(keys.begin(), keys.end());
    if (std::adjacent_find(keys.begin(), keys.end()) != keys.end()) {
      fail("each key once in an object", "a key again");
    }
    stack_.pop_back();
    return put(context_.made(std::move(dict)));
  }
  bool end_array() override {
    List list{.items = std::move(stack_.back().items)};
    stack_.pop_back();
    return put(context_.made(std::move(list)));
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    fail("valid JSON", "something else before byte " + std::to_string(position));
  }

 private:
  struct Open {
    bool dict;
    std::vector<Value> items = {};
    std::vector<Member> members = {};
    Value key = {};
  };

  static Limits limits(size_t bytes) {
    Limits limits;
    limits.memory = 64 * bytes + (size_t{1} << 20);
    return limits;
  }
  [[noreturn]] void fail(const std::string& expected, const std::string& found) const {
    throw Error({.kind = ErrorKind::data,
                 .doing = "reading " + source_,
                 .expected = expected,
                 .found = found});
  }
  bool open(Open open) {
    if (stack_.size() >= kMaxJsonDepth) fail("nesting of at most 128", "deeper nesting");
    stack_.push_back(std::move(open));
    return true;
  }
  bool put(Value value) {
    if (stack_.empty()) {
      root_ = std::move(value);
    } else if (stack_.back().dict) {
      stack_.back().members.emplace_back(std::move(stack_.back().key), std::move(value));
    } else {
      stack_.back().items.push_back(std::move(value));
    }
    return true;
  }

  std::string source_;
  bool from_user_;
  Context context_;
  Value root_;
  std::vector<Open> stack_;
};

}  // namespace

Text to_json(Context& context, const Value& value, int indent, bool sort_keys,
             const std::string& item_separator, const std::string& key_separator) {
  context.step(weight_of(value));
  Text out;
  Writer(context, indent, sort_keys, item_separator, key_separator).write(value, out);
  return out;
}

Value from_json(std::string_view text, const std::string& source, bool from_user) {
  if (text.find('\0') != text.npos) {
    throw Error({.kind = ErrorKind::data, .doing = "reading " + source, .found = "a NUL byte"});
  }
  Builder builder(source, text.size(), from_user);
  nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

}  // namespace cairn::jinja
