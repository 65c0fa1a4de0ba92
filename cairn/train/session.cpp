#include "cairn/train/session.h"

#include <fmt/core.h>

#include <algorithm>

#include "cairn/base/error.h"
#include "cairn/base/hash.h"
#include "cairn/base/log.h"
#include "cairn/base/progress.h"
#include "cairn/base/suggest.h"
#include "cairn/text/tokenizer_json.h"
#include "cairn/train/plan.h"
#include "cairn/train/trainer.h"

namespace cairn {
namespace {

bool has_checkpoint(const RunFolder& folder) {
  return std::filesystem::is_directory(folder.checkpoints()) &&
         !CheckpointStore(folder.checkpoints(), CheckpointStore::Access::look).steps().empty();
}

// Each key of --allow exists and may be allowed.
void check_allowed(const TrainConfig& config, const std::vector<std::string>& allow) {
  TrainConfig copy = config;
  std::vector<std::string> names;
  for (const ConfigKey& key : config_keys(copy))
    if (!key.fixed) names.push_back(key.name);
  for (const std::string& name : allow)
    if (std::find(names.begin(), names.end(), name) == names.end())
      throw Error({.kind = ErrorKind::usage,
                   .doing = "reading --allow",
                   .subject = name,
                   .expected = "a key that a run can be resumed with another value of",
                   .hint = did_you_mean(name, names)});
}

[[noreturn]] void refuse_change(const RunFolder& folder, const std::string& changes,
                                const std::string& hint) {
  throw Error({.kind = ErrorKind::usage,
               .doing = "resuming " + folder.root.string(),
               .expected = "the same values as when the run began",
               .found = changes,
               .hint = hint});
}

// Compares with the run that the folder already holds.
void check_against_earlier(const TrainConfig& config, const RunFolder& folder,
                           const std::vector<std::string>& allow) {
  if (!std::filesystem::exists(folder.config())) return;
  if (!has_checkpoint(folder)) return;  // nothing to be true to
  const TrainConfig earlier =
      parse_config(read_file(folder.config(), uint64_t{1} << 20), folder.config().string(), {});
  std::string broken, asked, flags;
  for (const ConfigDifference& d : compare_configs(earlier, config)) {
    const std::string text = fmt::format("{} was {}, is {}", d.key, d.before, d.after);
    const bool allowed = std::find(allow.begin(), allow.end(), d.key) != allow.end();
    if (d.fixed) {
      broken += (broken.empty() ? "" : "; ") + text;
    } else if (d.ask && !allowed) {
      asked += (asked.empty() ? "" : "; ") + text;
      flags += " --allow " + d.key;
    } else if (d.key != "run.folder") {
      log_info("changed since the last session: " + text);
    }
  }
  if (!broken.empty()) refuse_change(folder, broken, "give another run.folder to start a new run");
  if (!asked.empty())
    refuse_change(folder, asked,
                  "it changes what the run gives; to want that:" + flags +
                      ", or another run.folder for a new run");
}

// The finished model where other programs look for one.
void export_model(const Model& model, const Path& folder, const std::vector<Path>& companions) {
  make_folders(folder);
  for (const Path& file : companions) copy_durably(file, folder / file.filename());
  save_model(model, folder, DType::f32);
}

void announce(const TrainConfig& config, const ModelConfig& model, const DatasetInfo& data,
              int threads, const MemoryPlan& memory) {
  log_info(fmt::format(
      "{}: {} parameters, {} tokens a step, {}, {} thread{}, {} of memory; {}", config.run.folder,
      format_count(static_cast<double>(parameter_count(model))),
      format_count(static_cast<double>(config.batch.tokens_per_step)), config.run.precision,
      threads, threads == 1 ? "" : "s", format_bytes(memory.total()),
      config.data.task.name.empty()
          ? format_count(static_cast<double>(data.training.tokens)) + " training tokens"
          : "the task " + config.data.task.name));
}

// A model that brings its own tokenizer is trained on tokens of that one.
void check_tokenizer(const SessionOptions& options, const DatasetInfo& data) {
  if (!find_tokenizer(options.from)) return;
  const uint64_t own = load_tokenizer(options.from).fingerprint();
  if (own == data.tokenizer) return;
  throw Error({.kind = ErrorKind::data,
               .doing = "beginning from " + options.from.string(),
               .subject = "tokenizer",
               .expected = "the one that made the dataset, " + hex64(data.tokenizer),
               .found = hex64(own),
               .hint = "cairn data pack --tokenizer " + options.from.string()});
}

ModelConfig model_to_train(const Beginning& beginning, const DatasetInfo& data) {
  if (!beginning.model) return planned_model(beginning.config, data);
  ModelConfig model = *beginning.model;
  if (model.vocab_size < data.vocab_size)
    throw Error({.kind = ErrorKind::data,
                 .doing = "beginning from " + beginning.start->folder.string(),
                 .subject = "vocabulary",
                 .expected = fmt::format("at least the {} tokens of the dataset", data.vocab_size),
                 .found = std::to_string(model.vocab_size)});
  if (data.eos_id >= 0) model.eos_ids = {data.eos_id};
  return model;
}

SessionResult result_of(const Trainer& trainer, Trainer::Outcome outcome) {
  return {
      .finished = outcome == Trainer::Outcome::finished,
      .stop_reason = trainer.stop_reason(),
      .step = trainer.state().step,
      .model_step = trainer.out_of_patience() ? trainer.state().best_step : trainer.state().step,
      .checkpoint = trainer.last_checkpoint(),
      .held_out_loss = trainer.last_evaluation().loss,
      .accuracy = trainer.last_evaluation().accuracy,
      .bits_per_byte = trainer.last_evaluation().bits_per_byte};
}

}  // namespace

SessionResult train(const TrainConfig& wanted, const SessionOptions& options) {
  const Beginning beginning = resolve_beginning(wanted, options);
  const TrainConfig& config = beginning.config;
  check_allowed(config, options.allow);
  const TrainingData data =
      open_data(config, beginning.model ? beginning.model->decoder_start_id : std::nullopt);
  if (!options.from.empty()) check_tokenizer(options, data.info);
  ThreadTeam team(static_cast<int>(config.run.threads));
  const ModelConfig model = model_to_train(beginning, data.info);
  const MemoryPlan memory = plan_memory(config, model, team.size());
  require_memory(memory);
  const RunFolder folder{config.run.folder};
  make_folders(folder.root);
  const FileLock lock(folder.lock());
  check_against_earlier(config, folder, options.allow);
  record_beginning(beginning);
  write_file_atomically(folder.config(), print_config(config));
  announce(config, model, data.info, team.size(), memory);
  const std::vector<Path> companions = tokenizer_files(config.data.folder);
  Trainer trainer({.config = config,
                   .data = *data.source,
                   .team = team,
                   .model = model,
                   .folder = folder,
                   .companions = companions,
                   .peak_gflops = measured_peak(config, team),
                   .deadline = options.deadline,
                   .start = beginning.start,
                   .accept_other_data = std::find(options.allow.begin(), options.allow.end(),
                                                  "data.folder") != options.allow.end()});
  SessionResult result = result_of(trainer, trainer.run());
  if (!result.finished) return result;
  result.model = folder.model();
  if (result.model_step < result.step)
    export_model(load_model(trainer.best_checkpoint()), folder.model(), companions);
  else
    export_model(trainer.model(), folder.model(), companions);
  return result;
}

}  // namespace cairn
