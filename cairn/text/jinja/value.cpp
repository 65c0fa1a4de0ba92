#include "cairn/text/jinja/value.h"

#include <fmt/core.h>
#include <utf8proc.h>

#include <algorithm>
#include <cmath>

#include "cairn/text/char_classes.h"

namespace cairn::jinja {
namespace {

void append_repr_text(const Text& text, Text& out) {
  const std::string& bytes = text.bytes;
  const bool has_single = bytes.find('\'') != std::string::npos;
  const char quote = has_single && bytes.find('"') == std::string::npos ? '"' : '\'';
  out.append(std::string_view(&quote, 1));
  const char* const end = bytes.data() + bytes.size();
  for (const char* at = bytes.data(); at < end;) {
    const DecodedChar c = decode_char(at, end);
    const bool user = text.from_user(static_cast<size_t>(at - bytes.data()));
    const std::string_view raw(at, c.length);
    const uint32_t code = c.code_point;
    if (code == '\\' || code == static_cast<unsigned char>(quote)) {
      out.append("\\", user);
      out.append(raw, user);
    } else if (code == '\n' || code == '\r' || code == '\t') {
      out.append(code == '\n' ? "\\n" : code == '\r' ? "\\r" : "\\t", user);
    } else if (code < 0x20 || code == 0x7F) {
      out.append(fmt::format("\\x{:02x}", code), user);
    } else if (code < 0x7F || code == kInvalidByte) {
      out.append(raw, user);
    } else {
      const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(code));
      const bool printable = category < UTF8PROC_CATEGORY_ZS && category != UTF8PROC_CATEGORY_CN;
      if (printable) {
        out.append(raw, user);
      } else {
        out.append(code < 0x100     ? fmt::format("\\x{:02x}", code)
                   : code < 0x10000 ? fmt::format("\\u{:04x}", code)
                                    : fmt::format("\\U{:08x}", code),
                   user);
      }
    }
    at += c.length;
  }
  out.append(std::string_view(&quote, 1));
}

void append_items(const List& list, Text& out) {
  out.append(list.tuple ? "(" : "[");
  for (size_t i = 0; i < list.items.size(); ++i) {
    if (i > 0) out.append(", ");
    append_repr(list.items[i], out);
  }
  if (list.tuple && list.items.size() == 1) out.append(",");
  out.append(list.tuple ? ")" : "]");
}

void append_members(const Dict& dict, Text& out) {
  out.append("{");
  for (size_t i = 0; i < dict.items.size(); ++i) {
    if (i > 0) out.append(", ");
    append_repr(dict.items[i].first, out);
    out.append(": ");
    append_repr(dict.items[i].second, out);
  }
  out.append("}");
}

int compare_items(const List& a, const List& b, bool& comparable) {
  for (size_t i = 0; i < a.items.size() && i < b.items.size(); ++i) {
    if (equal(a.items[i], b.items[i])) continue;
    return less(a.items[i], b.items[i], comparable) ? -1 : 1;
  }
  return a.items.size() < b.items.size() ? -1 : a.items.size() > b.items.size() ? 1 : 0;
}

}  // namespace

Text::Text(std::string text, bool from_user) : bytes(std::move(text)) {
  if (from_user && !bytes.empty()) user.push_back({0, bytes.size()});
}

void Text::append(std::string_view plain, bool from_user) {
  if (from_user && !plain.empty()) {
    const size_t end = bytes.size() + plain.size();
    if (!user.empty() && user.back().end == bytes.size()) {
      user.back().end = end;
    } else {
      user.push_back({bytes.size(), end});
    }
  }
  bytes.append(plain);
}

void Text::append(const Text& other) {
  append_part(other, 0, other.bytes.size());
}

void Text::append_part(const Text& other, size_t begin, size_t end) {
  const size_t base = bytes.size();
  bytes.append(other.bytes, begin, end - begin);
  auto range = std::upper_bound(other.user.begin(), other.user.end(), begin,
                                [](size_t at, const TextRange& r) { return at < r.end; });
  for (; range != other.user.end() && range->begin < end; ++range) {
    const size_t from = base + std::max(range->begin, begin) - begin;
    const size_t to = base + std::min(range->end, end) - begin;
    if (!user.empty() && user.back().end == from) {
      user.back().end = to;
    } else {
      user.push_back({from, to});
    }
  }
}

Text Text::part(size_t begin, size_t end) const {
  Text result;
  result.append_part(*this, begin, end);
  return result;
}

bool Text::from_user(size_t at) const {
  return overlaps(user, {at, at + 1});
}

const Value* Dict::find(const Value& key) const {
  for (const Member& member : items) {
    if (equal(member.first, key)) return &member.second;
  }
  return nullptr;
}

const Value* Dict::find_name(std::string_view name) const {
  for (const Member& member : items) {
    if (member.first.is_text() && member.first.text().bytes == name) return &member.second;
  }
  return nullptr;
}

void Dict::set(Value key, Value value) {
  for (Member& member : items) {
    if (equal(member.first, key)) {
      member.second = std::move(value);
      return;
    }
  }
  items.emplace_back(std::move(key), std::move(value));
}

