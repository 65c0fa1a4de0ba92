// `cairn plot RUN...`: loss, learning rate and speed of runs as SVG and PNG.
#include "cairn/runs/plot.h"

#include <fmt/core.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cairn/cli/verbs.h"
#include "cairn/io/json.h"

namespace cairn {
namespace {

struct Options {
  std::vector<std::string> runs;
  std::string output = "runs";
  std::string x = "tokens";
  bool log_x = false;
  bool log_loss = false;
  bool json = false;
};

int run_plot(const Options& options) {
  PlotOptions plot{.output = options.output,
                   .x = options.x,
                   .log_x = options.log_x,
                   .log_loss = options.log_loss};
  plot.runs.assign(options.runs.begin(), options.runs.end());
  const std::vector<Path> written = plot_runs(plot);
  if (options.json) {
    Json files = Json::array();
    for (const Path& path : written) files.push_back(path.string());
    fmt::print("{}", json_line({{"files", files}}));
  } else {
    for (const Path& path : written) fmt::print("{}\n", path.string());
  }
  return 0;
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  arguments.positionals("RUN", "run folders of `cairn train`", options->runs);
  arguments.option("--output", "where to write, without .svg and .png", options->output);
  arguments.option("--x", "tokens, step or time", options->x);
  arguments.flag("--log-x", "logarithmic x axis", options->log_x);
  arguments.flag("--log-loss", "logarithmic axis of the loss", options->log_loss);
  arguments.flag("--json", "print the files as JSON", options->json);
  return [options] { return run_plot(*options); };
}

}  // namespace

const Verb kPlotVerb{.name = "plot",
                     .does = "Draw loss, learning rate and speed of runs",
                     .example = "cairn plot runs/small runs/wide --output compare --log-loss",
                     .prepare = prepare};

}  // namespace cairn
