// Asking a run to end: SIGINT, SIGTERM, SIGUSR1, a file named STOP in its folder, or a deadline.
// The run then finishes its step and saves. A second signal ends the process at once.
#pragma once

#include <chrono>
#include <string>

#include "cairn/base/file.h"

namespace cairn {

using Deadline = std::chrono::steady_clock::time_point;
inline constexpr Deadline kNoDeadline = Deadline::max();

// Watches while it lives; the handlers that were there before come back with its end. At most one
// at a time in a process.
class StopRequest {
 public:
  explicit StopRequest(const Path& stop_file, Deadline deadline = kNoDeadline);
  ~StopRequest();
  StopRequest(const StopRequest&) = delete;
  StopRequest& operator=(const StopRequest&) = delete;

  // Why the run should end ("SIGTERM", "the file runs/a/STOP", "the time limit"), or empty. Looks
  // at the file at most twice a second; the file is removed when it is found.
  std::string reason();

 private:
  Path stop_file_;
  Deadline deadline_;
  std::string reason_;
  double next_look_ = 0;
};

}  // namespace cairn