bool Value::truth() const {
  if (is_number()) return number() != 0;
  if (is_text()) return !text().bytes.empty();
  if (is_list()) return !list().items.empty();
  if (is_dict()) return dict().is_namespace || !dict().items.empty();
  return is_function();
}

const char* Value::type_name() const {
  if (is_none()) return "None";
  if (is_undefined()) return "undefined";
  if (is_bool()) return "bool";
  if (is_integer()) return "int";
  if (is_float()) return "float";
  if (is_text()) return "str";
  if (is_list()) return list().tuple ? "tuple" : "list";
  if (is_dict()) return dict().is_namespace ? "namespace" : "dict";
  return "function";
}

const void* Value::identity() const {
  if (is_text()) return &text();
  if (is_list()) return &list();
  if (is_dict()) return &dict();
  if (is_function()) return &function();
  return nullptr;
}

bool equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (!a.is_float() && !b.is_float()) return a.integer() == b.integer();
    return a.number() == b.number();
  }
  if (a.is_text() && b.is_text()) return a.text().bytes == b.text().bytes;
  if (a.is_list() && b.is_list()) {
    const List& x = a.list();
    const List& y = b.list();
    return x.tuple == y.tuple && (&x == &y || std::equal(x.items.begin(), x.items.end(),
                                                         y.items.begin(), y.items.end(), equal));
  }
  if (a.is_dict() && b.is_dict()) {
    const Dict& x = a.dict();
    const Dict& y = b.dict();
    if (&x == &y) return true;
    if (x.is_namespace || y.is_namespace || x.items.size() != y.items.size()) return false;
    return std::all_of(x.items.begin(), x.items.end(), [&](const Member& member) {
      const Value* const other = y.find(member.first);
      return other != nullptr && equal(member.second, *other);
    });
  }
  if (a.is_function() && b.is_function()) return a.same_object(b);
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

bool less(const Value& a, const Value& b, bool& comparable) {
  if (a.is_number() && b.is_number()) {
    if (!a.is_float() && !b.is_float()) return a.integer() < b.integer();
    return a.number() < b.number();
  }
  // UTF-8 sorts as code points do.
  if (a.is_text() && b.is_text()) return a.text().bytes < b.text().bytes;
  if (a.is_list() && b.is_list() && a.list().tuple == b.list().tuple) {
    return compare_items(a.list(), b.list(), comparable) < 0;
  }
  comparable = false;
  return false;
}

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::string text = fmt::format("{}", value);
  const size_t mark = text.find('e');
  const double size = std::fabs(value);
  const bool scientific = value != 0 && (size < 1e-4 || size >= 1e16);
  if (scientific == (mark != std::string::npos)) {
    if (!scientific && text.find('.') == std::string::npos) text += ".0";
    return text;
  }
  // {fmt} and Python change to exponents at different sizes: the digits are the same.
  std::string digits;
  const std::string precise = fmt::format("{:e}", value);
  for (int precision = 0; precision <= 17; ++precision) {
    text = scientific ? fmt::format("{:.{}e}", value, precision)
                      : fmt::format("{:.{}f}", value, precision);
    if (std::stod(text) == value) break;
  }
  if (!scientific && text.find('.') == std::string::npos) text += ".0";
  return text;
}

void append_str(const Value& value, Text& out) {
  if (value.is_text()) return out.append(value.text());
  if (value.is_none()) return out.append("None");
  if (value.is_undefined()) return;
  if (value.is_bool()) return out.append(value.truth() ? "True" : "False");
  if (value.is_integer()) return out.append(std::to_string(value.integer()));
  if (value.is_float()) return out.append(float_text(value.number()));
  if (value.is_function()) return out.append("<function>");
  if (value.is_list()) return append_items(value.list(), out);
  if (value.dict().is_namespace) return out.append("<namespace>");
  append_members(value.dict(), out);
}

void append_repr(const Value& value, Text& out) {
  if (value.is_text()) return append_repr_text(value.text(), out);
  if (value.is_undefined()) return out.append("Undefined");
  append_str(value, out);
}

Text to_text(const Value& value) {
  if (value.is_text()) return value.text();
  Text text;
  append_str(value, text);
  return text;
}

size_t count_chars(std::string_view text) {
  size_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

size_t char_offset(std::string_view text, size_t index) {
  size_t at = 0;
  for (; at < text.size(); ++at) {
    if ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) continue;
    if (index-- == 0) return at;
  }
  return at;
}

bool is_python_space(uint32_t c) {
  return (c >= 0x1C && c <= 0x1F) || CharClasses::instance().of(c) == CharClass::space;
}

size_t weight_of(const Value& value) {
  if (value.is_text()) return 1 + value.text().bytes.size() / 64;
  if (value.is_list()) return value.list().weight;
  return value.is_dict() && !value.dict().is_namespace ? value.dict().weight : 1;
}

int depth_of(const Value& value) {
  if (value.is_list()) return value.list().depth;
  return value.is_dict() ? value.dict().depth : 0;
}

}  // namespace cairn::jinja
