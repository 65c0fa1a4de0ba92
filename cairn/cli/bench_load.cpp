// `cairn bench load`: from opening a model to its first token.
#include <fmt/core.h>

#include <array>
#include <memory>
#include <nlohmann/json.hpp>

#include "cairn/base/cpu.h"
#include "cairn/cli/bench.h"
#include "cairn/cli/engine_arguments.h"
#include "cairn/cli/usage.h"
#include "cairn/infer/load_speed.h"
#include "cairn/io/hub/hub.h"
#include "cairn/io/json.h"

namespace cairn {
namespace {

struct Options {
  std::string model;
  EngineArguments engine;
  int64_t blocks = 7, threads = 0;
  bool json = false;
};

struct Part {
  const char* name;
  double LoadTimes::*seconds;
};

constexpr std::array kParts = {
    Part{"total", &LoadTimes::total}, Part{"tokenizer", &LoadTimes::tokenizer},
    Part{"weights", &LoadTimes::weights}, Part{"program", &LoadTimes::program},
    Part{"first_token", &LoadTimes::first_token}};

int run(const Options& options) {
  const size_t blocks = at_least_argument("cairn bench load", "--blocks", options.blocks, 1);
  const EngineOptions how = options.engine.options();
  const Path model = find_model(options.model);
  ThreadTeam team(static_cast<int>(options.threads));
  measure_load(model, team, how);  // brings the file into the page cache
  std::vector<LoadTimes> all;
  for (size_t i = 0; i < blocks; ++i) all.push_back(measure_load(model, team, how));
  Json line = {{"bench", "load"}, {"model", options.model}, {"threads", team.size()}};
  std::string text = fmt::format("{}, {} threads:", options.model, team.size());
  for (const Part& part : kParts) {
    std::vector<double> seconds;
    for (const LoadTimes& times : all) seconds.push_back(times.*part.seconds);
    const double ms = 1e3 * median(seconds);
    line[fmt::format("{}_ms", part.name)] = ms;
    text += fmt::format(" {} {:.1f} ms{}", part.name, ms, &part == &kParts.back() ? "" : ",");
  }
  line["processor"] = processor_family();
  fmt::print("{}", options.json ? json_line(line) : text + "\n");
  return 0;
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  arguments.positional("MODEL", "a model folder or GGUF file, with its tokenizer", options->model);
  options->engine.declare(arguments);
  arguments.option("--blocks", "measurements; the median counts", options->blocks);
  arguments.option("--threads", "0: as many as the machine allows", options->threads);
  arguments.flag("--json", "print one JSON line", options->json);
  return [options] { return run(*options); };
}

}  // namespace

const Verb kBenchLoadVerb{.name = "load",
                          .does = "From opening a model in the page cache to its first token",
                          .example =
                              "cairn bench load smollm2.gguf\n"
                              "cairn bench load demo/model --precision q4_0 --json",
                          .prepare = prepare};

}  // namespace cairn
