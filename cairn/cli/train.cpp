// `cairn train CONFIG`: trains a model, or continues the run that the configuration names.
#include <fmt/core.h>

#include <memory>
#include <nlohmann/json.hpp>

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
  if (result.finished)
    out["model"] = result.model.string();
  else
    out["stop_reason"] = result.stop_reason;
  if (result.held_out_loss > 0) out["held_out_loss"] = result.held_out_loss;
  if (result.bits_per_byte > 0) out["bits_per_byte"] = result.bits_per_byte;
  return out;
}

void print_result(const SessionResult& result, const Options& options) {
  if (options.json) {
    fmt::print("{}", json_line(as_json(result)));
  } else if (result.finished) {
    fmt::print("finished after step {}: {}\n", result.step, result.model.string());
    fmt::print("try: cairn run {} -p \"...\"\n", result.model.string());
  } else {
    fmt::print("stopped by {} after step {}; saved {}\n", result.stop_reason, result.step,
               result.checkpoint.string());
    fmt::print("to go on: cairn train {}", options.config);
    for (const std::string& text : options.overrides) fmt::print(" --{}", text);
    fmt::print("\n");
  }
}

int run_train(const Options& options) {
  const TrainConfig config = load_config(options.config, options.overrides);
  if (options.print_config) {
    fmt::print("{}", print_config(config));
    return 0;
  }
  if (options.dry_run) {
    const DryRun run = dry_run(config);
    fmt::print("{}", options.json ? json_line(as_json(run)) : describe(run));
    return 0;
  }
  const SessionResult result = train(config);
  print_result(result, options);
  return result.finished ? 0 : kResumable;
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  arguments.positional("CONFIG", "the configuration, a TOML file", options->config);
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
        "  Ctrl-C saves and stops (exit code 75); the same command goes on from there.",
    .prepare = prepare};

}  // namespace cairn
