#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "cairn/io/json.h"
#include "cairn/text/char_classes.h"
#include "cairn/text/jinja/text_functions.h"

namespace cairn::jinja {
namespace {

constexpr int kDeepestValue = 100;

[[noreturn]] void unsupported(Context& context, const std::string& op, const Value& left,
                              const Value& right) {
  for (const Value* value : {&left, &right}) {
    if (value->is_undefined()) context.fail(in_quotes(value->undefined_name()) + " is undefined");
  }
  context.fail(fmt::format("{} {} {}", left.type_name(), op, right.type_name()),
               "types that " + op + " works on");
}

Value repeated(Context& context, const Value& value, int64_t times) {
  const size_t count = times > 0 ? static_cast<size_t>(times) : 0;
  const size_t size =
      value.is_text() ? value.text().bytes.size() : value.list().items.size() * sizeof(Value);
  if (size > 0 && count > context.limits().memory / size) {
    context.spend(context.limits().memory + 1);
  }
  context.spend(size * count);
  if (value.is_text()) {
    Text result;
    for (size_t i = 0; i < count && size > 0; ++i) result.append(value.text());
    return Value(std::move(result));
  }
  List result{.items = {}, .tuple = value.list().tuple};
  for (size_t i = 0; i < count && size > 0; ++i) {
    result.items.insert(result.items.end(), value.list().items.begin(), value.list().items.end());
  }
  return context.made(std::move(result));
}

int64_t floor_divide(int64_t a, int64_t b) {
  return a / b - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0);
}

Value power(Context& context, int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) context.fail("0 to a negative power");
    return std::pow(static_cast<double>(base), static_cast<double>(exponent));
  }
  int64_t result = 1;
  bool overflow = false;
  for (; exponent > 0 && !overflow; exponent /= 2) {
    if (exponent % 2 == 1) overflow = __builtin_mul_overflow(result, base, &result);
    if (exponent > 1) overflow |= __builtin_mul_overflow(base, base, &base);
  }
  if (overflow) context.fail("an integer beyond 64 bits", "smaller numbers");
  return result;
}

Value integer_binary(Context& context, const std::string& op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else if (op == "**") {
    return power(context, a, b);
  } else {
    if (b == 0) context.fail("division by zero");
    if (op == "/") return static_cast<double>(a) / static_cast<double>(b);
    if (a == INT64_MIN && b == -1) context.fail("an integer beyond 64 bits", "smaller numbers");
    const int64_t quotient = floor_divide(a, b);
    result = op == "//" ? quotient : a - quotient * b;
  }
  if (overflow) context.fail("an integer beyond 64 bits", "smaller numbers");
  return result;
}

Value float_binary(Context& context, const std::string& op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (op == "**") return std::pow(a, b);
  if (b == 0) context.fail("division by zero");
  if (op == "/") return a / b;
  if (op == "//") return std::floor(a / b);
  double remainder = std::fmod(a, b);
  if (remainder != 0 && (remainder < 0) != (b < 0)) remainder += b;
  return remainder;
}

Value joined(Context& context, const Value& left, const Value& right) {
  Text text = context.text_of(left);
  text.append(context.text_of(right));
  return context.made(std::move(text));
}

Value concatenated(Context& context, const List& left, const List& right) {
  List result = left;
  result.items.insert(result.items.end(), right.items.begin(), right.items.end());
  return context.made(std::move(result));
}

bool contains(Context& context, const Value& container, const Value& item) {
  if (container.is_text()) {
    if (!item.is_text()) unsupported(context, "in", item, container);
    return container.text().bytes.find(item.text().bytes) != std::string::npos;
  }
  if (container.is_list()) {
    const auto& items = container.list().items;
    context.step(container.list().weight);
    return std::any_of(items.begin(), items.end(),
                       [&](const Value& other) { return equal(other, item); });
  }
  if (container.is_dict()) {
    context.step(container.dict().items.size());
    return container.dict().find(item) != nullptr;
  }
  if (container.is_undefined()) return false;
  unsupported(context, "in", item, container);
}

}  // namespace

