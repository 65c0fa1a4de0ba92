#include "cairn/runs/plot.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/runs/gnuplot.h"
#include "cairn/runs/metrics.h"
#include "cairn/runs/run_folder.h"

namespace cairn {
namespace {

// More points than this a curve are averaged in groups: a screen has no more columns.
constexpr size_t kPoints = 1200;

struct RunCurves {
  std::string title;
  Series loss, smooth, held_out, lr, speed;
};

// Averages neighbours so that at most kPoints are left.
Series thinned(const Series& in) {
  const size_t group = (in.x.size() + kPoints - 1) / kPoints;
  if (group <= 1) return in;
  Series out;
  for (size_t begin = 0; begin < in.x.size(); begin += group) {
    const size_t end = std::min(begin + group, in.x.size());
    double x = 0, y = 0;
    for (size_t i = begin; i < end; ++i) {
      x += in.x[i];
      y += in.y[i];
    }
    out.x.push_back(x / static_cast<double>(end - begin));
    out.y.push_back(y / static_cast<double>(end - begin));
  }
  return out;
}

// A running mean whose window is a fiftieth of the curve.
Series smoothed(const Series& in) {
  Series out;
  const size_t half = std::max<size_t>(1, in.x.size() / 100);
  std::vector<double> sums(in.y.size() + 1);
  for (size_t i = 0; i < in.y.size(); ++i) sums[i + 1] = sums[i] + in.y[i];
  for (size_t i = 0; i < in.y.size(); ++i) {
    // The same distance to both sides, so that a falling curve is not shifted at its ends.
    const size_t reach = std::min({half, i, in.y.size() - 1 - i});
    out.x.push_back(in.x[i]);
    out.y.push_back((sums[i + reach + 1] - sums[i - reach]) / static_cast<double>(2 * reach + 1));
  }
  return out;
}

std::string x_field(const std::string& word) {
  if (word == "tokens" || word == "step") return word;
  if (word == "time") return "elapsed_s";
  throw Error({.kind = ErrorKind::usage,
               .doing = "plotting",
               .subject = "x",
               .expected = "tokens, step or time",
               .found = "\"" + word + "\""});
}

// Running median: a speed that a checkpoint or another program disturbed once is not the speed.
Series steadied(const Series& in) {
  Series out;
  for (size_t i = 0; i < in.y.size(); ++i) {
    const size_t begin = i < 5 ? 0 : i - 5, end = std::min(in.y.size(), i + 6);
    std::vector<double> window(in.y.begin() + static_cast<std::ptrdiff_t>(begin),
                               in.y.begin() + static_cast<std::ptrdiff_t>(end));
    std::nth_element(window.begin(),
                     window.begin() + static_cast<std::ptrdiff_t>(window.size() / 2), window.end());
    out.x.push_back(in.x[i]);
    out.y.push_back(window[window.size() / 2]);
  }
  return out;
}

RunCurves load_run(const Path& run, const std::string& x) {
  const bool folder = std::filesystem::is_directory(run);
  const Path file = folder ? RunFolder{run}.metrics() : run;
  const std::vector<Json> metrics = read_metrics(file);
  RunCurves curves;
  curves.title = (folder ? run : run.parent_path()).lexically_normal().string();
  while (curves.title.size() > 1 && curves.title.back() == '/') curves.title.pop_back();
  curves.loss = series(metrics, x, "loss");
  if (curves.loss.x.empty())
    throw Error({.kind = ErrorKind::data,
                 .doing = "plotting " + run.string(),
                 .found = std::filesystem::exists(file) ? "no step in " + file.string()
                                                        : "no " + file.string(),
                 .hint = "name a run folder of `cairn train`, such as runs/NAME"});
  curves.smooth = thinned(smoothed(curves.loss));
  curves.loss = thinned(curves.loss);
  curves.held_out = series(metrics, x, "val_loss");
  curves.lr = thinned(series(metrics, x, "lr"));
  curves.speed = thinned(steadied(series(metrics, x, "tokens_per_second")));
  return curves;
}

std::string panels(const std::vector<RunCurves>& runs, const PlotOptions& options,
                   const PlotUnit& x_unit, const PlotUnit& speed_unit) {
  std::vector<std::string> loss, lr, speed;
  for (size_t i = 0; i < runs.size(); ++i) {
    const std::string colour = plot_colour(i), n = std::to_string(i);
    loss.push_back(plot_curve("raw" + n, "lines lw 0.8", "#b0" + colour.substr(1), ""));
    loss.push_back(plot_curve("loss" + n, "lines lw 2", colour, runs[i].title));
    if (!runs[i].held_out.x.empty())
      loss.push_back(plot_curve("val" + n, "linespoints lw 1.2 dt 2 pt 7 ps 0.6", colour,
                                runs[i].title + ", held out"));
    if (!runs[i].lr.x.empty()) lr.push_back(plot_curve("lr" + n, "lines lw 2", colour, ""));
    if (!runs[i].speed.x.empty())
      speed.push_back(plot_curve("speed" + n, "lines lw 2", colour, ""));
  }
  const std::string label = options.x == "tokens" ? "tokens"
                            : options.x == "step" ? "optimiser step"
                                                  : "time of training (s)";
  std::string out = "set multiplot\n";
  out += options.log_x ? "set logscale x\n" : "";
  out += "set format x ''\nset size 1,0.54\nset origin 0,0.46\nset bmargin 0.6\nset tmargin 1.5\n";
  out += "set ylabel 'loss (nats a token)'\n";
  out += options.log_loss ? "set logscale y\n" : "";
  out += plot_command(loss) + "unset logscale y\nset tmargin 0.6\nset yrange [0:*]\n";
  out += "set size 1,0.22\nset origin 0,0.24\nset ylabel 'learning rate'\nset ytics autofreq\n";
  out += lr.empty() ? "" : plot_command(lr);
  out += "set size 1,0.24\nset origin 0,0\nset bmargin 3.8\nset format x '%g'\n";
  out += fmt::format("set ylabel '{}tokens/s'\nset xlabel '{}{}'\n",
                     speed_unit.size >= 1e6   ? "10^6 "
                     : speed_unit.size >= 1e3 ? "1000 "
                                              : "",
                     label, x_unit.name);
  out += speed.empty() ? "" : plot_command(speed);
  return out + "unset multiplot\nunset output\n";
}

}  // namespace

std::string plot_script(const PlotOptions& options, const std::string& terminal,
                        const Path& output) {
  if (options.runs.empty())
    throw Error({.kind = ErrorKind::usage, .doing = "plotting", .expected = "at least one run"});
  const std::string x = x_field(options.x);
  std::vector<RunCurves> runs;
  for (const Path& run : options.runs) runs.push_back(load_run(run, x));
  std::string script = plot_head(terminal, 960, 840, output);
  double largest_x = 0, largest_speed = 0;
  for (const RunCurves& run : runs) {
    for (const double value : run.loss.x) largest_x = std::max(largest_x, value);
    for (const double value : run.speed.y) largest_speed = std::max(largest_speed, value);
  }
  const PlotUnit x_unit = plot_unit(largest_x), speed_unit = plot_unit(largest_speed);
  for (size_t i = 0; i < runs.size(); ++i) {
    const std::string n = std::to_string(i);
    add_plot_data(script, "raw" + n, runs[i].loss, x_unit.size);
    add_plot_data(script, "loss" + n, runs[i].smooth, x_unit.size);
    add_plot_data(script, "val" + n, runs[i].held_out, x_unit.size);
    add_plot_data(script, "lr" + n, runs[i].lr, x_unit.size);
    add_plot_data(script, "speed" + n, runs[i].speed, x_unit.size, speed_unit.size);
  }
  return script + panels(runs, options, x_unit, speed_unit);
}

std::vector<Path> plot_runs(const PlotOptions& options) {
  return draw_pictures(options.output, [&](const std::string& terminal, const Path& path) {
    return plot_script(options, terminal, path);
  });
}

}  // namespace cairn
