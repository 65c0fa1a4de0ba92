#include "cairn/train/plan.h"

#include <fmt/core.h>

#include "cairn/base/error.h"
#include "cairn/base/progress.h"
#include "cairn/kernels/peak.h"
#include "cairn/train/checkpoint_writer.h"
#include "cairn/train/dataset_source.h"
#include "cairn/train/pair_source.h"
#include "cairn/train/task_source.h"

namespace cairn {
namespace {

constexpr uint64_t kProcessBytes = uint64_t{96} << 20;

}  // namespace

namespace {

void check_kind(const TrainConfig& config, bool pairs, bool reads_a_source) {
  if (pairs == reads_a_source) return;
  throw Error(
      {.kind = ErrorKind::usage,
       .doing = "reading " + config.name,
       .subject = config.data.folder.empty() ? "data.task" : "data.folder",
       .expected = reads_a_source ? "pairs, for an encoder-decoder" : "texts, for a decoder",
       .found = pairs ? "pairs" : "texts",
       .hint = reads_a_source ? "cairn data pack --pairs makes them"
                              : "begin from an encoder-decoder: --from FOLDER"});
}

}  // namespace

TrainingData open_data(const TrainConfig& config, std::optional<int32_t> start_id) {
  if (!config.data.task.name.empty()) {
    check_kind(config, false, start_id.has_value());
    auto source =
        std::make_unique<TaskSource>(config.data.task, config.batch.micro_batch, config.data.seed);
    const uint64_t vocab_size = source->task().vocab_size();
    return {std::move(source), {.vocab_size = vocab_size}};
  }
  if (config.data.folder.empty())
    throw Error({.kind = ErrorKind::usage,
                 .doing = "reading " + config.name,
                 .subject = "data.folder",
                 .expected = "a folder that `cairn data pack` wrote, or a data.task",
                 .found = "nothing"});
  DatasetInfo facts = read_dataset_info(config.data.folder);
  check_kind(config, facts.pairs, start_id.has_value());
  if (facts.pairs)
    return {std::make_unique<PairSource>(config.data.folder, config.batch.micro_batch,
                                         PairOptions{.length = config.batch.seq_len,
                                                     .start_id = *start_id,
                                                     .seed = config.data.seed}),
            std::move(facts)};
  auto source = std::make_unique<DatasetSource>(config.data.folder, loader_options(config));
  DatasetInfo info = source->info();
  return {std::move(source), std::move(info)};
}

LoaderOptions loader_options(const TrainConfig& config) {
  return {.sequences = config.batch.micro_batch,
          .length = config.batch.seq_len,
          .seed = config.data.seed,
          .mask_documents = config.data.cross_document_attention == "mask"};
}

TrainingShape training_shape(const TrainConfig& config) {
  return {.sequences = config.batch.micro_batch,
          .length = config.batch.seq_len,
          .precision = config.precision(),
          .whole_step = config.batch.accumulation() == 1};
}

ModelConfig planned_model(const TrainConfig& config, const DatasetInfo& data) {
  ModelConfig model = config.model_config(data.vocab_size);
  if (data.eos_id >= 0) model.eos_ids = {data.eos_id};
  check_config(model);
  return model;
}

MemoryPlan plan_memory(const TrainConfig& config, const ModelConfig& model, int threads) {
  MemoryPlan plan;
  plan.network = LanguageModel::memory(model, training_shape(config), threads);
  plan.optimizer = Optimizer::memory(plan.network.weights / sizeof(float));
  if (config.checkpoint.background) plan.staging = CheckpointWriter::memory(plan.network.weights);
  plan.process = kProcessBytes;
  return plan;
}

void require_memory(const MemoryPlan& plan) {
  const uint64_t available = available_memory();
  if (plan.total() <= available) return;
  throw Error(
      {.kind = ErrorKind::failed,
       .doing = "planning the run",
       .subject = "memory",
       .expected = "at most " + format_bytes(available) + " (what is available)",
       .found = fmt::format(
           "{}: weights {}, gradients {}, moments {}, activations {}, copy for checkpoints {}, the "
           "rest {}",
           format_bytes(plan.total()), format_bytes(plan.network.weights),
           format_bytes(plan.network.gradients), format_bytes(plan.optimizer),
           format_bytes(plan.network.activations), format_bytes(plan.staging),
           format_bytes(plan.process)),
       .hint = "a smaller batch.micro_batch takes less for activations, checkpoint.background = "
               "false none for the copy"});
}

double measured_peak(const TrainConfig& config, ThreadTeam& team) {
  return measure_peak(config.precision() == Precision::bf16 ? PeakKind::bf16 : PeakKind::f32, team,
                      0.1);
}

}  // namespace cairn
