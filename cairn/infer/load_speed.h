// Measures what passes from opening a model to the logits of its first token, part by part.
#pragma once

#include "cairn/base/file.h"
#include "cairn/base/thread_team.h"
#include "cairn/infer/engine.h"

namespace cairn {

// In seconds.
struct LoadTimes {
  // All of it as TextModel does it, to the logits behind one token.
  double total = 0;
  // Its parts one after another; TextModel does some of them side by side.
  double tokenizer = 0;    // read and indexed
  double weights = 0;      // found and checked where they are stored
  double program = 0;      // packed, and memory taken for activations
  double first_token = 0;  // caches taken and one pass
};

// Opens a model folder or GGUF file twice, first as a whole. Throws what TextModel throws.
LoadTimes measure_load(const Path& model, ThreadTeam& team, const EngineOptions& options);

}  // namespace cairn
