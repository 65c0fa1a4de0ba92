// Where a run begins: from nothing, from the weights of a model (warm start), or from a checkpoint
// of another run (branch, cooldown). Hu et al. 2024 (MiniCPM), arXiv:2404.06395, section 4, on one
// long run at a constant rate from which cooldowns branch off.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cairn/runs/lineage.h"
#include "cairn/train/config.h"
#include "cairn/train/trainer.h"

namespace cairn {

struct SessionOptions {
  Path from;                        // a model folder whose weights the run begins with
  Path branch;                      // a run folder whose checkpoint the run goes on from
  std::optional<uint64_t> at;       // branch: the checkpoint's step; else the newest
  std::optional<Portion> cooldown;  // branch: let the rate decay over so much, then end
  std::vector<std::string> allow;   // keys that a resumed run may change although results change
  Deadline deadline = kNoDeadline;  // save and stop then, as if asked to
};

struct Beginning {
  TrainConfig config;                // with what follows from the beginning
  std::optional<ModelConfig> model;  // what `from` describes
  std::optional<StartingPoint> start;
  std::optional<RunParent> parent;
};

// Resolves `options` against `config`; writes nothing. A run folder that has a parent already keeps
// it: the same command goes on. Throws Error (usage) when the options do not fit together, the
// model or the earlier run is not what `config` describes, or there is no constant rate to cool
// down from; Error (data, checkpoint) when model or checkpoint cannot be read.
Beginning resolve_beginning(TrainConfig config, const SessionOptions& options);

// Notes the parent in the run's folder, and the branch in the parent's.
void record_beginning(const Beginning& beginning);

}  // namespace cairn
