// What a training run must remember besides weights and moments: trainer.json of a checkpoint.
// Random streams and the order of the data are pure functions of counters, so there is little.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "cairn/io/json.h"

namespace cairn {

struct TrainState {
  uint64_t step = 0;                // optimiser steps done
  uint64_t tokens = 0;              // tokens trained
  uint64_t sample = 0;              // next sample of the corpus
  double elapsed = 0;               // seconds of training, evaluations and checkpoints included
  double position = 0;              // of the schedule at the last step: tokens, or seconds
  double loss_average = 0;          // exponential, over about 50 steps
  double best_held_out = 0;         // lowest held-out loss; only if best_step is set
  uint64_t best_step = 0;           // 0: none yet
  bool evaluated = false;           // whether this step's weights have been evaluated
  uint64_t skipped = 0;             // steps whose update was dropped
  uint64_t skips_in_a_row = 0;      // of the last steps
  uint64_t rewinds = 0;             // times that a spike sent the run back to a checkpoint
  uint64_t stale = 0;               // evaluations since the best one
  std::vector<double> window;       // of the spike detector of the losses,
  std::vector<double> norm_window;  // and of that of the gradient's norms
  std::vector<double> last_losses;  // of the last 64 steps, for people
  std::vector<double> last_rates;

  // Updates of the weights: steps that a spike did not make skip theirs.
  uint64_t updates() const { return step - skipped; }
  void remember(double loss, double lr);
};

// Also says which program, instruction set and configuration made the checkpoint.
struct CheckpointFacts {
  uint64_t data_fingerprint = 0;
  std::string config;  // resolved, TOML
};

Json state_to_json(const TrainState& state, const CheckpointFacts& facts);
// Throws Error (data) naming the field that is absent or wrong.
TrainState state_from_json(const Json& json, const std::string& source, CheckpointFacts& facts);

}  // namespace cairn