Value binary(Context& context, const std::string& op, const Value& left, const Value& right) {
  context.step();
  if (op == "~") return joined(context, left, right);
  if (left.is_number() && right.is_number()) {
    if (!left.is_float() && !right.is_float()) {
      return integer_binary(context, op, left.integer(), right.integer());
    }
    return float_binary(context, op, left.number(), right.number());
  }
  const auto sequence = [](const Value& value) { return value.is_text() || value.is_list(); };
  if (op == "+" && left.is_text() && right.is_text()) return joined(context, left, right);
  if (op == "+" && left.is_list() && right.is_list() && left.list().tuple == right.list().tuple) {
    return concatenated(context, left.list(), right.list());
  }
  if (op == "*" && sequence(left) && right.is_number() && !right.is_float()) {
    return repeated(context, left, right.integer());
  }
  if (op == "*" && sequence(right) && left.is_number() && !left.is_float()) {
    return repeated(context, right, left.integer());
  }
  if (op == "%" && left.is_text()) return printf_text(context, left.text(), right);
  unsupported(context, op, left, right);
}

bool compare(Context& context, const std::string& op, const Value& left, const Value& right) {
  context.step();
  if (op == "in") return contains(context, right, left);
  if (op == "not in") return !contains(context, right, left);
  context.step(std::min(weight_of(left), weight_of(right)));
  if (left.is_dict() && right.is_dict()) {  // each key is looked for
    context.step(weight_of(left) * (right.dict().items.size() / 16));
  }
  if (op == "==") return equal(left, right);
  if (op == "!=") return !equal(left, right);
  bool comparable = true;
  const bool swapped = op == ">" || op == "<=";
  const bool smaller = swapped ? less(right, left, comparable) : less(left, right, comparable);
  if (!comparable) unsupported(context, op, left, right);
  const bool numbers = left.is_number() && right.is_number();
  if (numbers && (std::isnan(left.number()) || std::isnan(right.number()))) return false;
  return op == "<" || op == ">" ? smaller : !smaller;
}

Value Context::made(List list) {
  spend(list.items.size() * sizeof(Value) + sizeof(List));
  for (const Value& item : list.items) {
    list.weight = std::min(list.weight + weight_of(item), SIZE_MAX / 4);
    list.depth = std::max(list.depth, depth_of(item) + 1);
  }
  if (list.depth > kDeepestValue) fail("deeper nesting", "values of at most 100 levels");
  return Value(std::move(list));
}

Value Context::made(Dict dict) {
  spend(dict.items.size() * sizeof(Member) + sizeof(Dict));
  for (const auto& [key, value] : dict.items) {
    if (key.is_list() || key.is_dict())
      fail(std::string(key.type_name()) + " as a key", "a scalar");
    dict.weight = std::min(dict.weight + weight_of(key) + weight_of(value), SIZE_MAX / 4);
    dict.depth = std::max(dict.depth, depth_of(value) + 1);
  }
  if (dict.depth > kDeepestValue) fail("deeper nesting", "values of at most 100 levels");
  return Value(std::move(dict));
}

List items_of(Context& context, const Value& value) {
  List result;
  if (value.is_list()) {
    result.items = value.list().items;
  } else if (value.is_dict() && !value.dict().is_namespace) {
    for (const Member& member : value.dict().items) result.items.push_back(member.first);
  } else if (value.is_text()) {
    const Text& text = value.text();
    for (size_t at = 0; at < text.bytes.size();) {
      const size_t end =
          at + decode_char(text.bytes.data() + at, text.bytes.data() + text.bytes.size()).length;
      result.items.push_back(text.part(at, end));
      at = end;
    }
    context.spend(result.items.size() * sizeof(Text));
  } else if (!value.is_undefined()) {
    context.fail(std::string("a value of type ") + value.type_name(), "something to walk through");
  }
  context.spend(result.items.size() * sizeof(Value));
  context.step(result.items.size() / 8);
  return result;
}

