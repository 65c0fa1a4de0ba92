// The results of a study: a JSON-lines file, a line for each finished run, only ever appended to. A
// later line about the same run counts for the earlier.
//
//   {"study", "mechanism", "attention", "options", "task", "seed", "lr", "steps", "tokens",
//    "seconds", "parameters", "precision", "threads", "config", "version",
//    "held_out": {"loss", "accuracy"}, "curve": {"tokens", "loss", "accuracy"},
//    "scores": {TEST: {"test", "length", "sequences", "whole", "targets", "right", "loss",
//                      "seconds"}}}
//
// Where attention may leave keys unread, a score also has the share "visited" of those that the
// causal mask leaves, and the mean weight that no key got, "remainder".
// "config" is a hash of everything that decides what the run learns, "test" one of what it is
// tested on. A run whose loss left the numbers has "diverged" in place of scores.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "cairn/base/file.h"
#include "cairn/io/json.h"

namespace cairn {

class StudyResults {
 public:
  // Reads `file` if it is there; a torn last line is cut off at the first append(). Throws Error
  // (data) naming file and line when another line is not a result.
  explicit StudyResults(const Path& file);

  // The newest line about the run with that configuration hash; null when there is none.
  const Json* find(const std::string& config) const;
  size_t size() const { return by_config_.size(); }

  // Adds a line, on its way to the disk when this returns.
  void append(const Json& line);

 private:
  Path file_;
  uint64_t whole_bytes_ = 0;  // of lines that end
  bool torn_ = false;
  std::map<std::string, Json> by_config_;
};

}  // namespace cairn
