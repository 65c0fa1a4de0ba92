// How well a model answers: its likeliest token at each position where one is asked for, on
// synthetic tasks (data/tasks) and on text.
#pragma once

#include <map>

#include "cairn/base/function_ref.h"
#include "cairn/data/tasks/task.h"
#include "cairn/nn/language_model.h"

namespace cairn {

struct ScoreOptions {
  Precision precision = Precision::f32;
  // Options of the attention mechanism that are other than in training.
  std::map<std::string, OptionValue> attention = {};
};

// Scores `sequences` sequences of `length` tokens that `batches` gives. They may be longer than the
// model's context, and options.attention may change what the model computes: both on a copy. Throws
// Error (usage) when the mechanism refuses the options, Error (data) when there are tokens that the
// model does not know.
TaskScore score_batches(const Model& model, size_t length, uint64_t sequences,
                        FunctionRef<Batch(uint64_t first, uint64_t count)> batches,
                        const ScoreOptions& options, ThreadTeam& team);

// The same on test samples of a task, which training never draws.
TaskScore score_task(const Model& model, const Task& task, uint64_t sequences,
                     const ScoreOptions& options, ThreadTeam& team);

}  // namespace cairn
