#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <unordered_map>

#include "cairn/io/json.h"
#include "cairn/text/char_classes.h"
#include "cairn/text/jinja/parser.h"
#include "cairn/text/jinja/text_functions.h"

namespace cairn::jinja {
namespace {

using Filter = Value (*)(Context&, const Value&, Arguments&);

bool flag(const Arguments& arguments, size_t position, std::string_view name, bool otherwise) {
  const Value* const given = argument(arguments, position, name);
  return given == nullptr ? otherwise : given->truth();
}

int64_t number_or(Context& context, const Arguments& arguments, size_t position,
                  std::string_view name, int64_t otherwise) {
  const Value* const given = argument(arguments, position, name);
  return given == nullptr || given->is_none() ? otherwise
                                              : integer_argument(context, *given, name.data());
}

// "a.b.0" looked up part by part.
Value path_of(Context& context, Value value, const Value& path) {
  if (!path.is_text()) return item_of(context, value, path);
  const std::string& text = path.text().bytes;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('.', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    const bool number = !part.empty() && part.size() < 10 &&
                        part.find_first_not_of("0123456789") == std::string::npos;
    value = item_of(
        context, value,
        number ? Value(static_cast<int64_t>(std::stol(part))) : Value(std::string_view(part)));
    begin = end + 1;
  }
  return value;
}

// What sorting and finding compare: the attribute if one is given, without case unless asked.
Value sort_key(Context& context, const Value& item, const Value* attribute, bool with_case) {
  Value key =
      attribute == nullptr || attribute->is_none() ? item : path_of(context, item, *attribute);
  return with_case || !key.is_text() ? key : context.made(lower(key.text()));
}

struct Keyed {
  Value key, item;
};

std::vector<Keyed> keyed(Context& context, const Value& value, const Value* attribute,
                         bool with_case) {
  std::vector<Keyed> result;
  for (const Value& item : items_of(context, value).items) {
    result.push_back({sort_key(context, item, attribute, with_case), item});
  }
  return result;
}

void sort_keyed(Context& context, std::vector<Keyed>& items, bool reverse) {
  size_t weight = 1;
  for (const Keyed& item : items) weight += weight_of(item.key);
  context.step(weight * (1 + items.size() / 64));
  const auto before = [&](const Keyed& a, const Keyed& b) {
    bool comparable = true;
    const bool result = reverse ? less(b.key, a.key, comparable) : less(a.key, b.key, comparable);
    if (!comparable) context.fail("values that cannot be sorted", "all numbers or all texts");
    return result;
  };
  std::stable_sort(items.begin(), items.end(), before);
}

// ---- text ----

template <Text (*kFunction)(const Text&)>
Value text_filter(Context& context, const Value& value, Arguments&) {
  return context.made(kFunction(context.text_of(value)));
}

Value trim_filter(Context& context, const Value& value, Arguments& arguments) {
  const Value* const chars = argument(arguments, 0, "chars");
  const bool given = chars != nullptr && !chars->is_none();
  return context.made(strip(context.text_of(value),
                            given ? &text_argument(context, *chars, "trim").bytes : nullptr, true,
                            true));
}

Value replace_filter(Context& context, const Value& value, Arguments& arguments) {
  const Value* const from = argument(arguments, 0, "old");
  const Value* const to = argument(arguments, 1, "new");
  if (from == nullptr || to == nullptr) context.fail("too few arguments", "replace(old, new)");
  return context.made(replace(context, context.text_of(value), context.text_of(*from),
                              context.text_of(*to), number_or(context, arguments, 2, "count", -1)));
}

Value escape_filter(Context& context, const Value& value, Arguments&) {
  constexpr std::string_view kFrom = "&<>'\"";
  constexpr const char* kTo[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
  return context.made(change_chars(context.text_of(value), [&](uint32_t c, std::string& out) {
    const size_t known = c < 0x80 ? kFrom.find(static_cast<char>(c)) : kFrom.npos;
    known == kFrom.npos ? append_utf8(c, out) : void(out += kTo[known]);
  }));
}

Value indent_filter(Context& context, const Value& value, Arguments& arguments) {
  const Value* const width = argument(arguments, 0, "width");
  Text prefix("    ");
  if (width != nullptr && width->is_text()) {
    prefix = width->text();
  } else if (width != nullptr) {
    const int64_t blanks = integer_argument(context, *width, "indent");
    context.spend(static_cast<size_t>(std::max<int64_t>(blanks, 0)));
    prefix = Text(std::string(static_cast<size_t>(std::max<int64_t>(blanks, 0)), ' '));
  }
  const bool first = flag(arguments, 1, "first", false);
  const bool blank = flag(arguments, 2, "blank", false);
  const Text text = context.text_of(value);
  Text result;
  for (size_t begin = 0; begin <= text.bytes.size();) {
    const size_t end = std::min(text.bytes.find('\n', begin), text.bytes.size());
    if (begin > 0) result.append("\n");
    if ((begin > 0 || first) && (blank || end > begin || begin == 0)) {
      context.spend(prefix.bytes.size());
      result.append(prefix);
    }
    result.append_part(text, begin, end);
    begin = end + 1;
  }
  return context.made(std::move(result));
}

Value string_filter(Context& context, const Value& value, Arguments&) {
  return context.made(context.text_of(value));
}

Value same_filter(Context&, const Value& value, Arguments&) {
  return value;
}

Value format_filter(Context& context, const Value& value, Arguments& arguments) {
  return printf_text(context, context.text_of(value),
                     context.made(List{.items = arguments.values, .tuple = true}));
}

Value wordcount_filter(Context& context, const Value& value, Arguments&) {
  return split(context, context.text_of(value), nullptr, -1).items.size();
}

Value tojson_filter(Context& context, const Value& value, Arguments& arguments) {
  // transformers: tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False)
  if (flag(arguments, 0, "ensure_ascii", false)) context.fail("ensure_ascii", "text kept as it is");
  const Value* const indent = argument(arguments, 1, "indent");
  const int64_t width = number_or(context, arguments, 1, "indent", -1);
  if (width > 64) context.fail("an indent of " + std::to_string(width), "at most 64");
  std::string item = indent == nullptr || indent->is_none() ? ", " : ",";
  std::string key = ": ";
  if (const Value* const separators = argument(arguments, 2, "separators");
      separators != nullptr && separators->is_list() && separators->list().items.size() == 2) {
    item = text_argument(context, separators->list().items[0], "tojson").bytes;
    key = text_argument(context, separators->list().items[1], "tojson").bytes;
  }
  return context.made(to_json(context, value, static_cast<int>(width),
                              flag(arguments, 3, "sort_keys", false), item, key));
}

// ---- numbers ----

Value int_filter(Context& context, const Value& value, Arguments& arguments) {
  const Value* const otherwise = argument(arguments, 0, "default");
  const Value fallback = otherwise == nullptr ? Value(0) : *otherwise;
  if (value.is_float()) {
    const bool fits = value.number() > -9e18 && value.number() < 9e18;
    return fits ? Value(static_cast<int64_t>(value.number())) : fallback;
  }
  if (value.is_number()) return value.integer();
  if (!value.is_text()) return fallback;
  const std::string text = strip(value.text(), nullptr, true, true).bytes;
  const int64_t base = number_or(context, arguments, 1, "base", 10);
  if (base < 2 || base > 36) context.fail("base " + std::to_string(base), "2 to 36");
  char* end = nullptr;
  errno = 0;
  const long long whole = std::strtoll(text.c_str(), &end, static_cast<int>(base));
  if (!text.empty() && errno == 0 && *end == '\0') return static_cast<int64_t>(whole);
  const double number = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !(number > -9e18 && number < 9e18)) return fallback;
  return static_cast<int64_t>(number);
}

Value float_filter(Context&, const Value& value, Arguments& arguments) {
  const Value* const otherwise = argument(arguments, 0, "default");
  if (value.is_number()) return value.number();
  if (value.is_text()) {
    const std::string text = strip(value.text(), nullptr, true, true).bytes;
    char* end = nullptr;
    const double number = std::strtod(text.c_str(), &end);
    if (!text.empty() && *end == '\0') return number;
  }
  return otherwise == nullptr ? Value(0.0) : *otherwise;
}

Value abs_filter(Context& context, const Value& value, Arguments&) {
  if (value.is_float()) return std::fabs(value.number());
  const int64_t whole = integer_argument(context, value, "abs");
  if (whole == INT64_MIN) context.fail("an integer beyond 64 bits");
  return whole < 0 ? -whole : whole;
}

Value round_filter(Context& context, const Value& value, Arguments& arguments) {
  if (!value.is_number()) context.fail(std::string("round of ") + value.type_name(), "a number");
  const int64_t precision = number_or(context, arguments, 0, "precision", 0);
  const Value* const method = argument(arguments, 1, "method");
  const std::string how = method == nullptr ? "common" : context.text_of(*method).bytes;
  if (precision < 0 || precision > 15)
    context.fail("precision " + std::to_string(precision), "0 to 15");
  if (how == "common") {  // as Python's round(): exact halves go to even
    return value.is_float() ? std::stod(fmt::format("{:.{}f}", value.number(), precision))
                            : static_cast<double>(value.integer());
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (how == "ceil") return std::ceil(value.number() * scale) / scale;
  if (how == "floor") return std::floor(value.number() * scale) / scale;
  context.fail("method " + in_quotes(how), "common, ceil or floor");
}

Value sum_filter(Context& context, const Value& value, Arguments& arguments) {
  const Value* const attribute = argument(arguments, 0, "attribute");
  const Value* const start = argument(arguments, 1, "start");
  Value total = start == nullptr ? Value(0) : *start;
  for (const Value& item : items_of(context, value).items) {
    const bool plain = attribute == nullptr || attribute->is_none();
    total = binary(context, "+", total, plain ? item : path_of(context, item, *attribute));
  }
  return total;
}

// ---- sequences ----

Value length_filter(Context& context, const Value& value, Arguments&) {
  if (value.is_text()) return count_chars(value.text().bytes);
  if (value.is_dict()) return value.dict().items.size();
  if (value.is_list()) return value.list().items.size();
  if (value.is_undefined()) return 0;
  context.fail(std::string("length of ") + value.type_name(), "a text, list or dict");
}

Value default_filter(Context&, const Value& value, Arguments& arguments) {
  const Value* const otherwise = argument(arguments, 0, "default_value");
  const bool falsy = flag(arguments, 1, "boolean", false) && !value.truth();
  if (!value.is_undefined() && !falsy) return value;
  return otherwise == nullptr ? Value("") : *otherwise;
}

Value first_filter(Context& context, const Value& value, Arguments&) {
  const List items = items_of(context, value);
  return items.items.empty() ? Value(Undefined{"first"}) : items.items.front();
}

Value last_filter(Context& context, const Value& value, Arguments&) {
  const List items = items_of(context, value);
  return items.items.empty() ? Value(Undefined{"last"}) : items.items.back();
}

Value list_filter(Context& context, const Value& value, Arguments&) {
  return context.made(items_of(context, value));
}

Value join_filter(Context& context, const Value& value, Arguments& arguments) {
  const Value* const separator = argument(arguments, 0, "d");
  const Value* const attribute = argument(arguments, 1, "attribute");
  List items = items_of(context, value);
  if (attribute != nullptr && !attribute->is_none()) {
    for (Value& item : items.items) item = path_of(context, item, *attribute);
  }
  return context.made(
      join(context, separator == nullptr ? Text() : context.text_of(*separator), items));
}

Value reverse_filter(Context& context, const Value& value, Arguments&) {
  List items = items_of(context, value);
  std::reverse(items.items.begin(), items.items.end());
  return value.is_text() ? context.made(join(context, Text(), items))
                         : context.made(std::move(items));
}

Value sort_filter(Context& context, const Value& value, Arguments& arguments) {
  auto items = keyed(context, value, argument(arguments, 2, "attribute"),
                     flag(arguments, 1, "case_sensitive", false));
  sort_keyed(context, items, flag(arguments, 0, "reverse", false));
  List result;
  for (Keyed& item : items) result.items.push_back(std::move(item.item));
  return context.made(std::move(result));
}

Value unique_filter(Context& context, const Value& value, Arguments& arguments) {
  List result;
  std::vector<Value> seen;
  for (Keyed& item : keyed(context, value, argument(arguments, 1, "attribute"),
                           flag(arguments, 0, "case_sensitive", false))) {
    context.step(seen.size() / 4 + weight_of(item.key));
    const bool known = std::any_of(seen.begin(), seen.end(),
                                   [&](const Value& key) { return equal(key, item.key); });
    if (known) continue;
    seen.push_back(item.key);
    result.items.push_back(std::move(item.item));
  }
  return context.made(std::move(result));
}

template <bool kMax>
Value extreme_filter(Context& context, const Value& value, Arguments& arguments) {
  auto items = keyed(context, value, argument(arguments, 1, "attribute"),
                     flag(arguments, 0, "case_sensitive", false));
  if (items.empty()) return Undefined{kMax ? "max" : "min"};
  sort_keyed(context, items, kMax);
  return items.front().item;
}

Value dictsort_filter(Context& context, const Value& value, Arguments& arguments) {
  if (!value.is_dict()) context.fail(std::string("dictsort of ") + value.type_name(), "a dict");
  const Value* const by = argument(arguments, 1, "by");
  const bool by_value = by != nullptr && context.text_of(*by).bytes == "value";
  std::vector<Keyed> items;
  for (const auto& [key, member] : value.dict().items) {
    items.push_back({sort_key(context, by_value ? member : key, nullptr,
                              flag(arguments, 0, "case_sensitive", false)),
                     context.made(List{.items = {key, member}, .tuple = true})});
  }
  sort_keyed(context, items, flag(arguments, 2, "reverse", false));
  List result;
  for (Keyed& item : items) result.items.push_back(std::move(item.item));
  return context.made(std::move(result));
}

Value items_filter(Context& context, const Value& value, Arguments&) {
  if (value.is_undefined()) return context.made(List{});
  if (!value.is_dict()) context.fail(std::string("items of ") + value.type_name(), "a dict");
  Arguments none;
  return method_of(context, value, "items").function()(none);
}

Value batch_filter(Context& context, const Value& value, Arguments& arguments) {
  const int64_t count = number_or(context, arguments, 0, "linecount", 0);
  const Value* const fill = argument(arguments, 1, "fill_with");
  if (count <= 0) context.fail("a batch of " + std::to_string(count), "a positive number");
  List result, row;
  for (Value& item : items_of(context, value).items) {
    row.items.push_back(std::move(item));
    if (static_cast<int64_t>(row.items.size()) < count) continue;
    result.items.push_back(context.made(std::exchange(row, {})));
  }
  if (!row.items.empty()) {
    if (fill != nullptr && !fill->is_none()) {
      context.spend(static_cast<size_t>(count) * sizeof(Value));
      row.items.resize(static_cast<size_t>(count), *fill);
    }
    result.items.push_back(context.made(std::move(row)));
  }
  return context.made(std::move(result));
}

Value groupby_filter(Context& context, const Value& value, Arguments& arguments) {
  const Value* const attribute = argument(arguments, 0, "attribute");
  if (attribute == nullptr) context.fail("groupby without its attribute");
  auto items = keyed(context, value, attribute, flag(arguments, 2, "case_sensitive", false));
  sort_keyed(context, items, false);
  List groups;
  for (size_t begin = 0; begin < items.size();) {
    List group;
    size_t end = begin;
    while (end < items.size() && equal(items[begin].key, items[end].key)) {
      group.items.push_back(items[end++].item);
    }
    const Value key = path_of(context, items[begin].item, *attribute);
    groups.items.push_back(
        context.made(List{.items = {key, context.made(std::move(group))}, .tuple = true}));
    begin = end;
  }
  return context.made(std::move(groups));
}

Value attr_filter(Context& context, const Value& value, Arguments& arguments) {
  if (arguments.values.empty()) context.fail("attr without a name");
  return attribute_of(context, value, context.text_of(arguments.values[0]).bytes);
}

// ---- filters that call others ----

Value map_filter(Context& context, const Value& value, Arguments& arguments) {
  List result = items_of(context, value);
  const Value* const attribute =
      arguments.values.empty() ? argument(arguments, 9, "attribute") : nullptr;
  const Value* const otherwise = argument(arguments, 9, "default");
  if (attribute == nullptr && arguments.values.empty()) context.fail("map without an argument");
  for (Value& item : result.items) {
    if (attribute != nullptr) {
      item = path_of(context, item, *attribute);
      if (item.is_undefined() && otherwise != nullptr) item = *otherwise;
      continue;
    }
    Arguments rest = arguments;
    const std::string name = context.text_of(rest.values[0]).bytes;
    rest.values.erase(rest.values.begin());
    item = apply_filter(context, name, item, rest);
  }
  return context.made(std::move(result));
}

template <bool kAttribute, bool kKeep>
Value select_filter(Context& context, const Value& value, Arguments& arguments) {
  List result;
  const size_t used = kAttribute ? 1 : 0;
  if (arguments.values.size() < used) context.fail("selectattr without an attribute");
  for (const Value& item : items_of(context, value).items) {
    const Value tested = kAttribute ? path_of(context, item, arguments.values[0]) : item;
    bool holds = tested.truth();
    if (arguments.values.size() > used) {
      Arguments rest;
      const auto begin = arguments.values.begin() + static_cast<std::ptrdiff_t>(used);
      rest.values.assign(begin + 1, arguments.values.end());
      holds = apply_test(context, context.text_of(*begin).bytes, tested, rest);
    }
    if (holds == kKeep) result.items.push_back(item);
  }
  return context.made(std::move(result));
}

const std::unordered_map<std::string_view, Filter>& filters() {
  static const std::unordered_map<std::string_view, Filter> all = {
      {"abs", abs_filter},
      {"attr", attr_filter},
      {"batch", batch_filter},
      {"capitalize", text_filter<capitalize>},
      {"count", length_filter},
      {"d", default_filter},
      {"default", default_filter},
      {"dictsort", dictsort_filter},
      {"e", escape_filter},
      {"escape", escape_filter},
      {"first", first_filter},
      {"float", float_filter},
      {"format", format_filter},
      {"groupby", groupby_filter},
      {"indent", indent_filter},
      {"int", int_filter},
      {"items", items_filter},
      {"join", join_filter},
      {"last", last_filter},
      {"length", length_filter},
      {"list", list_filter},
      {"lower", text_filter<lower>},
      {"map", map_filter},
      {"max", extreme_filter<true>},
      {"min", extreme_filter<false>},
      {"reject", select_filter<false, false>},
      {"rejectattr", select_filter<true, false>},
      {"replace", replace_filter},
      {"reverse", reverse_filter},
      {"round", round_filter},
      {"safe", same_filter},
      {"select", select_filter<false, true>},
      {"selectattr", select_filter<true, true>},
      {"sort", sort_filter},
      {"string", string_filter},
      {"sum", sum_filter},
      {"title", text_filter<title_filter>},
      {"tojson", tojson_filter},
      {"trim", trim_filter},
      {"unique", unique_filter},
      {"upper", text_filter<upper>},
      {"wordcount", wordcount_filter}};
  return all;
}

}  // namespace

bool is_filter(std::string_view name) {
  return filters().count(name) > 0;
}

Value apply_filter(Context& context, const std::string& name, const Value& value,
                   Arguments& arguments) {
  context.step();
  const auto found = filters().find(name);
  if (found == filters().end()) context.fail("filter " + in_quotes(name), "a filter that exists");
  return found->second(context, value, arguments);
}

}  // namespace cairn::jinja
