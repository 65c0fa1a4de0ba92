#include "cairn/text/jinja/text_functions.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>

#include "cairn/io/json.h"
#include "cairn/text/char_classes.h"
#include "cairn/text/unicode_form.h"

namespace cairn::jinja {
namespace {

struct Char {
  uint32_t code;
  size_t begin, end;
};

Char char_at(std::string_view bytes, size_t at) {
  const DecodedChar c = decode_char(bytes.data() + at, bytes.data() + bytes.size());
  return {c.code_point, at, at + c.length};
}

Char char_before(std::string_view bytes, size_t at) {
  size_t begin = at - 1;
  while (begin > 0 && at - begin < 4 && (static_cast<unsigned char>(bytes[begin]) & 0xC0) == 0x80) {
    --begin;
  }
  const Char found = char_at(bytes, begin);
  return found.end == at ? found : Char{kInvalidByte, at - 1, at};
}

bool is_letter(uint32_t c) {
  return CharClasses::instance().of(c) == CharClass::letter;
}

}  // namespace

Text strip(const Text& text, const std::string* chars, bool left, bool right) {
  const std::string& bytes = text.bytes;
  const auto goes = [&](const Char& c) {
    if (chars == nullptr) return is_python_space(c.code);
    return chars->find(bytes.substr(c.begin, c.end - c.begin)) != std::string::npos;
  };
  size_t begin = 0;
  size_t end = bytes.size();
  while (left && begin < end && goes(char_at(bytes, begin))) begin = char_at(bytes, begin).end;
  while (right && end > begin && goes(char_before(bytes, end))) end = char_before(bytes, end).begin;
  return text.part(begin, end);
}

Text replace(Context& context, const Text& text, const Text& from, const Text& to, int64_t most) {
  Text result;
  size_t at = 0;
  const auto spend = [&] { context.spend(to.bytes.size()); };
  if (from.bytes.empty()) {  // before every character, and at the end
    while (most-- != 0) {
      spend();
      result.append(to);
      if (at >= text.bytes.size()) break;
      const size_t end = char_at(text.bytes, at).end;
      result.append_part(text, at, end);
      at = end;
    }
  } else {
    for (size_t found = text.bytes.find(from.bytes); found != std::string::npos && most-- != 0;
         found = text.bytes.find(from.bytes, at)) {
      spend();
      result.append_part(text, at, found);
      result.append(to);
      at = found + from.bytes.size();
    }
  }
  result.append_part(text, at, text.bytes.size());
  return result;
}

Text change_chars(const Text& text, FunctionRef<void(uint32_t, std::string&)> change) {
  Text result;
  std::string one;
  for (size_t at = 0; at < text.bytes.size();) {
    const Char c = char_at(text.bytes, at);
    one.clear();
    change(c.code, one);
    result.append(one, text.any_user() && text.from_user(at));
    at = c.end;
  }
  return result;
}

Text upper(const Text& text) {
  return change_chars(text, [](uint32_t c, std::string& out) { append_uppercase(c, out); });
}

Text lower(const Text& text) {
  return change_chars(text, [](uint32_t c, std::string& out) { append_lowercase(c, out); });
}

Text capitalize(const Text& text) {
  bool first = true;
  return change_chars(text, [&](uint32_t c, std::string& out) {
    first ? append_uppercase(c, out) : append_lowercase(c, out);
    first = false;
  });
}

Text title(const Text& text) {
  bool inside = false;
  return change_chars(text, [&](uint32_t c, std::string& out) {
    inside ? append_lowercase(c, out) : append_uppercase(c, out);
    inside = is_letter(c);
  });
}

Text title_filter(const Text& text) {
  constexpr std::string_view kBefore = "-({[<";  // a word starts behind these and white space
  bool inside = false;
  return change_chars(text, [&](uint32_t c, std::string& out) {
    inside ? append_lowercase(c, out) : append_uppercase(c, out);
    const bool breaks =
        is_python_space(c) || (c < 0x80 && kBefore.find(static_cast<char>(c)) != kBefore.npos);
    inside = !breaks;
  });
}

List split(Context& context, const Text& text, const std::string* separator, int64_t most) {
  List parts;
  const std::string& bytes = text.bytes;
  size_t begin = 0;
  if (separator != nullptr) {
    if (separator->empty()) context.fail("an empty separator", "one that is not empty");
    for (size_t found = bytes.find(*separator); found != std::string::npos && most-- != 0;
         found = bytes.find(*separator, begin)) {
      parts.items.push_back(context.made(text.part(begin, found)));
      begin = found + separator->size();
    }
    parts.items.push_back(context.made(text.part(begin, bytes.size())));
    return parts;
  }
  for (;;) {
    while (begin < bytes.size() && is_python_space(char_at(bytes, begin).code)) {
      begin = char_at(bytes, begin).end;
    }
    if (begin >= bytes.size()) return parts;
    size_t end = begin;
    if (most-- == 0) {
      parts.items.push_back(
          context.made(strip(text.part(begin, bytes.size()), nullptr, false, true)));
      return parts;
    }
    while (end < bytes.size() && !is_python_space(char_at(bytes, end).code)) {
      end = char_at(bytes, end).end;
    }
    parts.items.push_back(context.made(text.part(begin, end)));
    begin = end;
  }
}

Text join(Context& context, const Text& separator, const List& items) {
  Text result;
  for (size_t i = 0; i < items.items.size(); ++i) {
    if (i > 0) result.append(separator);
    const Text text = context.text_of(items.items[i]);
    context.spend(separator.bytes.size());
    result.append(text);
  }
  return result;
}

namespace {

// One {...} of a format.
class Field {
 public:
  Field(Context& context, std::string_view body) : context_(context), rest_(body) {}

