#include "cairn/train/beginning.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/io/json.h"
#include "cairn/model/architecture.h"

namespace cairn {
namespace {

[[noreturn]] void refuse(const std::string& doing, const std::string& subject,
                         const std::string& expected, const std::string& found,
                         const std::string& hint = "") {
  throw Error({.kind = ErrorKind::usage,
               .doing = doing,
               .subject = subject,
               .expected = expected,
               .found = found,
               .hint = hint});
}

void check_options(const SessionOptions& options) {
  if (!options.from.empty() && !options.branch.empty())
    refuse("beginning a run", "--from and --branch", "one of them", "both");
  if (options.branch.empty() && (options.at || options.cooldown))
    refuse("beginning a run", options.at ? "--at" : "--cooldown", "--branch RUN with it", "none");
}

bool given(const TrainConfig& config, const std::string& key) {
  const auto origin = config.origins.find(key);
  return origin != config.origins.end() &&
         (origin->second == Origin::file || origin->second == Origin::command_line);
}

// ---- weights of a model ----

// Makes [model] say what `model` is. A key that was given must agree; context_length may differ, as
// no weight depends on it.
void adopt(const ModelConfig& model, const Path& folder, TrainConfig& config) {
  const auto take = [&](const std::string& key, auto& target, auto value) {
    if (given(config, key) && target != value)
      refuse("beginning from " + folder.string(), key, fmt::format("{}, as the model has", value),
             fmt::format("{}", target), "leave out the key: the model's own value is taken");
    target = value;
    if (!given(config, key)) config.origins[key] = Origin::derived;
  };
  TrainConfig::ModelSection& m = config.model;
  take("model.hidden_size", m.hidden_size, uint64_t{model.hidden_size});
  take("model.layers", m.layers, uint64_t{model.layers});
  take("model.heads", m.heads, uint64_t{model.heads});
  take("model.kv_heads", m.kv_heads, uint64_t{model.kv_heads});
  take("model.head_dim", m.head_dim, uint64_t{model.head_dim});
  take("model.intermediate_size", m.intermediate_size, uint64_t{model.intermediate_size});
  take("model.experts", m.experts, uint64_t{model.experts});
  if (model.experts > 0) {
    take("model.experts_per_token", m.experts_per_token, uint64_t{model.experts_per_token});
    take("model.shared_intermediate_size", m.shared_intermediate_size,
         uint64_t{model.shared_intermediate_size});
    take("model.router_loss", m.router_loss, model.router_loss);
  }
  take("model.rms_norm_eps", m.rms_norm_eps, model.rms_norm_eps);
  take("model.tie_embeddings", m.tie_embeddings, model.tie_embeddings);
  if (!given(config, "model.context_length")) m.context_length = model.context_length;
  if (config.batch.seq_len > m.context_length)
    refuse("beginning from " + folder.string(), "batch.seq_len",
           fmt::format("at most the model's context of {}", m.context_length),
           std::to_string(config.batch.seq_len),
           "or give model.context_length, to train the model for more");
  m.attention = model.attention;
}

ModelConfig read_model_folder(const Path& folder) {
  const Path path = folder / "config.json";
  const Json document = read_json(path, uint64_t{16} << 20);
  return normalized(read_model_config(JsonField(document, path.string())));
}

void begin_from_weights(const SessionOptions& options, Beginning& out) {
  out.model = read_model_folder(options.from);
  adopt(*out.model, options.from, out.config);
  out.model->context_length = out.config.model.context_length;
  out.start = StartingPoint{.folder = options.from, .weights_only = true};
  out.parent = RunParent{.how = "weights", .folder = std::filesystem::absolute(options.from)};
}

// ---- checkpoint of a run ----

// A checkpoint's counters and the configuration that it was made under.
struct Trunk {
  TrainState state;
  TrainConfig config;
};

Trunk read_trunk(const Path& checkpoint) {
  const Path file = checkpoint / "trainer.json";
  CheckpointFacts facts;
  Trunk trunk{.state = state_from_json(read_json(file), file.string(), facts)};
  trunk.config = parse_config(facts.config, file.string(), {});
  return trunk;
}

void check_same_model(const Trunk& trunk, const TrainConfig& config, const Path& checkpoint) {
  std::string broken;
  for (const ConfigDifference& d : compare_configs(trunk.config, config))
    if (d.fixed)
      broken +=
          fmt::format("{}{} was {}, is {}", broken.empty() ? "" : "; ", d.key, d.before, d.after);
  if (!broken.empty())
    refuse("branching from " + checkpoint.string(), "", "the same model", broken,
           "--from takes the weights alone");
}

// The decay is counted from the branch: trained so far | decay over `length` | end.
void cool_down(const Trunk& trunk, const Portion& length, const Path& checkpoint,
               TrainConfig& config) {
  const Schedule schedule = make_schedule(trunk.config);
  const double rate = learning_rate(schedule, trunk.state.position);
  if (schedule.kind == ScheduleKind::cosine || rate < schedule.peak * (1 - 1e-9))
    refuse("cooling down from " + checkpoint.string(), "learning rate",
           fmt::format("the constant {:g} of a run with schedule.kind = \"constant\" or \"wsd\"",
                       schedule.peak),
           fmt::format("{:.3g} of a {} schedule", rate, trunk.config.schedule.kind),
           "give an earlier step: --at STEP");
  const auto per_step = static_cast<double>(config.batch.tokens_per_step);
  const auto trained = static_cast<double>(trunk.state.tokens);
  const double wanted = length.unit == Portion::Unit::share    ? length.value * trained
                        : length.unit == Portion::Unit::tokens ? length.value
                                                               : length.value * per_step;
  const double steps = std::max(1.0, std::ceil(wanted / per_step));
  const auto set = [&](const char* key, auto& target, auto value) {
    target = value;
    config.origins[key] = Origin::derived;
  };
  set("schedule.kind", config.schedule.kind, "wsd");
  set("schedule.warmup", config.schedule.warmup, Portion{0, Portion::Unit::steps});
  set("schedule.decay", config.schedule.decay, Portion{steps, Portion::Unit::steps});
  set("run.tokens", config.run.tokens, static_cast<uint64_t>(trained + steps * per_step));
  set("run.steps", config.run.steps, uint64_t{0});
  set("run.time", config.run.time, Duration{});
}

uint64_t branch_step(const CheckpointStore& store, const RunFolder& trunk,
                     const SessionOptions& options, const std::optional<RunParent>& before) {
  if (before) return before->step;
  if (options.at) return *options.at;
  const auto newest = store.newest();
  if (!newest)
    throw Error({.kind = ErrorKind::checkpoint,
                 .doing = "branching from " + trunk.root.string(),
                 .expected = "a checkpoint",
                 .found = "none that is whole"});
  return newest->step;
}

void begin_from_run(const SessionOptions& options, Beginning& out) {
  const RunFolder trunk{options.branch}, folder{out.config.run.folder};
  const Path absolute = std::filesystem::weakly_canonical(std::filesystem::absolute(trunk.root));
  if (absolute == std::filesystem::weakly_canonical(std::filesystem::absolute(folder.root)))
    refuse("branching from " + trunk.root.string(), "run.folder", "another folder",
           folder.root.string(), "--run.folder=" + trunk.root.string() + "-branch, say");
  const std::string how = options.cooldown ? "cooldown" : "branch";
  const std::optional<RunParent> before = read_parent(folder);
  if (before && (before->how != how || before->folder != absolute ||
                 (options.at && *options.at != before->step)))
    refuse("branching from " + trunk.root.string(), "run.folder",
           "a folder without a run, or with one that began here",
           fmt::format("{}, a {} of {} at step {}", folder.root.string(), before->how,
                       before->folder.string(), before->step));
  if (!std::filesystem::is_directory(trunk.checkpoints()))
    throw Error({.kind = ErrorKind::data,
                 .doing = "branching from " + trunk.root.string(),
                 .expected = "a run folder with checkpoints",
                 .found = "none",
                 .hint = "--from takes a model folder"});
  const CheckpointStore store(trunk.checkpoints(), CheckpointStore::Access::look);
  const Path checkpoint = store.find(branch_step(store, trunk, options, before));
  const Trunk at = read_trunk(checkpoint);
  check_same_model(at, out.config, checkpoint);
  if (options.cooldown) cool_down(at, *options.cooldown, checkpoint, out.config);
  out.start = StartingPoint{.folder = checkpoint};
  out.parent =
      RunParent{.how = how, .folder = absolute, .step = at.state.step, .tokens = at.state.tokens};
}

// A run that has a parent is continued without naming it: the configuration says the rest.
void begin_as_before(Beginning& out) {
  out.parent = read_parent({out.config.run.folder});
  if (!out.parent) return;
  if (out.parent->how == "weights") {
    begin_from_weights({.from = out.parent->folder}, out);
  } else {
    const CheckpointStore store(RunFolder{out.parent->folder}.checkpoints(),
                                CheckpointStore::Access::look);
    out.start = StartingPoint{.folder = store.place(out.parent->step)};
  }
}

}  // namespace

Beginning resolve_beginning(TrainConfig config, const SessionOptions& options) {
  check_options(options);
  Beginning out{.config = std::move(config)};
  if (options.from.empty() && options.branch.empty()) begin_as_before(out);
  if (!options.from.empty()) begin_from_weights(options, out);
  if (!options.branch.empty()) begin_from_run(options, out);
  return out;
}

void record_beginning(const Beginning& beginning) {
  if (!beginning.parent) return;
  const RunFolder folder{beginning.config.run.folder};
  if (!beginning.start->weights_only)
    add_branch_point({beginning.parent->folder}, beginning.parent->step,
                     std::filesystem::weakly_canonical(std::filesystem::absolute(folder.root)));
  write_parent(folder, *beginning.parent);
}

}  // namespace cairn
