#include "cairn/runs/gnuplot.h"

#include <fmt/core.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <csignal>
#include <cstdio>

#include "cairn/base/error.h"

namespace cairn {
namespace {

// Colours that stay apart for colour-blind readers (Okabe and Ito), darkest first.
constexpr std::array<const char*, 7> kColours = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                 "#e69f00", "#56b4e9", "#4d4d4d"};

// gnuplot's complaints go to standard error.
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

std::string plot_colour(size_t index) {
  return kColours[index % kColours.size()];
}

std::string quoted_for_gnuplot(const std::string& text) {
  std::string out = "'";
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20) continue;
    out += c;
    if (c == '\'') out += '\'';
  }
  return out + "'";
}

PlotUnit plot_unit(double largest) {
  if (largest >= 2e9) return {1e9, " (billions)"};
  if (largest >= 2e6) return {1e6, " (millions)"};
  if (largest >= 2e4) return {1e3, " (thousands)"};
  return {};
}

void add_plot_data(std::string& script, const std::string& name, const Series& data, double x_unit,
                   double y_unit) {
  script += "$" + name + " << EOD\n";
  for (size_t i = 0; i < data.x.size(); ++i)
    if (std::isfinite(data.x[i]) && std::isfinite(data.y[i]))
      script += fmt::format("{:.9g} {:.7g}\n", data.x[i] / x_unit, data.y[i] / y_unit);
  script += "EOD\n";
}

std::string plot_curve(const std::string& data, const std::string& with, const std::string& colour,
                       const std::string& title) {
  return fmt::format("${} using 1:2 with {} lc rgb '{}' {}", data, with, colour,
                     title.empty() ? "notitle" : "title " + quoted_for_gnuplot(title));
}

std::string plot_command(const std::vector<std::string>& curves) {
  std::string out = "plot ";
  for (size_t i = 0; i < curves.size(); ++i) out += (i == 0 ? "" : ", \\\n  ") + curves[i];
  return out + "\n";
}

std::string plot_head(const std::string& terminal, int width, int height, const Path& output) {
  const std::string size =
      terminal == "svg"
          ? fmt::format("svg size {},{} dynamic font 'Helvetica,14'", width, height)
          : fmt::format("pngcairo size {},{} font 'Sans,18'", width * 3 / 2, height * 3 / 2);
  return fmt::format("set terminal {} background rgb 'white'\nset output {}\n", size,
                     quoted_for_gnuplot(output.string())) +
         "set encoding utf8\n"
         "set border 3 lw 1 lc rgb '#8a8a8a'\n"
         "set tics nomirror out scale 0.5 textcolor rgb '#404040'\n"
         "set grid ytics xtics lw 0.6 lc rgb '#e6e6e6' lt 1\n"
         "set key top right noenhanced samplen 1.6 spacing 1.15 textcolor rgb '#303030'\n"
         "set format y '%g'\n"
         "set lmargin 11\nset rmargin 4\n";
}

std::vector<Path> draw_pictures(
    const Path& output,
    FunctionRef<std::string(const std::string& terminal, const Path& path)> script) {
  std::vector<Path> written;
  for (const std::string terminal : {"svg", "png"}) {
    const Path path = output.string() + "." + terminal;
    const Path temporary = path.string() + ".tmp-" + std::to_string(::getpid());
    run_gnuplot(script(terminal, temporary));
    rename_file(temporary, path);
    written.push_back(path);
  }
  return written;
}

}  // namespace cairn
