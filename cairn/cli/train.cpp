// `cairn train CONFIG`: trains a model, or continues the run that the configuration names.
#include <fmt/core.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/cli/verbs.h"
#include "cairn/io/json.h"
#include "cairn/train/dry_run.h"
#include "cairn/train/session.h"

namespace cairn {
namespace {

constexpr int kResumable = 75;  // EX_TEMPFAIL: stopped on request, the same command goes on

struct Options {
  std::string config;
  std::vector<std::string> overrides;
  std::string from, branch, cooldown;
  int64_t at = -1;
  std::vector<std::string> allow;
  bool dry_run = false;
  bool print_config = false;
  bool json = false;
};

Json as_json(const DryRun& run) {
  return {{"parameters", run.parameters},
          {"training_tokens", run.data.training.tokens},
          {"held_out_tokens", run.data.held_out.tokens},
          {"memory_bytes", run.memory.total()},
          {"available_bytes", run.available_bytes},
          {"flops_per_token", run.flops_per_token},
          {"tokens_per_second", run.tokens_per_second},
          {"peak_gflops", run.peak_gflops},
          {"steps", run.steps},
          {"seconds", run.seconds},
          {"epochs", run.epochs()},
          {"first_lr", run.first_lr},
          {"last_lr", run.last_lr}};
}

Json as_json(const SessionResult& result) {
  Json out = {{"finished", result.finished},
              {"step", result.step},
              {"checkpoint", result.checkpoint.string()}};
  if (result.finished) {
    out["model"] = result.model.string();
    out["model_step"] = result.model_step;
  } else {
    out["stop_reason"] = result.stop_reason;
  }
  if (result.held_out_loss > 0) {
    out["held_out_loss"] = result.held_out_loss;
    out["accuracy"] = result.accuracy;
  }
  if (result.bits_per_byte > 0) out["bits_per_byte"] = result.bits_per_byte;
  return out;
}

void print_result(const SessionResult& result, const Options& options) {
  if (options.json) {
    fmt::print("{}", json_line(as_json(result)));
  } else if (result.finished) {
    if (result.model_step < result.step)
      fmt::print("out of patience after step {}: the model is the best one, of step {}\n",
                 result.step, result.model_step);
    fmt::print("finished after step {}: {}\n", result.step, result.model.string());
    if (std::filesystem::exists(result.model / "tokenizer.json"))
      fmt::print("try: cairn run {} -p \"...\"\n", result.model.string());
  } else {
    fmt::print("stopped by {} after step {}; saved {}\n", result.stop_reason, result.step,
               result.checkpoint.string());
    fmt::print("to go on: cairn train {}", options.config);
    if (!options.from.empty()) fmt::print(" --from {}", options.from);
    if (!options.branch.empty()) fmt::print(" --branch {}", options.branch);
    if (options.at >= 0) fmt::print(" --at {}", options.at);
    if (!options.cooldown.empty()) fmt::print(" --cooldown \"{}\"", options.cooldown);
    for (const std::string& text : options.overrides) fmt::print(" --{}", text);
    fmt::print("\n");
  }
}

SessionOptions session_options(const Options& options) {
  SessionOptions out{.from = options.from, .branch = options.branch, .allow = options.allow};
  if (options.at >= 0) out.at = static_cast<uint64_t>(options.at);
  if (options.cooldown.empty()) return out;
  out.cooldown = parse_portion(options.cooldown);
  if (!out.cooldown)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "reading --cooldown",
                 .expected =
                     "a share of what is trained, such as \"20%\", or \"100 steps\", or \"1M "
                     "tokens\"",
                 .found = in_quotes(options.cooldown)});
  return out;
}

int run_train(const Options& options) {
  const SessionOptions how = session_options(options);
  const TrainConfig wanted = load_config(options.config, options.overrides);
  // Without looking at other runs where nothing is trained anyway.
  const bool alone = how.from.empty() && how.branch.empty();
  const TrainConfig config = alone ? wanted : resolve_beginning(wanted, how).config;
  if (options.print_config) {
    fmt::print("{}", print_config(config));
    return 0;
  }
  if (options.dry_run) {
    const DryRun run = dry_run(config);
    fmt::print("{}", options.json ? json_line(as_json(run)) : describe(run));
    return 0;
  }
  const SessionResult result = train(wanted, how);
  print_result(result, options);
  return result.finished ? 0 : kResumable;
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  arguments.positional("CONFIG", "the configuration, a TOML file", options->config);
  arguments.option("--from", "begin with the weights of this model folder (warm start)",
                   options->from);
  arguments.option("--branch", "go on from a checkpoint of this run, in another run.folder",
                   options->branch);
  arguments.option("--at", "the step to branch at (the newest checkpoint)", options->at);
  arguments.option("--cooldown",
                   "with --branch: let the constant learning rate decay over so much, then end",
                   options->cooldown);
  arguments.option("--allow", "a key that may change on resuming; may be given again",
                   options->allow);
  arguments.flag("--dry-run", "show tensors, memory, speed and time; train nothing",
                 options->dry_run);
  arguments.flag("--print-config", "show every key, its value and where that came from",
                 options->print_config);
  arguments.flag("--json", "print the result as JSON", options->json);
  arguments.overrides("sets a key of the configuration: --optim.lr=3e-3", options->overrides);
  return [options] { return run_train(*options); };
}

}  // namespace

const Verb kTrainVerb{
    .name = "train",
    .does = "Train a model, or continue a run",
    .example =
        "cairn train small.toml --run.time=4m --optim.lr=3e-3\n"
        "  cairn train small.toml --dry-run\n"
        "  cairn train small.toml --from runs/small/model --run.folder=runs/tuned\n"
        "  cairn train small.toml --branch runs/small --at 2000 --optim.lr=1e-3 "
        "--run.folder=runs/half\n"
        "  cairn train small.toml --branch runs/small --cooldown 20% --run.folder=runs/cool\n"
        "  Ctrl-C saves and stops (exit code 75); the same command goes on from there.",
    .prepare = prepare};

}  // namespace cairn
