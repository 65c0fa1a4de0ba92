#include "cairn/io/tensorboard.h"

#include <bit>
#include <cstring>
#include <memory>

#include "cairn/base/log.h"
#include "tests/support/files.h"

namespace cairn {
namespace {

using testing::HasSubstr;

std::string hex(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) {
    constexpr const char* kDigits = "0123456789abcdef";
    text += kDigits[static_cast<unsigned char>(byte) >> 4];
    text += kDigits[static_cast<unsigned char>(byte) & 15U];
  }
  return text;
}

// The payloads of an event file; checks framing and checksums.
std::vector<std::string> payloads(const std::string& file) {
  std::vector<std::string> result;
  size_t at = 0;
  while (at < file.size()) {
    uint64_t length = 0;
    std::memcpy(&length, file.data() + at, 8);
    result.push_back(file.substr(at + 12, length));
    const std::string again = tfrecord(result.back());
    EXPECT_EQ(hex(file.substr(at, again.size())), hex(again));
    at += again.size();
  }
  EXPECT_EQ(at, file.size());
  return result;
}

TEST(TensorBoard, ChecksumsAreCastagnolis) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283U);
  EXPECT_EQ(crc32c(""), 0U);
  EXPECT_EQ(crc32c(std::string_view("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                                    "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
                                    32)),
            0x8a9136aaU);  // RFC 3720, B.4
}

TEST(TensorBoard, WritesTheReferenceVersionRecord) {
  EXPECT_EQ(hex(tfrecord(version_event(1700000000.0))),
            "1800000000000000a37f4b220900000040fc54d9411a0d627261696e2e4576656e743a32eced8f9d");
}

TEST(TensorBoard, WritesTheReferenceScalarRecord) {
  EXPECT_EQ(hex(tfrecord(scalar_event(1700000001.0, 100, "loss", 2.5F))),
            "1a00000000000000129bd82d0900004040fc54d94110642a0d0a0b0a046c6f73731500002040deb40c75");
}

TEST(TensorBoard, WritesLongTagsAndLargeSteps) {
  std::string tag;
  for (int i = 0; i < 300; ++i) tag += 't';
  const std::string event = scalar_event(0, int64_t{1} << 40, tag, 1.0F);
  // step: five bytes of seven zero bits, then 2^5; Value: 2 length bytes for the tag.
  EXPECT_THAT(event, HasSubstr("\x10\x80\x80\x80\x80\x80\x20"));
  EXPECT_THAT(event, HasSubstr("\x0a\xac\x02" + tag));
}

TEST(TensorBoard, BeginsAFileWithItsVersionAndWhereTheRunContinues) {
  const TempFolder folder;
  TensorBoardWriter writer(folder / "tb", 1000);
  writer.scalar("loss", 1001, 2.5);
  writer.close();
  EXPECT_THAT(writer.path().filename().string(), testing::StartsWith("events.out.tfevents."));
  const auto events = payloads(read_file(writer.path()));
  ASSERT_EQ(events.size(), 3U);
  EXPECT_THAT(events[0], testing::EndsWith("brain.Event:2"));
  EXPECT_EQ(hex(events[1].substr(9)), "10e8073a020801");  // step 1000, SessionLog START
  EXPECT_EQ(hex(events[2].substr(9)), "10e9072a0d0a0b0a046c6f73731500002040");
}

TEST(TensorBoard, GivesEveryWriterAFileOfItsOwn) {
  const TempFolder folder;
  const TensorBoardWriter first(folder.path());
  const TensorBoardWriter second(folder.path());
  EXPECT_NE(first.path(), second.path());
}

TEST(TensorBoard, WritesWhatIsLeftWhenItIsDestroyed) {
  const TempFolder folder;
  Path path;
  {
    TensorBoardWriter writer(folder.path());
    path = writer.path();
    for (int i = 0; i < 5000; ++i) writer.scalar("loss", i, i);
  }
  EXPECT_EQ(payloads(read_file(path)).size(), 5002U);
}

TEST(TensorBoard, SaysWhenTheDiskIsFullAndDoesNotThrowFromItsDestructor) {
  const TempFolder folder;
  set_log_level(LogLevel::off);
  {
    TensorBoardWriter writer(folder.path());
    writer.scalar("loss", 1, 1.0);
    const FaultyFiles full(0);
    EXPECT_THAT(message_of([&] { writer.flush(); }, ErrorKind::failed), HasSubstr("No space left"));
  }
  auto writer = std::make_unique<TensorBoardWriter>(folder.path());
  writer->scalar("loss", 1, 1.0);
  const FaultyFiles full(0);
  EXPECT_NO_THROW(writer.reset());
  set_log_level(LogLevel::info);
}

}  // namespace
}  // namespace cairn