  Text run(const Arguments& arguments, size_t& next) {
    Value value = first(arguments, next);
    while (!rest_.empty() && (rest_[0] == '.' || rest_[0] == '[')) {
      const bool item = rest_[0] == '[';
      const size_t end = rest_.find_first_of(item ? "]" : ".[!:", 1);
      const std::string name(rest_.substr(1, end == rest_.npos ? end : end - 1));
      rest_.remove_prefix(std::min(rest_.size(), end == rest_.npos ? end : end + (item ? 1 : 0)));
      int64_t index = 0;
      const auto [stop, code] = std::from_chars(name.data(), name.data() + name.size(), index);
      const bool number = item && code == std::errc{} && stop == name.data() + name.size();
      value = item ? item_of(context_, value, number ? Value(index) : Value(std::string_view(name)))
                   : attribute_of(context_, value, name);
    }
    Text text;
    if (rest_.substr(0, 2) == "!r") {
      append_repr(value, text);
      rest_.remove_prefix(2);
    } else {
      append_str(value, text);
    }
    if (!rest_.empty() && rest_ != ":") {
      context_.fail("format " + in_quotes(rest_), "a field without width or type");
    }
    return text;
  }

 private:
  Value first(const Arguments& arguments, size_t& next) {
    const size_t end = std::min(rest_.find_first_of(".[!:"), rest_.size());
    const std::string name(rest_.substr(0, end));
    rest_.remove_prefix(end);
    size_t index = next;
    if (name.empty()) {
      ++next;
    } else {
      const auto [stop, code] = std::from_chars(name.data(), name.data() + name.size(), index);
      if (code != std::errc{} || stop != name.data() + name.size()) index = arguments.values.size();
    }
    const Value* const found = argument(arguments, index, name);
    if (found == nullptr) context_.fail("format field {" + name + "}", "an argument for it");
    return *found;
  }

  Context& context_;
  std::string_view rest_;
};

}  // namespace

Text format_text(Context& context, const Text& format, const Arguments& arguments) {
  Text result;
  const std::string& bytes = format.bytes;
  size_t next = 0;
  for (size_t at = 0; at < bytes.size();) {
    const char c = bytes[at];
    if ((c == '{' || c == '}') && at + 1 < bytes.size() && bytes[at + 1] == c) {
      result.append_part(format, at, at + 1);
      at += 2;
    } else if (c == '{') {
      const size_t end = bytes.find('}', at);
      if (end == std::string::npos) context.fail("a format field without its end", "}");
      result.append(Field(context, std::string_view(bytes).substr(at + 1, end - at - 1))
                        .run(arguments, next));
      at = end + 1;
    } else {
      if (c == '}') context.fail("a single } in a format", "}}");
      result.append_part(format, at, at + 1);
      ++at;
    }
  }
  return result;
}

namespace {

// %5.2f and the like: one value in printf's manner, with Python's letters.
Text printf_value(Context& context, const std::string& flags, char letter, const Value& value) {
  if (letter == 's' || letter == 'r') {
    Text text;
    letter == 's' ? append_str(value, text) : append_repr(value, text);
    if (!flags.empty()) context.fail("format %" + flags + letter, "%s without a width");
    return text;
  }
  if (!value.is_number())
    context.fail(std::string("%") + letter + " of " + value.type_name(), "a number");
  const bool good =
      flags.size() < 8 && flags.find_first_not_of("0123456789.+- ") == std::string::npos;
  if (!good) context.fail("format %" + flags + letter, "a shorter format");
  char buffer[512];
  const bool integer = letter == 'd' || letter == 'i' || letter == 'x' || letter == 'X';
  const std::string spec = "%" + flags + (integer ? "ll" : "") + letter;
  int size = 0;
  if (integer) {
    const double number = value.number();
    if (value.is_float() && !(number > -9e18 && number < 9e18))
      context.fail("a number beyond 64 bits");
    const long long whole = value.is_float() ? static_cast<long long>(number) : value.integer();
    size = std::snprintf(buffer, sizeof buffer, spec.c_str(), whole);
  } else {
    size = std::snprintf(buffer, sizeof buffer, spec.c_str(), value.number());
  }
  if (size < 0 || static_cast<size_t>(size) >= sizeof buffer)
    context.fail("a number of 500 digits");
  return Text(std::string(buffer, static_cast<size_t>(size)));
}

}  // namespace

Value printf_text(Context& context, const Text& format, const Value& values) {
  List given;
  if (values.is_list() && values.list().tuple) {
    given = values.list();
  } else {
    given.items.push_back(values);
  }
  Text result;
  size_t next = 0;
  const std::string& bytes = format.bytes;
  for (size_t at = 0; at < bytes.size(); ++at) {
    if (bytes[at] != '%') {
      result.append_part(format, at, at + 1);
      continue;
    }
    const size_t letter = bytes.find_first_not_of("0123456789.+- ", at + 1);
    if (letter == std::string::npos) context.fail("an incomplete format");
    const std::string flags = bytes.substr(at + 1, letter - at - 1);
    at = letter;
    if (bytes[letter] == '%') {
      result.append("%");
      continue;
    }
    if (std::string_view("srdifFeEgGxX").find(bytes[letter]) == std::string_view::npos) {
      context.fail(std::string("format %") + bytes[letter], "%s, %r, %d, %f, %e, %g or %x");
    }
    if (next >= given.items.size()) context.fail("too few values for a format");
    result.append(printf_value(context, flags, bytes[letter], given.items[next++]));
  }
  if (next < given.items.size() && !values.is_dict()) context.fail("too many values for a format");
  return context.made(std::move(result));
}

}  // namespace cairn::jinja
