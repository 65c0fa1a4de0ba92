#include <unordered_map>

#include "cairn/io/json.h"
#include "cairn/text/jinja/parser.h"
#include "cairn/text/jinja/text_functions.h"

namespace cairn::jinja {
namespace {

using Test = bool (*)(Context&, const Value&, const Value&);

template <const char* const& kOp>
bool comparison(Context& context, const Value& value, const Value& other) {
  return compare(context, kOp, value, other);
}
const char* const kEqual = "==";
const char* const kUnequal = "!=";
const char* const kLess = "<";
const char* const kAtMost = "<=";
const char* const kMore = ">";
const char* const kAtLeast = ">=";
const char* const kIn = "in";

int64_t remainder(Context& context, const Value& value, const Value& by) {
  return integer_argument(context, binary(context, "%", value, by), "a test");
}

bool is_sequence(const Value& value) {
  return value.is_text() || value.is_list() || (value.is_dict() && !value.dict().is_namespace);
}

// Tests and how many arguments each takes.
struct Entry {
  Test test;
  size_t arguments;
};

const std::unordered_map<std::string_view, Entry>& tests() {
  using C = Context;
  using V = Value;
  static const std::unordered_map<std::string_view, Entry> all = {
      {"defined", {[](C&, const V& v, const V&) { return !v.is_undefined(); }, 0}},
      {"undefined", {[](C&, const V& v, const V&) { return v.is_undefined(); }, 0}},
      {"none", {[](C&, const V& v, const V&) { return v.is_none(); }, 0}},
      {"boolean", {[](C&, const V& v, const V&) { return v.is_bool(); }, 0}},
      {"true", {[](C&, const V& v, const V&) { return v.is_bool() && v.truth(); }, 0}},
      {"false", {[](C&, const V& v, const V&) { return v.is_bool() && !v.truth(); }, 0}},
      {"integer", {[](C&, const V& v, const V&) { return v.is_integer(); }, 0}},
      {"float", {[](C&, const V& v, const V&) { return v.is_float(); }, 0}},
      {"number", {[](C&, const V& v, const V&) { return v.is_number(); }, 0}},
      {"string", {[](C&, const V& v, const V&) { return v.is_text(); }, 0}},
      {"mapping",
       {[](C&, const V& v, const V&) { return v.is_dict() && !v.dict().is_namespace; }, 0}},
      {"iterable",
       {[](C&, const V& v, const V&) { return is_sequence(v) || v.is_undefined(); }, 0}},
      {"sequence",
       {[](C&, const V& v, const V&) { return is_sequence(v) || v.is_undefined(); }, 0}},
      {"callable", {[](C&, const V& v, const V&) { return v.is_function(); }, 0}},
      {"odd", {[](C& c, const V& v, const V&) { return remainder(c, v, 2) == 1; }, 0}},
      {"even", {[](C& c, const V& v, const V&) { return remainder(c, v, 2) == 0; }, 0}},
      {"divisibleby", {[](C& c, const V& v, const V& by) { return remainder(c, v, by) == 0; }, 1}},
      {"lower",
       {[](C& c, const V& v, const V&) {
          const Text text = c.text_of(v);
          return lower(text).bytes == text.bytes && upper(text).bytes != text.bytes;
        },
        0}},
      {"upper",
       {[](C& c, const V& v, const V&) {
          const Text text = c.text_of(v);
          return upper(text).bytes == text.bytes && lower(text).bytes != text.bytes;
        },
        0}},
      {"sameas",
       {[](C& c, const V& v, const V& other) {
          const bool scalar = !v.is_list() && !v.is_dict() && !v.is_text();
          return scalar ? std::string_view(v.type_name()) == other.type_name() &&
                              compare(c, "==", v, other)
                        : v.same_object(other);
        },
        1}},
      {"filter", {[](C& c, const V& v, const V&) { return is_filter(c.text_of(v).bytes); }, 0}},
      {"test", {[](C& c, const V& v, const V&) { return is_test(c.text_of(v).bytes); }, 0}},
      {"eq", {comparison<kEqual>, 1}},
      {"equalto", {comparison<kEqual>, 1}},
      {"ne", {comparison<kUnequal>, 1}},
      {"lt", {comparison<kLess>, 1}},
      {"lessthan", {comparison<kLess>, 1}},
      {"le", {comparison<kAtMost>, 1}},
      {"gt", {comparison<kMore>, 1}},
      {"greaterthan", {comparison<kMore>, 1}},
      {"ge", {comparison<kAtLeast>, 1}},
      {"in", {comparison<kIn>, 1}},
      {"==", {comparison<kEqual>, 1}},
      {"!=", {comparison<kUnequal>, 1}},
      {"<", {comparison<kLess>, 1}},
      {"<=", {comparison<kAtMost>, 1}},
      {">", {comparison<kMore>, 1}},
      {">=", {comparison<kAtLeast>, 1}}};
  return all;
}

}  // namespace

bool is_test(std::string_view name) {
  return tests().count(name) > 0;
}

bool apply_test(Context& context, const std::string& name, const Value& value,
                Arguments& arguments) {
  context.step();
  const auto found = tests().find(name);
  if (found == tests().end()) context.fail("test " + in_quotes(name), "a test that exists");
  const Entry& entry = found->second;
  if (arguments.values.size() != entry.arguments) {
    context.fail(std::to_string(arguments.values.size()) + " arguments for the test " + name,
                 std::to_string(entry.arguments));
  }
  return entry.test(context, value, entry.arguments > 0 ? arguments.values[0] : Value());
}

}  // namespace cairn::jinja
