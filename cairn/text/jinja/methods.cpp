#include <algorithm>
#include <unordered_map>

#include "cairn/io/json.h"
#include "cairn/text/char_classes.h"
#include "cairn/text/jinja/text_functions.h"

namespace cairn::jinja {
namespace {

using TextMethod = Value (*)(Context&, const Text&, Arguments&);

// The text given at a position; null when none or none is given.
const std::string* chars_of(Context& context, const Arguments& arguments) {
  const Value* const given = argument(arguments, 0, "chars");
  if (given == nullptr || given->is_none()) return nullptr;
  return &text_argument(context, *given, "strip").bytes;
}

template <bool kLeft, bool kRight>
Value strip_method(Context& context, const Text& text, Arguments& arguments) {
  return context.made(strip(text, chars_of(context, arguments), kLeft, kRight));
}

template <Text (*kFunction)(const Text&)>
Value plain_method(Context& context, const Text& text, Arguments&) {
  return context.made(kFunction(text));
}

Value split_method(Context& context, const Text& text, Arguments& arguments) {
  const Value* const separator = argument(arguments, 0, "sep");
  const Value* const most = argument(arguments, 1, "maxsplit");
  const bool blank = separator == nullptr || separator->is_none();
  return context.made(split(context, text,
                            blank ? nullptr : &text_argument(context, *separator, "split").bytes,
                            most == nullptr ? -1 : integer_argument(context, *most, "split")));
}

Value rsplit_method(Context& context, const Text& text, Arguments& arguments) {
  const Value* const most = argument(arguments, 1, "maxsplit");
  const Value* const separator = argument(arguments, 0, "sep");
  if (most == nullptr || separator == nullptr || !separator->is_text()) {
    return split_method(context, text, arguments);
  }
  const List parts = split(context, text, &separator->text().bytes, -1);
  const int64_t limit = integer_argument(context, *most, "rsplit");
  const auto size = static_cast<int64_t>(parts.items.size());
  if (limit < 0 || size <= limit + 1) return context.made(List(parts));
  List head;
  head.items.assign(parts.items.begin(), parts.items.end() - limit);
  List result;
  result.items.push_back(context.made(join(context, separator->text(), head)));
  result.items.insert(result.items.end(), parts.items.end() - limit, parts.items.end());
  return context.made(std::move(result));
}

Value splitlines_method(Context& context, const Text& text, Arguments&) {
  List lines;
  const std::string& bytes = text.bytes;
  for (size_t begin = 0; begin < bytes.size();) {
    size_t end = std::min(bytes.find_first_of("\n\r\v\f\x1c\x1d\x1e", begin), bytes.size());
    lines.items.push_back(context.made(text.part(begin, end)));
    begin = end + (bytes.compare(end, 2, "\r\n") == 0 ? 2 : 1);
  }
  return context.made(std::move(lines));
}

template <bool kStart>
Value affix_method(Context& context, const Text& text, Arguments& arguments) {
  const Value* const given = argument(arguments, 0, "prefix");
  if (given == nullptr) context.fail("no argument", "a text");
  List candidates;
  given->is_list() ? void(candidates = given->list()) : candidates.items.push_back(*given);
  for (const Value& candidate : candidates.items) {
    const std::string& affix = text_argument(context, candidate, "startswith or endswith").bytes;
    if (affix.size() > text.bytes.size()) continue;
    const size_t at = kStart ? 0 : text.bytes.size() - affix.size();
    if (text.bytes.compare(at, affix.size(), affix) == 0) return true;
  }
  return false;
}

template <bool kPrefix>
Value remove_affix_method(Context& context, const Text& text, Arguments& arguments) {
  if (!affix_method<kPrefix>(context, text, arguments).truth()) return Value(text);
  const size_t size = arguments.values.at(0).text().bytes.size();
  return context.made(kPrefix ? text.part(size, text.bytes.size())
                              : text.part(0, text.bytes.size() - size));
}

Value replace_method(Context& context, const Text& text, Arguments& arguments) {
  if (arguments.values.size() < 2) context.fail("too few arguments", "replace(old, new)");
  const Value* const most = argument(arguments, 2, "count");
  return context.made(replace(context, text, text_argument(context, arguments.values[0], "replace"),
                              text_argument(context, arguments.values[1], "replace"),
                              most == nullptr ? -1 : integer_argument(context, *most, "replace")));
}

Value join_method(Context& context, const Text& text, Arguments& arguments) {
  if (arguments.values.empty()) context.fail("no argument", "join(items)");
  const List items = items_of(context, arguments.values[0]);
  for (const Value& item : items.items) text_argument(context, item, "join");
  return context.made(join(context, text, items));
}

Value format_method(Context& context, const Text& text, Arguments& arguments) {
  return context.made(format_text(context, text, arguments));
}

Value count_method(Context& context, const Text& text, Arguments& arguments) {
  if (arguments.values.empty()) context.fail("no argument", "count(text)");
  const std::string& wanted = text_argument(context, arguments.values[0], "count").bytes;
  if (wanted.empty()) return count_chars(text.bytes) + 1;
  int64_t count = 0;
  for (size_t at = text.bytes.find(wanted); at != std::string::npos;
       at = text.bytes.find(wanted, at + wanted.size())) {
    ++count;
  }
  return count;
}

template <bool kLast, bool kMust>
Value find_method(Context& context, const Text& text, Arguments& arguments) {
  if (arguments.values.empty()) context.fail("no argument", "find(text)");
  const std::string& wanted = text_argument(context, arguments.values[0], "find").bytes;
  const size_t at = kLast ? text.bytes.rfind(wanted) : text.bytes.find(wanted);
  if (at != std::string::npos) return count_chars(std::string_view(text.bytes).substr(0, at));
  if (kMust) context.fail("text without " + in_quotes(wanted), "text that holds it");
  return -1;
}

template <class Good>
Value all_chars(const Text& text, Good&& good) {
  const char* const end = text.bytes.data() + text.bytes.size();
  for (const char* at = text.bytes.data(); at < end;) {
    const DecodedChar c = decode_char(at, end);
    if (!good(c.code_point)) return false;
    at += c.length;
  }
  return !text.bytes.empty();
}
bool is_class(uint32_t c, CharClass wanted) {
  return CharClasses::instance().of(c) == wanted;
}
Value isdigit_method(Context&, const Text& text, Arguments&) {
  return all_chars(text, [](uint32_t c) { return c >= '0' && c <= '9'; });
}
Value isalpha_method(Context&, const Text& text, Arguments&) {
  return all_chars(text, [](uint32_t c) { return is_class(c, CharClass::letter); });
}
Value isalnum_method(Context&, const Text& text, Arguments&) {
  return all_chars(text, [](uint32_t c) {
    return is_class(c, CharClass::letter) || is_class(c, CharClass::number);
  });
}
Value isspace_method(Context&, const Text& text, Arguments&) {
  return all_chars(text, is_python_space);
}
Value isupper_method(Context&, const Text& text, Arguments&) {
  return upper(text).bytes == text.bytes && lower(text).bytes != text.bytes;
}
Value islower_method(Context&, const Text& text, Arguments&) {
  return lower(text).bytes == text.bytes && upper(text).bytes != text.bytes;
}

template <bool kLast>
Value partition_method(Context& context, const Text& text, Arguments& arguments) {
  if (arguments.values.empty()) context.fail("no argument", "partition(separator)");
  const Text& separator = text_argument(context, arguments.values[0], "partition");
  if (separator.bytes.empty()) context.fail("an empty separator");
  const size_t at = kLast ? text.bytes.rfind(separator.bytes) : text.bytes.find(separator.bytes);
  List parts{.items = {}, .tuple = true};
  if (at == std::string::npos) {
    parts.items = {Value(""), Value("")};
    parts.items.insert(kLast ? parts.items.end() : parts.items.begin(), Value(text));
  } else {
    const size_t end = at + separator.bytes.size();
    parts.items = {Value(text.part(0, at)), Value(text.part(at, end)),
                   Value(text.part(end, text.bytes.size()))};
  }
  return context.made(std::move(parts));
}

const std::unordered_map<std::string_view, TextMethod>& text_methods() {
  static const std::unordered_map<std::string_view, TextMethod> methods = {
      {"strip", strip_method<true, true>},
      {"lstrip", strip_method<true, false>},
      {"rstrip", strip_method<false, true>},
      {"upper", plain_method<upper>},
      {"lower", plain_method<lower>},
      {"title", plain_method<title>},
      {"capitalize", plain_method<capitalize>},
      {"split", split_method},
      {"rsplit", rsplit_method},
      {"splitlines", splitlines_method},
      {"startswith", affix_method<true>},
      {"endswith", affix_method<false>},
      {"removeprefix", remove_affix_method<true>},
      {"removesuffix", remove_affix_method<false>},
      {"replace", replace_method},
      {"join", join_method},
      {"format", format_method},
      {"count", count_method},
      {"find", find_method<false, false>},
      {"rfind", find_method<true, false>},
      {"index", find_method<false, true>},
      {"rindex", find_method<true, true>},
      {"isdigit", isdigit_method},
      {"isalpha", isalpha_method},
      {"isalnum", isalnum_method},
      {"isspace", isspace_method},
      {"isupper", isupper_method},
      {"islower", islower_method},
      {"partition", partition_method<false>},
      {"rpartition", partition_method<true>}};
  return methods;
}

Value members_of(Context& context, const Dict& dict) {
  List members;
  for (const Member& member : dict.items) {
    members.items.push_back(List{.items = {member.first, member.second}, .tuple = true});
  }
  context.spend(members.items.size() * 64);
  return context.made(std::move(members));
}

Value dict_method(Context& context, const Value& self, const std::string& name) {
  if (name == "items") {
    return Function([&context, self](Arguments&) { return members_of(context, self.dict()); });
  }
  if (name == "keys" || name == "values") {
    const bool keys = name == "keys";
    return Function([&context, self, keys](Arguments&) {
      List list;
      for (const Member& member : self.dict().items) {
        list.items.push_back(keys ? member.first : member.second);
      }
      return context.made(std::move(list));
    });
  }
  if (name == "get") {
    return Function([&context, self](Arguments& arguments) -> Value {
      if (arguments.values.empty()) context.fail("no argument", "get(key)");
      context.step(self.dict().items.size() / 16);
      const Value* const found = self.dict().find(arguments.values[0]);
      const Value* const otherwise = argument(arguments, 1, "default");
      return found != nullptr ? *found : otherwise != nullptr ? *otherwise : Value();
    });
  }
  if (name == "copy") return Function([self](Arguments&) { return Value(Dict(self.dict())); });
  for (const char* changing : {"pop", "update", "setdefault", "clear", "popitem"}) {
    if (name == changing) context.fail("dict." + name, "what does not change its dict");
  }
  return Value();
}

Value list_method(Context& context, const Value& self, const std::string& name) {
  for (const char* changing :
       {"append", "extend", "insert", "pop", "remove", "clear", "reverse", "sort"}) {
    if (name == changing) {
      context.fail("list." + name,
                   "list + list (the sandbox of transformers forbids changing one)");
    }
  }
  if (name == "index" || name == "count") {
    const bool index = name == "index";
    return Function([&context, self, index](Arguments& arguments) -> Value {
      if (arguments.values.empty()) context.fail("no argument", "a value");
      const auto& items = self.list().items;
      context.step(items.size());
      int64_t count = 0;
      for (size_t i = 0; i < items.size(); ++i) {
        if (!equal(items[i], arguments.values[0])) continue;
        if (index) return i;
        ++count;
      }
      if (index) context.fail("a list without that value", "one that holds it");
      return count;
    });
  }
  return Value();
}

}  // namespace

Value method_of(Context& context, const Value& value, const std::string& name) {
  if (value.is_dict()) return dict_method(context, value, name);
  if (value.is_list()) return list_method(context, value, name);
  if (!value.is_text()) return Value();
  const auto found = text_methods().find(name);
  if (found == text_methods().end()) return Value();
  return Function([&context, value, method = found->second](Arguments& arguments) {
    return method(context, value.text(), arguments);
  });
}

}  // namespace cairn::jinja
