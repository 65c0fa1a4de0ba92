// `cairn train` without the command line: from a configuration to a finished run folder, or to one
// that can be continued.
#pragma once

#include "cairn/train/beginning.h"
#include "cairn/train/config.h"
#include "cairn/train/stop_request.h"

namespace cairn {

struct SessionResult {
  bool finished = false;    // else stopped on request, resumable
  std::string stop_reason;  // why, if stopped
  uint64_t step = 0;
  Path model;               // the exported Hugging Face folder, if finished
  uint64_t model_step = 0;  // whose weights it holds: earlier than `step` when patience ran out
  Path checkpoint;
  double held_out_loss = 0;  // nats a token; 0 if not evaluated in this session
  double accuracy = 0;       // of the likeliest token, in the same evaluation
  double bits_per_byte = 0;
};

// Trains in config.run.folder, which one process at a time may use. Continues when the folder holds
// a run, and begins as `options` say when it does not. Keys that must not change are compared first
// (Error usage, naming each), changes of those that change results need options.allow, others are
// logged. Throws Error: usage, data, diverged (NaN or spike), checkpoint, failed (memory, disk).
SessionResult train(const TrainConfig& config, const SessionOptions& options = {});

}  // namespace cairn
