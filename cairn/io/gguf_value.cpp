// Typed access to one metadata value, whose bytes the reader has checked.
#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "cairn/base/error.h"
#include "cairn/io/gguf.h"
#include "cairn/io/json.h"

namespace cairn {
namespace {

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

bool is_integer(GgufKind kind) {
  return kind != GgufKind::f32 && kind != GgufKind::f64 && kind != GgufKind::boolean &&
         kind != GgufKind::string && kind != GgufKind::array;
}

bool is_number(GgufKind kind) {
  return is_integer(kind) || kind == GgufKind::f32 || kind == GgufKind::f64;
}

// Empty for a u64 beyond an i64.
std::optional<int64_t> load_integer(const std::byte* at, GgufKind kind) {
  switch (kind) {
    case GgufKind::u8:
      return load<uint8_t>(at);
    case GgufKind::i8:
      return load<int8_t>(at);
    case GgufKind::u16:
      return load<uint16_t>(at);
    case GgufKind::i16:
      return load<int16_t>(at);
    case GgufKind::u32:
      return load<uint32_t>(at);
    case GgufKind::i32:
      return load<int32_t>(at);
    case GgufKind::i64:
      return load<int64_t>(at);
    default: {
      const auto wide = load<uint64_t>(at);
      if (wide > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
      return static_cast<int64_t>(wide);
    }
  }
}

double load_number(const std::byte* at, GgufKind kind) {
  if (kind == GgufKind::f32) return static_cast<double>(load<float>(at));
  if (kind == GgufKind::f64) return load<double>(at);
  if (kind == GgufKind::u64) return static_cast<double>(load<uint64_t>(at));
  return static_cast<double>(*load_integer(at, kind));
}

std::string_view load_string(const std::byte* at) {
  return {reinterpret_cast<const char*>(at + 8), load<uint64_t>(at)};
}

std::string show_one(const std::byte* at, GgufKind kind, size_t max_bytes) {
  if (kind == GgufKind::string) return in_quotes(load_string(at), max_bytes);
  if (kind == GgufKind::boolean) return load<uint8_t>(at) != 0 ? "true" : "false";
  if (kind == GgufKind::f32) return fmt::format("{}", load<float>(at));
  if (kind == GgufKind::u64) return fmt::format("{}", load<uint64_t>(at));
  if (is_integer(kind)) return fmt::format("{}", *load_integer(at, kind));
  return fmt::format("{}", load_number(at, kind));
}

}  // namespace

void GgufValue::fail(const std::string& expected, const std::string& hint) const {
  throw Error({.kind = ErrorKind::data,
               .doing = "reading " + *source_,
               .subject = fmt::format("byte {}, {}", offset_, in_quotes(key_)),
               .expected = expected,
               .found = fmt::format(
                   "{} ({})", show(),
                   is_array() ? fmt::format("array of {} {}", count_, gguf_kind_name(element_))
                              : std::string(gguf_kind_name(kind_))),
               .hint = hint});
}

bool GgufValue::as_bool() const {
  if (kind_ != GgufKind::boolean) fail("true or false");
  return load<uint8_t>(bytes_.data()) != 0;
}

int64_t GgufValue::as_integer(int64_t low, int64_t high) const {
  const std::string expected = low == INT64_MIN && high == INT64_MAX
                                   ? "an integer"
                                   : fmt::format("an integer from {} to {}", low, high);
  if (!is_integer(kind_)) fail(expected);
  const auto value = load_integer(bytes_.data(), kind_);
  if (!value || *value < low || *value > high) fail(expected);
  return *value;
}

double GgufValue::as_number() const {
  if (!is_number(kind_)) fail("a number");
  return load_number(bytes_.data(), kind_);
}

std::string_view GgufValue::as_string() const {
  if (kind_ != GgufKind::string) fail("a string");
  return load_string(bytes_.data());
}

std::vector<int64_t> GgufValue::as_integers() const {
  if (!is_array() || !is_integer(element_)) fail("an array of integers");
  const size_t size = count_ == 0 ? 0 : bytes_.size() / count_;
  std::vector<int64_t> values;
  values.reserve(count_);
  for (size_t i = 0; i < count_; ++i) {
    const auto value = load_integer(bytes_.data() + i * size, element_);
    if (!value) fail("integers below 2^63");
    values.push_back(*value);
  }
  return values;
}

std::vector<float> GgufValue::as_floats() const {
  if (!is_array() || !is_number(element_)) fail("an array of numbers");
  const size_t size = count_ == 0 ? 0 : bytes_.size() / count_;
  std::vector<float> values;
  values.reserve(count_);
  for (size_t i = 0; i < count_; ++i)
    values.push_back(static_cast<float>(load_number(bytes_.data() + i * size, element_)));
  return values;
}

std::vector<std::string_view> GgufValue::as_strings() const {
  if (!is_array() || element_ != GgufKind::string) fail("an array of strings");
  std::vector<std::string_view> values;
  values.reserve(count_);
  const std::byte* at = bytes_.data();
  for (size_t i = 0; i < count_; ++i) {
    values.push_back(load_string(at));
    at += 8 + values.back().size();
  }
  return values;
}

std::string GgufValue::show(size_t max_bytes) const {
  if (!is_array()) return show_one(bytes_.data(), kind_, max_bytes);
  std::string text = "[";
  const std::byte* at = bytes_.data();
  for (size_t i = 0; i < count_; ++i) {
    const std::string one = show_one(at, element_, max_bytes);
    if (text.size() + one.size() > max_bytes) return text + (i == 0 ? "...]" : ", ...]");
    text += (i == 0 ? "" : ", ") + one;
    at += element_ == GgufKind::string ? 8 + load_string(at).size() : bytes_.size() / count_;
  }
  return text + "]";
}

}  // namespace cairn
