// What a run would take, before it is begun: writes nothing.
#pragma once

#include <string>

#include "cairn/train/config.h"
#include "cairn/train/plan.h"

namespace cairn {

struct DryRun {
  ModelConfig model;
  uint64_t parameters = 0;
  DatasetInfo data;
  uint64_t samples = 0;  // an epoch
  MemoryPlan memory;
  uint64_t available_bytes = 0;
  double flops_per_token = 0;
  double peak_gflops = 0;
  double tokens_per_second = 0;  // of training steps
  double step_seconds = 0;
  double eval_seconds = 0;  // of one evaluation
  double seconds = 0;       // of the whole run, evaluations included
  uint64_t steps = 0;       // predicted when the run has a time budget
  double first_lr = 0, last_lr = 0;

  double epochs() const;  // 0 where data have no end
  uint64_t tokens_per_step = 0;
};

// Opens the data, then times a few real micro-batches and optimiser steps of the configured shape
// on it (about two seconds, or three micro-batches if these are slow). Throws Error as train()
// would before its first step: also when the run needs more memory than there is.
DryRun dry_run(const TrainConfig& config);

// For people: the tensors, the memory by kind, the speed, the time.
std::string describe(const DryRun& run);

}  // namespace cairn
