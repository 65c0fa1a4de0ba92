// Where the parts of a training run lie. A run is one folder; everything else that shows runs
// (plots, reports) is made from it and can be made again.
//
//   config.toml        the resolved configuration
//   metrics.jsonl      a line a step, and one an evaluation
//   checkpoints/       step-00001234/, latest
//   tensorboard/       event files
//   model/             the finished model, a Hugging Face folder
//   STOP               create it, and the run saves and ends after the current step
//   lock               held by the process that trains
//   parent.json        what the run began from, if not from nothing (runs/lineage.h)
//   branches.jsonl     runs that began from this one
#pragma once

#include "cairn/base/file.h"

namespace cairn {

struct RunFolder {
  Path root;

  Path config() const { return root / "config.toml"; }
  Path metrics() const { return root / "metrics.jsonl"; }
  Path checkpoints() const { return root / "checkpoints"; }
  Path tensorboard() const { return root / "tensorboard"; }
  Path model() const { return root / "model"; }
  Path stop_file() const { return root / "STOP"; }
  Path lock() const { return root / "lock"; }
  Path parent() const { return root / "parent.json"; }
  Path branches() const { return root / "branches.jsonl"; }
};

}  // namespace cairn