Value attribute_of(Context& context, const Value& value, const std::string& name) {
  if (value.is_undefined()) context.fail(in_quotes(value.undefined_name()) + " is undefined");
  if (value.is_dict() && value.dict().is_namespace) {
    const Value* const found = value.dict().find_name(name);
    return found != nullptr ? *found : Value(Undefined{name});
  }
  if (!method_of(context, value, name).is_none()) {
    return Function([](Arguments&) { return Value(); });
  }
  if (value.is_dict()) {
    if (const Value* const found = value.dict().find_name(name)) return *found;
  }
  return Undefined{name};
}

Value item_of(Context& context, const Value& value, const Value& key) {
  if (value.is_undefined()) context.fail(in_quotes(value.undefined_name()) + " is undefined");
  if (value.is_dict()) {
    context.step(value.dict().items.size() / 16);
    if (const Value* const found = value.dict().find(key)) return *found;
  }
  if (key.is_number() && !key.is_float() && (value.is_list() || value.is_text())) {
    const auto size = static_cast<int64_t>(value.is_list() ? value.list().items.size()
                                                           : count_chars(value.text().bytes));
    int64_t index = key.integer();
    if (index < 0) index += size;
    if (index < 0 || index >= size) return Undefined{std::to_string(key.integer())};
    if (value.is_list()) return value.list().items[static_cast<size_t>(index)];
    const Text& text = value.text();
    const size_t from = char_offset(text.bytes, static_cast<size_t>(index));
    context.step(from / 64);
    return text.part(from, from + char_offset(std::string_view(text.bytes).substr(from), 1));
  }
  if (key.is_text()) return attribute_of(context, value, key.text().bytes);
  return Undefined{to_text(key).bytes};
}

Value slice_of(Context& context, const Value& value, const Value& start, const Value& stop,
               const Value& step) {
  if (value.is_undefined()) context.fail(in_quotes(value.undefined_name()) + " is undefined");
  if (!value.is_list() && !value.is_text()) return Undefined{"slice"};
  const List items = items_of(context, value);
  const auto size = static_cast<int64_t>(items.items.size());
  const int64_t by = step.is_none() ? 1 : integer_argument(context, step, "a slice");
  if (by == 0) context.fail("a slice with a step of 0");
  const auto bound = [&](const Value& given, int64_t otherwise) {
    if (given.is_none()) return otherwise;
    int64_t at = integer_argument(context, given, "a slice");
    if (at < 0) at = std::max<int64_t>(at + size, -1);
    if (given.integer() < 0 && at < 0) return by > 0 ? int64_t{0} : int64_t{-1};
    return std::min(at, by > 0 ? size : size - 1);
  };
  const int64_t from = bound(start, by > 0 ? 0 : size - 1);
  const int64_t to = bound(stop, by > 0 ? size : -1);
  List chosen{.items = {}, .tuple = value.is_list() && value.list().tuple};
  for (int64_t at = from; by > 0 ? at < to : at > to;) {
    chosen.items.push_back(items.items[static_cast<size_t>(at)]);
    if (__builtin_add_overflow(at, by, &at)) break;
  }
  if (value.is_list()) return context.made(std::move(chosen));
  Text text;
  for (const Value& character : chosen.items) text.append(character.text());
  return context.made(std::move(text));
}

const Value* argument(const Arguments& arguments, size_t position, std::string_view name) {
  if (position < arguments.values.size()) return &arguments.values[position];
  for (const auto& [given, value] : arguments.named) {
    if (given == name) return &value;
  }
  return nullptr;
}

const Text& text_argument(Context& context, const Value& value, const char* function) {
  if (!value.is_text()) {
    context.fail(fmt::format("{} given to {}", value.type_name(), function), "text");
  }
  return value.text();
}

int64_t integer_argument(Context& context, const Value& value, const char* function) {
  if (!value.is_number() || value.is_float()) {
    context.fail(fmt::format("{} given to {}", value.type_name(), function), "an integer");
  }
  return value.integer();
}

}  // namespace cairn::jinja
