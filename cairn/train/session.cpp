#include "cairn/train/session.h"

#include <fmt/core.h>

#include "cairn/base/error.h"
#include "cairn/base/log.h"
#include "cairn/base/progress.h"
#include "cairn/train/dataset_source.h"
#include "cairn/train/plan.h"
#include "cairn/train/trainer.h"

namespace cairn {
namespace {

// Compares with the run that the folder already holds.
void check_against_earlier(const TrainConfig& config, const RunFolder& folder) {
  if (!std::filesystem::exists(folder.config())) return;
  if (CheckpointStore(folder.checkpoints()).steps().empty()) return;  // nothing to be true to
  const TrainConfig earlier =
      parse_config(read_file(folder.config(), uint64_t{1} << 20), folder.config().string(), {});
  std::string broken;
  for (const ConfigDifference& difference : compare_configs(earlier, config)) {
    const std::string text =
        fmt::format("{} was {}, is {}", difference.key, difference.before, difference.after);
    if (difference.fixed)
      broken += (broken.empty() ? "" : "; ") + text;
    else if (difference.key != "run.folder")
      log_info("changed since the last session: " + text);
  }
  if (!broken.empty())
    throw Error({.kind = ErrorKind::usage,
                 .doing = "resuming " + folder.root.string(),
                 .expected = "the same values as when the run began",
                 .found = broken,
                 .hint = "give another run.folder to start a new run"});
}

std::vector<Path> tokenizer_files(const Path& dataset) {
  std::vector<Path> files;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
    if (std::filesystem::is_regular_file(dataset / name)) files.push_back(dataset / name);
  return files;
}

// The finished model where other programs look for one.
void export_model(const Model& model, const Path& folder, const std::vector<Path>& companions) {
  make_folders(folder);
  for (const Path& file : companions) copy_durably(file, folder / file.filename());
  save_model(model, folder, DType::f32);
}

void announce(const TrainConfig& config, const ModelConfig& model, const DatasetSource& data,
              int threads, const MemoryPlan& memory) {
  log_info(fmt::format(
      "{}: {} parameters, {} tokens a step, {}, {} thread{}, {} of memory; {} training tokens",
      config.run.folder, format_count(static_cast<double>(parameter_count(model))),
      format_count(static_cast<double>(config.batch.tokens_per_step)), config.run.precision,
      threads, threads == 1 ? "" : "s", format_bytes(memory.total()),
      format_count(static_cast<double>(data.info().training.tokens))));
}

}  // namespace

SessionResult train(const TrainConfig& config) {
  require_data_folder(config);
  DatasetSource data(config.data.folder, loader_options(config));
  ThreadTeam team(static_cast<int>(config.run.threads));
  const ModelConfig model = planned_model(config, data.info());
  const MemoryPlan memory = plan_memory(config, model, team.size());
  require_memory(memory);
  const RunFolder folder{config.run.folder};
  make_folders(folder.root);
  const FileLock lock(folder.lock());
  check_against_earlier(config, folder);
  write_file_atomically(folder.config(), print_config(config));
  announce(config, model, data, team.size(), memory);
  const std::vector<Path> companions = tokenizer_files(config.data.folder);
  Trainer trainer({.config = config,
                   .data = data,
                   .team = team,
                   .model = model,
                   .folder = folder,
                   .companions = companions,
                   .peak_gflops = measured_peak(config, team)});
  const Trainer::Outcome outcome = trainer.run();
  SessionResult result{.finished = outcome == Trainer::Outcome::finished,
                       .stop_reason = trainer.stop_reason(),
                       .step = trainer.state().step,
                       .checkpoint = trainer.last_checkpoint(),
                       .held_out_loss = trainer.last_evaluation().loss,
                       .bits_per_byte = trainer.last_evaluation().bits_per_byte};
  if (result.finished) {
    export_model(trainer.model(), folder.model(), companions);
    result.model = folder.model();
  }
  return result;
}

}  // namespace cairn
