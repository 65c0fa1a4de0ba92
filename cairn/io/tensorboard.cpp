#include "cairn/io/tensorboard.h"

#include <fmt/core.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <bit>
#include <chrono>

#include "cairn/base/error.h"
#include "cairn/base/log.h"

namespace cairn {
namespace {

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit)
      remainder = remainder >> 1 ^ ((remainder & 1U) != 0 ? 0x82F63B78U : 0U);
    table[byte] = remainder;
  }
  return table;
}

constexpr std::array<uint32_t, 256> kCrcTable = make_crc_table();

constexpr size_t kBuffered = size_t{1} << 16;  // bytes of events that wait for the file

template <class Word>
void put_word(std::string& out, Word word) {  // little-endian
  for (size_t i = 0; i < sizeof word; ++i) out += static_cast<char>(word >> (8 * i) & 0xFFU);
}

void put_masked_crc(std::string& out, std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  put_word(out, std::rotr(crc, 15) + 0xA282EAD8U);
}

// The protobuf wire format, as far as events need it.
void put_varint(std::string& out, uint64_t value) {
  while (value >= 0x80U) {
    out += static_cast<char>((value & 0x7FU) | 0x80U);
    value >>= 7;
  }
  out += static_cast<char>(value);
}

enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

void put_tag(std::string& out, uint32_t field, WireType type) {
  put_varint(out, field << 3 | type);
}

void put_bytes(std::string& out, uint32_t field, std::string_view bytes) {
  put_tag(out, field, kBytes);
  put_varint(out, bytes.size());
  out += bytes;
}

// Wall time and step; protobuf leaves a zero step out.
void put_event_head(std::string& out, double wall_time, int64_t step) {
  put_tag(out, 1, kFixed64);
  put_word(out, std::bit_cast<uint64_t>(wall_time));
  if (step != 0) {
    put_tag(out, 2, kVarint);
    put_varint(out, static_cast<uint64_t>(step));
  }
}

size_t varint_size(uint64_t value) {
  size_t bytes = 1;
  while ((value >>= 7) != 0) ++bytes;
  return bytes;
}

// Messages inside messages open with their size, so it is worked out first.
void put_scalar_event(std::string& out, double wall_time, int64_t step, std::string_view tag,
                      float value) {
  const size_t scalar = 1 + varint_size(tag.size()) + tag.size() + 1 + sizeof value;
  put_event_head(out, wall_time, step);
  put_tag(out, 5, kBytes);
  put_varint(out, 1 + varint_size(scalar) + scalar);
  put_tag(out, 1, kBytes);
  put_varint(out, scalar);
  put_bytes(out, 1, tag);
  put_tag(out, 2, kFixed32);
  put_word(out, std::bit_cast<uint32_t>(value));
}

void put_record(std::string& out, std::string_view payload) {
  const size_t begin = out.size();
  put_word(out, uint64_t{payload.size()});
  put_masked_crc(out, std::string_view(out).substr(begin));
  out += payload;
  put_masked_crc(out, payload);
}

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string host_name() {
  char name[256] = {};
  if (::gethostname(name, sizeof name - 1) != 0 || name[0] == '\0') return "localhost";
  return name;
}

// A name that no other writer has: the number tells apart those of one process and second.
Path event_path(const Path& folder) {
  static std::atomic<unsigned> count{0};
  return folder / fmt::format("events.out.tfevents.{:010}.{}.{}.{}", static_cast<int64_t>(now()),
                              host_name(), ::getpid(), count++);
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = 0xFFFFFFFFU;
  for (const char byte : bytes)
    crc = crc >> 8 ^ kCrcTable[(crc ^ static_cast<unsigned char>(byte)) & 0xFFU];
  return ~crc;
}

std::string tfrecord(std::string_view payload) {
  std::string out;
  put_record(out, payload);
  return out;
}

std::string version_event(double wall_time) {
  std::string out;
  put_event_head(out, wall_time, 0);
  put_bytes(out, 3, "brain.Event:2");
  return out;
}

std::string scalar_event(double wall_time, int64_t step, std::string_view tag, float value) {
  std::string out;
  put_scalar_event(out, wall_time, step, tag, value);
  return out;
}

std::string start_event(double wall_time, int64_t step) {
  std::string out;
  put_event_head(out, wall_time, step);
  put_bytes(out, 7, "\x08\x01");  // SessionLog {1: status = START}
  return out;
}

TensorBoardWriter::TensorBoardWriter(const Path& folder, int64_t first_step) {
  make_folders(folder);
  path_ = event_path(folder);
  writer_.emplace(path_);
  for (std::string* part : {&buffer_, &sending_}) part->reserve(2 * kBuffered);
  const double time = now();
  put_record(buffer_, version_event(time));
  put_record(buffer_, start_event(time, first_step));
  flush();
}

TensorBoardWriter::~TensorBoardWriter() {
  try {
    close();
  } catch (const Error& error) {
    log_warning(error.what());
  }
}

void TensorBoardWriter::scalar(std::string_view tag, int64_t step, double value) {
  payload_.clear();
  put_scalar_event(payload_, now(), step, tag, static_cast<float>(value));
  put_record(buffer_, payload_);
  if (buffer_.size() > kBuffered) flush();
}

void TensorBoardWriter::flush() {
  if (!writer_) return;
  // Dropped first: after a failed write the file may hold a part, and another try would garble it.
  sending_.swap(buffer_);
  buffer_.clear();
  writer_->write(sending_);
}

void TensorBoardWriter::close() {
  if (!writer_) return;
  flush();
  writer_->close();
  writer_.reset();
}

}  // namespace cairn
