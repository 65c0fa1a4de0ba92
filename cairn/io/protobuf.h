// The wire format of Protocol Buffers (protobuf.dev, "Encoding"), read and written field by field.
// No message types: whoever knows what a file holds asks for its fields by number. A message of
// another length, type or number than expected is an Error, never a crash; nothing is allocated.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace cairn {

// A message, visited field by field:
//   ProtobufReader message(bytes, "spiece.model");
//   while (message.next())
//     if (message.field() == 1) name = message.as_bytes();
// Fields that nobody asks for are skipped. Borrows the bytes. Every function throws Error (data)
// with the source and the byte where the message is broken or of another type.
class ProtobufReader {
 public:
  ProtobufReader(std::string_view bytes, std::string source);

  // Goes to the next field; false at the end.
  bool next();
  uint32_t field() const { return field_; }

  // The value of the current field, by the type that is expected of it.
  uint64_t as_varint() const;
  bool as_bool() const { return as_varint() != 0; }
  int32_t as_int32() const { return static_cast<int32_t>(as_varint()); }  // as protobuf truncates
  float as_float() const;
  std::string_view as_bytes() const;
  // A message within this one. Its errors count bytes from the same start.
  ProtobufReader as_message() const;

  // Throws the error: "SOURCE: byte N, expected EXPECTED, found FOUND".
  [[noreturn]] void fail(const std::string& expected, const std::string& found) const;

 private:
  enum class Wire : uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

  uint64_t read_varint();
  std::string_view read_bytes(uint64_t size);
  void expect(Wire wire, const char* what) const;

  std::string_view rest_;
  std::string source_;
  size_t at_ = 0;  // of rest_, in the file
  uint32_t field_ = 0;
  Wire wire_ = Wire::varint;
  uint64_t number_ = 0;
  std::string_view content_;
};

// Appends fields to `message`.
void append_varint_field(uint32_t field, uint64_t value, std::string& message);
void append_float_field(uint32_t field, float value, std::string& message);
void append_bytes_field(uint32_t field, std::string_view value, std::string& message);

}  // namespace cairn
