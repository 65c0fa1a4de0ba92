#include "cairn/runs/plot.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/runs/metrics.h"
#include "cairn/runs/run_folder.h"

namespace cairn {
namespace {

// Colours that stay apart for colour-blind readers (Okabe and Ito), darkest first.
constexpr std::array<const char*, 7> kColours = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                 "#e69f00", "#56b4e9", "#4d4d4d"};
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

// In single quotes gnuplot substitutes nothing; control characters would end the line.
std::string quoted_for_gnuplot(const std::string& text) {
  std::string out = "'";
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20) continue;
    out += c;
    if (c == '\'') out += '\'';
  }
  return out + "'";
}

// Large numbers are drawn in thousands, millions or billions: gnuplot's own suffixes show too many
// digits or too few.
struct Unit {
  double size = 1;
  const char* name = "";  // " (millions)"
};

Unit unit_for(double largest) {
  if (largest >= 2e9) return {1e9, " (billions)"};
  if (largest >= 2e6) return {1e6, " (millions)"};
  if (largest >= 2e4) return {1e3, " (thousands)"};
  return {};
}

void add_data(std::string& script, const std::string& name, const Series& data, double x_unit,
              double y_unit = 1) {
  script += "$" + name + " << EOD\n";
  for (size_t i = 0; i < data.x.size(); ++i)
    if (std::isfinite(data.x[i]) && std::isfinite(data.y[i]))
      script += fmt::format("{:.9g} {:.7g}\n", data.x[i] / x_unit, data.y[i] / y_unit);
  script += "EOD\n";
}

std::string style() {
  return "set encoding utf8\n"
         "set border 3 lw 1 lc rgb '#8a8a8a'\n"
         "set tics nomirror out scale 0.5 textcolor rgb '#404040'\n"
         "set grid ytics xtics lw 0.6 lc rgb '#e6e6e6' lt 1\n"
         "set key top right noenhanced samplen 1.6 spacing 1.15 textcolor rgb '#303030'\n"
         "set format y '%g'\n"
         "set lmargin 11\nset rmargin 4\n";
}

std::string curve(const std::string& data, const std::string& with, const std::string& colour,
                  const std::string& title) {
  return fmt::format("${} using 1:2 with {} lc rgb '{}' {}", data, with, colour,
                     title.empty() ? "notitle" : "title " + quoted_for_gnuplot(title));
}

std::string joined(const std::vector<std::string>& parts) {
  std::string out = "plot ";
  for (size_t i = 0; i < parts.size(); ++i) out += (i == 0 ? "" : ", \\\n  ") + parts[i];
  return out + "\n";
}

std::string panels(const std::vector<RunCurves>& runs, const PlotOptions& options,
                   const Unit& x_unit, const Unit& speed_unit) {
  std::vector<std::string> loss, lr, speed;
  for (size_t i = 0; i < runs.size(); ++i) {
    const std::string colour = kColours[i % kColours.size()], n = std::to_string(i);
    loss.push_back(curve("raw" + n, "lines lw 0.8", "#b0" + colour.substr(1), ""));
    loss.push_back(curve("loss" + n, "lines lw 2", colour, runs[i].title));
    if (!runs[i].held_out.x.empty())
      loss.push_back(curve("val" + n, "linespoints lw 1.2 dt 2 pt 7 ps 0.6", colour,
                           runs[i].title + ", held out"));
    if (!runs[i].lr.x.empty()) lr.push_back(curve("lr" + n, "lines lw 2", colour, ""));
    if (!runs[i].speed.x.empty()) speed.push_back(curve("speed" + n, "lines lw 2", colour, ""));
  }
  const std::string label = options.x == "tokens" ? "tokens"
                            : options.x == "step" ? "optimiser step"
                                                  : "time of training (s)";
  std::string out = "set multiplot\n";
  out += options.log_x ? "set logscale x\n" : "";
  out += "set format x ''\nset size 1,0.54\nset origin 0,0.46\nset bmargin 0.6\nset tmargin 1.5\n";
  out += "set ylabel 'loss (nats a token)'\n";
  out += options.log_loss ? "set logscale y\n" : "";
  out += joined(loss) + "unset logscale y\nset tmargin 0.6\nset yrange [0:*]\n";
  out += "set size 1,0.22\nset origin 0,0.24\nset ylabel 'learning rate'\nset ytics autofreq\n";
  out += lr.empty() ? "" : joined(lr);
  out += "set size 1,0.24\nset origin 0,0\nset bmargin 3.8\nset format x '%g'\n";
  out += fmt::format("set ylabel '{}tokens/s'\nset xlabel '{}{}'\n",
                     speed_unit.size >= 1e6   ? "10^6 "
                     : speed_unit.size >= 1e3 ? "1000 "
                                              : "",
                     label, x_unit.name);
  out += speed.empty() ? "" : joined(speed);
  return out + "unset multiplot\nunset output\n";
}

