// TensorBoard event files with scalars, so that `tensorboard --logdir runs` shows a training run.
// A file is a row of TFRecords: u64 length | masked CRC-32C of it | payload | masked CRC-32C of the
// payload; a payload is a protobuf Event {1: wall_time, 2: step, and one of 3: file_version,
// 5: Summary, 7: SessionLog}.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "cairn/base/file.h"

namespace cairn {

// CRC-32C (Castagnoli; reflected polynomial 0x82F63B78). "123456789" gives 0xe3069283.
uint32_t crc32c(std::string_view bytes);

// One TFRecord around `payload`.
std::string tfrecord(std::string_view payload);

// Serialised Events. `wall_time` in seconds since 1970.
std::string version_event(double wall_time);
std::string scalar_event(double wall_time, int64_t step, std::string_view tag, float value);
// SessionLog START: viewers drop what an earlier process wrote for this step and later ones.
std::string start_event(double wall_time, int64_t step);

// Writes one new event file, named events.out.tfevents.TIME.HOST.PID.N, into a run's folder. One
// folder a run, one writer a process start. Not thread-safe.
class TensorBoardWriter {
 public:
  // Makes `folder` if need be. `first_step` is where the run continues (0: from the start): it is
  // announced so that curves do not overlap after a resume. Throws Error (failed).
  explicit TensorBoardWriter(const Path& folder, int64_t first_step = 0);
  // Writes what is left; a failure then is logged, not thrown. Call close() to hear of it.
  ~TensorBoardWriter();
  TensorBoardWriter(const TensorBoardWriter&) = delete;
  TensorBoardWriter& operator=(const TensorBoardWriter&) = delete;

  // Steps must not fall within one tag. Buffered, without allocating; the wall time is now.
  void scalar(std::string_view tag, int64_t step, double value);
  // Hands everything so far to the operating system. Throws Error (failed).
  void flush();
  void close();

  const Path& path() const { return path_; }

 private:
  Path path_;
  std::optional<FileWriter> writer_;
  // Events that wait, those on their way to the file, and the one being made: kept for their
  // memory.
  std::string buffer_, sending_, payload_;
};

}  // namespace cairn
