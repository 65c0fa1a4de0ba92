#include "cairn/io/protobuf.h"

#include "cairn/base/error.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

TEST(Protobuf, WhatIsAppendedIsRead) {
  std::string inner, message;
  append_varint_field(7, UINT64_MAX, inner);
  append_varint_field(1, 300, message);
  append_float_field(2, -1.5F, message);
  append_bytes_field(16, "bytes", message);
  append_bytes_field(3, inner, message);
  ProtobufReader reader(message, "m");
  ASSERT_TRUE(reader.next());
  EXPECT_EQ(reader.field(), 1u);
  EXPECT_EQ(reader.as_varint(), 300u);
  ASSERT_TRUE(reader.next());
  EXPECT_EQ(reader.as_float(), -1.5F);
  ASSERT_TRUE(reader.next());
  EXPECT_EQ(reader.field(), 16u);
  EXPECT_EQ(reader.as_bytes(), "bytes");
  ASSERT_TRUE(reader.next());
  ProtobufReader nested = reader.as_message();
  ASSERT_TRUE(nested.next());
  EXPECT_EQ(nested.field(), 7u);
  EXPECT_EQ(nested.as_varint(), UINT64_MAX);
  EXPECT_FALSE(nested.next());
  EXPECT_FALSE(reader.next());
}

// A protocol compiler's example: field 1 holds 150.
TEST(Protobuf, ReadsTheBytesOfTheDocumentedExample) {
  ProtobufReader reader("\x08\x96\x01", "m");
  ASSERT_TRUE(reader.next());
  EXPECT_EQ(reader.as_varint(), 150u);
}

std::string refusal_of(std::string_view message) {
  try {
    ProtobufReader reader(message, "m");
    while (reader.next()) {
    }
    return "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::data);
    return error.what();
  }
}

TEST(Protobuf, BrokenMessagesAreErrorsThatNameTheByte) {
  EXPECT_THAT(refusal_of("\x08"), HasSubstr("does not end"));
  EXPECT_THAT(refusal_of("\x08\x80"), HasSubstr("byte 1"));
  EXPECT_THAT(refusal_of("\x0a\x05zz"), HasSubstr("at most 2 bytes"));
  EXPECT_THAT(refusal_of("\x0d\x01\x02"), HasSubstr("at most 2 bytes"));
  EXPECT_THAT(refusal_of("\x0b"), HasSubstr("wire type 3"));
  EXPECT_THAT(refusal_of(std::string_view("\x00\x01", 2)), HasSubstr("number 0"));
  EXPECT_THAT(refusal_of("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), HasSubstr("ten bytes"));
}

TEST(Protobuf, AValueOfAnotherTypeIsAnError) {
  ProtobufReader reader("\x08\x01", "m");
  ASSERT_TRUE(reader.next());
  EXPECT_THROW(reader.as_bytes(), Error);
  EXPECT_THROW(reader.as_float(), Error);
  EXPECT_THROW(reader.as_message(), Error);
}

}  // namespace
}  // namespace cairn
