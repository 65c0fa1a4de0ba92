// Where a run came from, and where others went out from it: `parent.json` in the folder of a run
// that began from another one or from a model, and `branches.jsonl`, a line for each that began
// here, so that the checkpoint it began from is kept.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cairn/runs/run_folder.h"

namespace cairn {

struct RunParent {
  std::string how;      // "branch", "cooldown", or "weights" of a model
  Path folder;          // of the parent run, or of the model; absolute
  uint64_t step = 0;    // branch, cooldown: the step of the parent that this run goes on from
  uint64_t tokens = 0;  // and the tokens trained until then
};

// Nothing when the run has no parent. Throws Error (data) naming file and field.
std::optional<RunParent> read_parent(const RunFolder& folder);
void write_parent(const RunFolder& folder, const RunParent& parent);

// Notes in `parent` that `child` begins at its step `step`, unless it is noted already. Lines are
// appended whole, so a parent that is being trained may be branched from.
void add_branch_point(const RunFolder& parent, uint64_t step, const Path& child);
// The steps noted there, rising; a line that is none is passed over.
std::vector<uint64_t> branch_points(const RunFolder& parent);

}  // namespace cairn
