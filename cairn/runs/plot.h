// Pictures of runs: loss, learning rate and speed over tokens, steps or time, several runs in one
// picture, as SVG and PNG, drawn by gnuplot.
#pragma once

#include <string>
#include <vector>

#include "cairn/base/file.h"

namespace cairn {

struct PlotOptions {
  std::vector<Path> runs;    // run folders, or metrics.jsonl files
  Path output = "runs";      // without extension: OUTPUT.svg and OUTPUT.png
  std::string x = "tokens";  // "tokens", "step" or "time" (seconds of training)
  bool log_x = false;
  bool log_loss = false;
};

// The gnuplot program for `options`, data included; `terminal` is "svg" or "png". Throws Error
// (usage) when no run is given or x is another word, Error (data) when a run has no metrics.
std::string plot_script(const PlotOptions& options, const std::string& terminal,
                        const Path& output);

// Draws both pictures and returns their paths. Throws Error (failed) when gnuplot is absent or
// refuses.
std::vector<Path> plot_runs(const PlotOptions& options);

}  // namespace cairn
