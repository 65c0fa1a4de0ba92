// The values of chat templates: those of Python that Jinja shows to a template. Text remembers
// which of its bytes users wrote, through every operation, so that control tokens in them can never
// become special (chat_template.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "cairn/text/added_tokens.h"

namespace cairn::jinja {

// Bytes (UTF-8) and the ranges of them that come from users, sorted and apart.
struct Text {
  std::string bytes;
  std::vector<TextRange> user;

  Text() = default;
  explicit Text(std::string text, bool from_user = false);

  void append(const Text& other);
  void append(std::string_view plain, bool from_user = false);
  // Bytes [begin, end) of another text.
  void append_part(const Text& other, size_t begin, size_t end);
  Text part(size_t begin, size_t end) const;
  // Whether a user wrote the byte at `at`.
  bool from_user(size_t at) const;
  bool any_user() const { return !user.empty(); }
};

class Value;
// Lists and dicts do not change once a template can see them, so none holds itself. Namespaces may.
struct List {
  std::vector<Value> items;
  bool tuple = false;
  size_t weight = 1;  // work of walking through it and all below, and
  int depth = 1;      // how deep that is: set by Context::made
};
using Member = std::pair<Value, Value>;
// Keeps the order in which keys came. Keys are text, numbers, booleans or none.
struct Dict {
  std::vector<Member> items;
  bool is_namespace = false;  // or a loop: prints and compares as itself
  bool settable = false;      // a template may set its attributes
  size_t weight = 1;
  int depth = 1;

  const Value* find(const Value& key) const;
  const Value* find_name(std::string_view name) const;
  void set(Value key, Value value);
};

struct Arguments {
  std::vector<Value> values;
  std::vector<std::pair<std::string, Value>> named;
};
using Function = std::function<Value(Arguments&)>;

struct Undefined {
  std::string name;  // what was looked for
};
struct None {};

class Value {
 public:
  Value() : data_(None{}) {}
  Value(Undefined undefined) : data_(std::move(undefined)) {}
  Value(bool value) : data_(value) {}
  Value(int64_t value) : data_(value) {}
  Value(int value) : data_(int64_t{value}) {}
  Value(size_t value) : data_(static_cast<int64_t>(value)) {}
  Value(double value) : data_(value) {}
  Value(Text text) : data_(std::make_shared<const Text>(std::move(text))) {}
  Value(std::string_view text) : Value(Text(std::string(text))) {}
  Value(const char* text) : Value(std::string_view(text)) {}
  Value(List list) : data_(std::make_shared<List>(std::move(list))) {}
  Value(Dict dict) : data_(std::make_shared<Dict>(std::move(dict))) {}
  Value(Function function) : data_(std::make_shared<const Function>(std::move(function))) {}

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_integer() const { return std::holds_alternative<int64_t>(data_); }
  bool is_float() const { return std::holds_alternative<double>(data_); }
  // Python's numbers: booleans are some.
  bool is_number() const { return is_bool() || is_integer() || is_float(); }
  bool is_text() const { return std::holds_alternative<std::shared_ptr<const Text>>(data_); }
  bool is_list() const { return std::holds_alternative<std::shared_ptr<List>>(data_); }
  bool is_dict() const { return std::holds_alternative<std::shared_ptr<Dict>>(data_); }
  bool is_function() const {
    return std::holds_alternative<std::shared_ptr<const Function>>(data_);
  }

  // Each only for a value of that kind.
  const std::string& undefined_name() const { return std::get<Undefined>(data_).name; }
  const Text& text() const { return *std::get<std::shared_ptr<const Text>>(data_); }
  List& list() const { return *std::get<std::shared_ptr<List>>(data_); }
  Dict& dict() const { return *std::get<std::shared_ptr<Dict>>(data_); }
  const Function& function() const { return *std::get<std::shared_ptr<const Function>>(data_); }
  int64_t integer() const { return is_bool() ? std::get<bool>(data_) : std::get<int64_t>(data_); }
  double number() const {
    return is_float() ? std::get<double>(data_) : static_cast<double>(integer());
  }
  bool same_object(const Value& other) const { return identity() == other.identity(); }

  // Python's bool(value).
  bool truth() const;
  // "str", "int", "list", ...: for messages.
  const char* type_name() const;

 private:
  const void* identity() const;
  std::variant<None, Undefined, bool, int64_t, double, std::shared_ptr<const Text>,
               std::shared_ptr<List>, std::shared_ptr<Dict>, std::shared_ptr<const Function>>
      data_;
};

// Python's ==; numbers of different types compare by value, everything else by type and value.
bool equal(const Value& a, const Value& b);
// Python's <. `comparable` becomes false when Python would raise.
bool less(const Value& a, const Value& b, bool& comparable);

// Appends str(value) and repr(value).
void append_str(const Value& value, Text& out);
void append_repr(const Value& value, Text& out);
Text to_text(const Value& value);

// repr(float): the shortest digits that read back equal, as Python writes them.
std::string float_text(double value);

// Code points of a text: how many, and the byte at which number `index` starts (the end when there
// are fewer).
size_t count_chars(std::string_view text);
size_t char_offset(std::string_view text, size_t index);
// str.isspace() of one code point.
bool is_python_space(uint32_t code_point);

// Work of walking through a value (each 64 bytes of text count one), and how deep it is.
size_t weight_of(const Value& value);
int depth_of(const Value& value);

}  // namespace cairn::jinja
