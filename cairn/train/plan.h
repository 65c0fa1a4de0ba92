// What a configuration amounts to once the data is known: the model, the memory, the loader.
#pragma once

#include <memory>
#include <optional>

#include "cairn/data/loader.h"
#include "cairn/train/batch_source.h"
#include "cairn/train/config.h"

namespace cairn {

// What a run trains on: a dataset folder or a synthetic task.
struct TrainingData {
  std::unique_ptr<BatchSource> source;
  DatasetInfo info;  // of a task: its vocabulary only
};
// Throws Error (usage) when neither is configured; else as DatasetSource and make_task() do.
// `start_id`: of an encoder-decoder, which trains on pairs and on nothing else (Error (usage)).
TrainingData open_data(const TrainConfig& config, std::optional<int32_t> start_id = {});

LoaderOptions loader_options(const TrainConfig& config);
TrainingShape training_shape(const TrainConfig& config);

// The model that is trained on `data`. Throws Error (usage) when its parts do not fit together.
ModelConfig planned_model(const TrainConfig& config, const DatasetInfo& data);

// Bytes of the whole process, about.
struct MemoryPlan {
  TrainingMemory network;
  uint64_t optimizer = 0;
  uint64_t staging = 0;  // the copy that checkpoints are written from
  uint64_t process = 0;  // the program, compiled kernels, batches
  uint64_t total() const { return network.total() + optimizer + staging + process; }
};
MemoryPlan plan_memory(const TrainConfig& config, const ModelConfig& model, int threads);
// Throws Error (failed) with the parts of the plan when it does not fit into what is available.
void require_memory(const MemoryPlan& plan);

// The multiply-add peak of this machine for the precision in use, in GFLOP/s; takes a tenth of a
// second.
double measured_peak(const TrainConfig& config, ThreadTeam& team);

}  // namespace cairn
