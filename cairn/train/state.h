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
  std::vector<double> window;       // of the spike detector
  std::vector<double> last_losses;  // of the last 64 steps, for people
  std::vector<double> last_rates;

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
