// What people and tools see of a run while it goes: the progress line, metrics.jsonl and
// TensorBoard. Never touches the state of training.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "cairn/base/progress.h"
#include "cairn/runs/metrics.h"
#include "cairn/runs/run_folder.h"
#include "cairn/train/config.h"
#include "cairn/train/state.h"

namespace cairn {

class TensorBoardWriter;

// One optimiser step. Times in seconds.
struct StepReport {
  double loss = 0;  // mean over the step's targets, nats
  double lr = 0;
  double grad_norm = 0;    // before clipping
  double clip_factor = 1;  // what clipping multiplied by
  double spike_score = 0;
  double norm_score = 0;  // the same of the gradient's norm, if watched
  bool skipped = false;   // the update was dropped
  double epoch = 0;
  double data = 0;       // waiting for batches
  double compute = 0;    // forward and backward
  double optimizer = 0;  // norm, update
  double total = 0;      // the whole step
};

struct EvalReport {
  double loss = 0;               // nats a token
  double accuracy = 0;           // share of targets that are the likeliest token
  double sequence_accuracy = 0;  // share of windows in which all are
  double bits_per_byte = 0;      // 0: not known
  uint64_t windows = 0;
  double seconds = 0;
};

// A spike sent the run back.
struct RewindReport {
  uint64_t step = 0;          // to which it went back
  uint64_t spiked = 0;        // the step that met the spike
  uint64_t rewinds = 0;       // so far
  uint64_t first_sample = 0;  // samples [first_sample, next_sample) are passed over
  uint64_t next_sample = 0;
  std::string what;  // the spike
};

// What speeds are compared with.
struct SpeedLimits {
  double flops_per_token = 0;
  double peak_gflops = 0;  // measured on this machine for the precision in use; 0: not known
};

class Reporter {
 public:
  // Appends to the run's files. `first_step`: the step that training starts from.
  Reporter(const RunFolder& folder, const TrainConfig& config, const SpeedLimits& limits,
           uint64_t first_step);
  ~Reporter();

  // `total` is the end of the schedule in the unit of state.position.
  void step(const TrainState& state, const StepReport& report, double total);
  void evaluation(const TrainState& state, const EvalReport& report);
  void rewound(const RewindReport& report);
  // A line of its own, with the progress line out of the way.
  void say(const std::string& text);

 private:
  void write_step(const TrainState& state, const StepReport& report);
  std::string progress_text(const TrainState& state, const StepReport& report, double total) const;
  double tokens_per_second() const;  // median of the last 100 steps

  const TrainConfig& config_;
  SpeedLimits limits_;
  MetricsLog metrics_;
  ProgressLine line_;
  std::unique_ptr<TensorBoardWriter> board_;
  std::vector<double> step_seconds_;  // of the last 100 steps
  double log_seconds_ = 0;            // of the last step's report
};

}  // namespace cairn
