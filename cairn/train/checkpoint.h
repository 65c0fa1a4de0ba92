// A training run on disk: weights, moments and counters of one step, in a folder that also opens
// for inference.
//   model.safetensors, config.json, generation_config.json   f32, Hugging Face names
//   tokenizer.json, tokenizer_config.json                    copied
//   optim.safetensors   NAME.exp_avg and NAME.exp_avg_sq for every tensor
//   trainer.json        TrainState and what made it
//   MANIFEST            train/checkpoint_store.h
#pragma once

#include "cairn/model/model.h"
#include "cairn/train/checkpoint_store.h"
#include "cairn/train/optimizer.h"
#include "cairn/train/state.h"

namespace cairn {

// What a checkpoint is made of; all borrowed. The moments are laid out like the weights.
struct CheckpointParts {
  const Model& model;
  std::span<const float> first_moments, second_moments;
  const TrainState& state;
};

// What a checkpoint is restored into; all borrowed.
struct TrainedParts {
  Model& model;
  Optimizer& optimizer;
  TrainState& state;
};

// Bytes that save_checkpoint will write, with a little room.
uint64_t checkpoint_bytes(const Model& model);

// Writes checkpoint parts.state.step and answers its folder. `companions` are copied beside the
// weights (tokenizer files). Errors as CheckpointStore::write.
Path save_checkpoint(CheckpointStore& store, const CheckpointParts& parts,
                     const CheckpointFacts& facts, const std::vector<Path>& companions);

// Restores everything from a checkpoint folder, bit for bit. Throws Error (checkpoint or data)
// naming file and tensor when something does not fit the model; the parts are then half restored
// and not to be used.
void restore_checkpoint(const Path& folder, TrainedParts parts, CheckpointFacts& facts);

// Copies a file through the file layer.
void copy_durably(const Path& from, const Path& to);

}  // namespace cairn
