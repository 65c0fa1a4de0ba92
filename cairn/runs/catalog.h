// What run folders tell about their runs. Read from their files alone, so it can be asked while
// they are being trained, and for runs that came from another machine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/runs/lineage.h"
#include "cairn/runs/run_folder.h"

namespace cairn {

enum class RunState { begun, running, stopped, finished };
std::string_view run_state_name(RunState state);

struct RunSummary {
  RunFolder folder;
  RunState state = RunState::begun;
  uint64_t step = 0;  // of the last line of training
  uint64_t tokens = 0;
  double seconds = 0;            // of training
  double tokens_per_second = 0;  // median of the last 100 steps that were noted
  std::optional<double> loss;    // exponential average, nats a token
  std::optional<double> held_out_loss, bits_per_byte;  // of the last evaluation
  std::optional<double> best_held_out;
  uint64_t best_step = 0;
  uint64_t skipped = 0, rewinds = 0;  // updates dropped and ways back because of spikes
  std::vector<uint64_t> checkpoints;  // steps, rising
  std::optional<RunParent> parent;
};

// Whether `folder` is that of a run: it has a resolved configuration and metrics.
bool is_run(const Path& folder);

// Throws Error (data) when `folder` is no run, or naming the file that is damaged.
RunSummary summarize_run(const Path& folder);

// The runs below `root`, itself included, sorted by path; runs are not looked for inside runs.
// Throws Error (data) when there is no such folder.
std::vector<Path> find_runs(const Path& root);

}  // namespace cairn