// Feeds `script` to gnuplot. Its own complaints go to standard error.
void run_gnuplot(const std::string& script) {
  // A gnuplot that is not there closes the pipe early: an error below, not the end of this process.
  const auto old = std::signal(SIGPIPE, SIG_IGN);
  FILE* pipe = ::popen("gnuplot", "w");
  bool sent = pipe != nullptr;
  if (sent) sent = std::fwrite(script.data(), 1, script.size(), pipe) == script.size();
  const int status = pipe == nullptr ? -1 : ::pclose(pipe);
  std::signal(SIGPIPE, old);
  if (status != 0 || !sent)
    throw Error({.doing = "drawing with gnuplot",
                 .found = "gnuplot ended with status " + std::to_string(status),
                 .hint = "is it installed? apt install gnuplot-nox"});
}

}  // namespace

std::string plot_script(const PlotOptions& options, const std::string& terminal,
                        const Path& output) {
  if (options.runs.empty())
    throw Error({.kind = ErrorKind::usage, .doing = "plotting", .expected = "at least one run"});
  const std::string x = x_field(options.x);
  std::vector<RunCurves> runs;
  for (const Path& run : options.runs) runs.push_back(load_run(run, x));
  std::string script =
      terminal == "svg"
          ? "set terminal svg size 960,840 dynamic font 'Helvetica,14' background rgb 'white'\n"
          : "set terminal pngcairo size 1440,1260 font 'Sans,18' background rgb 'white'\n";
  script += "set output " + quoted_for_gnuplot(output.string()) + "\n" + style();
  double largest_x = 0, largest_speed = 0;
  for (const RunCurves& run : runs) {
    for (const double value : run.loss.x) largest_x = std::max(largest_x, value);
    for (const double value : run.speed.y) largest_speed = std::max(largest_speed, value);
  }
  const Unit x_unit = unit_for(largest_x), speed_unit = unit_for(largest_speed);
  for (size_t i = 0; i < runs.size(); ++i) {
    const std::string n = std::to_string(i);
    add_data(script, "raw" + n, runs[i].loss, x_unit.size);
    add_data(script, "loss" + n, runs[i].smooth, x_unit.size);
    add_data(script, "val" + n, runs[i].held_out, x_unit.size);
    add_data(script, "lr" + n, runs[i].lr, x_unit.size);
    add_data(script, "speed" + n, runs[i].speed, x_unit.size, speed_unit.size);
  }
  return script + panels(runs, options, x_unit, speed_unit);
}

std::vector<Path> plot_runs(const PlotOptions& options) {
  std::vector<Path> written;
  for (const std::string terminal : {"svg", "png"}) {
    const Path path = options.output.string() + "." + terminal;
    const Path temporary = path.string() + ".tmp-" + std::to_string(::getpid());
    run_gnuplot(plot_script(options, terminal, temporary));
    rename_file(temporary, path);
    written.push_back(path);
  }
  return written;
}

}  // namespace cairn
