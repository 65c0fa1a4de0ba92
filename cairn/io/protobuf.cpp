#include "cairn/io/protobuf.h"

#include <fmt/core.h>

#include <cstring>
#include <utility>

#include "cairn/base/error.h"

namespace cairn {

ProtobufReader::ProtobufReader(std::string_view bytes, std::string source)
    : rest_(bytes), source_(std::move(source)) {}

void ProtobufReader::fail(const std::string& expected, const std::string& found) const {
  throw Error({.kind = ErrorKind::data,
               .doing = source_,
               .subject = fmt::format("byte {}", at_),
               .expected = expected,
               .found = found});
}

uint64_t ProtobufReader::read_varint() {
  uint64_t value = 0;
  for (size_t i = 0; i < rest_.size() && i < 10; ++i) {
    const auto byte = static_cast<uint8_t>(rest_[i]);
    value |= static_cast<uint64_t>(byte & 0x7F) << (7 * i);
    if ((byte & 0x80) != 0) continue;
    rest_.remove_prefix(i + 1);
    at_ += i + 1;
    return value;
  }
  fail("a number of at most ten bytes", "one that does not end");
}

std::string_view ProtobufReader::read_bytes(uint64_t size) {
  if (size > rest_.size())
    fail(fmt::format("at most {} bytes, which are left", rest_.size()), std::to_string(size));
  const std::string_view bytes = rest_.substr(0, size);
  rest_.remove_prefix(size);
  at_ += size;
  return bytes;
}

bool ProtobufReader::next() {
  if (rest_.empty()) return false;
  const uint64_t tag = read_varint();
  if (tag >> 3 == 0 || tag >> 3 > 0x1FFFFFFF) fail("a field", "number " + std::to_string(tag >> 3));
  field_ = static_cast<uint32_t>(tag >> 3);
  wire_ = static_cast<Wire>(tag & 7);
  switch (wire_) {
    case Wire::varint:
      number_ = read_varint();
      return true;
    case Wire::bytes:
      content_ = read_bytes(read_varint());
      return true;
    case Wire::fixed32:
      content_ = read_bytes(4);
      return true;
    case Wire::fixed64:
      content_ = read_bytes(8);
      return true;
  }
  fail("a number, bytes or a fixed field", fmt::format("wire type {}", tag & 7));
}

void ProtobufReader::expect(Wire wire, const char* what) const {
  if (wire_ != wire)
    fail(fmt::format("{} as field {}", what, field_),
         fmt::format("wire type {}", static_cast<int>(wire_)));
}

uint64_t ProtobufReader::as_varint() const {
  expect(Wire::varint, "a whole number");
  return number_;
}

float ProtobufReader::as_float() const {
  expect(Wire::fixed32, "a 32-bit number");
  float value = 0;
  std::memcpy(&value, content_.data(), sizeof value);
  return value;
}

std::string_view ProtobufReader::as_bytes() const {
  expect(Wire::bytes, "bytes");
  return content_;
}

ProtobufReader ProtobufReader::as_message() const {
  ProtobufReader inner(as_bytes(), source_);
  inner.at_ = at_ - content_.size();
  return inner;
}

namespace {

void append_varint(uint64_t value, std::string& message) {
  for (; value >= 0x80; value >>= 7) message.push_back(static_cast<char>(value | 0x80));
  message.push_back(static_cast<char>(value));
}

}  // namespace

void append_varint_field(uint32_t field, uint64_t value, std::string& message) {
  append_varint(field << 3, message);
  append_varint(value, message);
}

void append_float_field(uint32_t field, float value, std::string& message) {
  append_varint(field << 3 | 5, message);
  message.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_bytes_field(uint32_t field, std::string_view value, std::string& message) {
  append_varint(field << 3 | 2, message);
  append_varint(value.size(), message);
  message.append(value);
}

}  // namespace cairn
