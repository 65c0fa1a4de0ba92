// What running a template may cost, and how it fails. Hostile templates end in an Error.
#pragma once

#include <string>
#include <vector>

#include "cairn/text/jinja/lexer.h"
#include "cairn/text/jinja/value.h"

namespace cairn::jinja {

struct Limits {
  size_t steps = 3'000'000;           // expressions, statements, items looked at
  size_t output = size_t{64} << 20;   // bytes rendered
  size_t memory = size_t{512} << 20;  // bytes made in all, freed or not
  int depth = 400;                    // of calls, statements and expressions inside each other
};

// One a rendering.
class Context {
 public:
  Context(const std::string& name, Limits limits) : name_(name), limits_(limits) {}

  const Limits& limits() const { return limits_; }

  // Counts work. Throws Error (data) above the limits.
  void step(size_t count = 1) {
    steps_ += count;
    if (steps_ > limits_.steps) fail("more work than a template may do", "fewer steps");
  }
  void spend(size_t bytes) {
    memory_ += bytes;
    if (memory_ > limits_.memory) fail("more memory than a template may take", "smaller values");
  }
  // A value that was made, paid for and measured.
  Value made(Text text) {
    spend(text.bytes.size() + sizeof(Text));
    return Value(std::move(text));
  }
  Value made(List list);
  Value made(Dict dict);
  // A value's text, paid for.
  Text text_of(const Value& value) {
    step(weight_of(value));
    Text text = to_text(value);
    spend(text.bytes.size());
    return text;
  }

  // Throws Error (data) with the place that is being evaluated.
  [[noreturn]] void fail(const std::string& found, const std::string& expected = "") const {
    fail_at(name_, place, found, expected);
  }

  // A namespace, which may hold itself: emptied when the rendering ends, so that nothing leaks.
  void keep(Value name_space) { kept_.push_back(std::move(name_space)); }
  ~Context() {
    for (const Value& value : kept_) value.dict().items.clear();
  }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  Place place;  // what is being evaluated

 private:
  const std::string& name_;
  Limits limits_;
  size_t steps_ = 0;
  size_t memory_ = 0;
  std::vector<Value> kept_;
};

// The items of a value that can be walked: of a list, the keys of a dict, the characters of a text;
// nothing for undefined. Fails for others.
List items_of(Context& context, const Value& value);

// The argument at `position` or of that name; null when not given.
const Value* argument(const Arguments& arguments, size_t position, std::string_view name);

// Arguments as types, or a failure that names the function.
const Text& text_argument(Context& context, const Value& value, const char* function);
int64_t integer_argument(Context& context, const Value& value, const char* function);

// value.name and value[key], as Jinja finds them; Undefined when there is none.
Value attribute_of(Context& context, const Value& value, const std::string& name);
Value item_of(Context& context, const Value& value, const Value& key);
// value[start:stop:step]; none where a bound is absent.
Value slice_of(Context& context, const Value& value, const Value& start, const Value& stop,
               const Value& step);

// A method of a text, list or dict, bound to it, to be called at once; none when there is no such
// method. (As a value, attribute_of gives a function that cannot be called: values hold no others.)
Value method_of(Context& context, const Value& value, const std::string& name);

// Operators: + - * / // % ** ~ and comparisons (== != < <= > >= in, not in).
Value binary(Context& context, const std::string& op, const Value& left, const Value& right);
bool compare(Context& context, const std::string& op, const Value& left, const Value& right);

// Filters and tests by name (parser.h says which there are).
Value apply_filter(Context& context, const std::string& name, const Value& value,
                   Arguments& arguments);
bool apply_test(Context& context, const std::string& name, const Value& value,
                Arguments& arguments);

// json.dumps(value, ensure_ascii=False, indent=indent), indent below 0: on one line.
Text to_json(Context& context, const Value& value, int indent, bool sort_keys,
             const std::string& item_separator, const std::string& key_separator);
// Parses JSON, keeping the order of keys; texts are from users when `from_user`, but for the usual
// names of a "role". Throws Error (data) for what is not JSON.
Value from_json(std::string_view text, const std::string& source, bool from_user);

}  // namespace cairn::jinja
