// What all pictures have in common: colours, units, the parts of a gnuplot program, and running it.
#pragma once

#include <string>
#include <vector>

#include "cairn/base/file.h"
#include "cairn/base/function_ref.h"
#include "cairn/runs/metrics.h"

namespace cairn {

// The colour of curve `index`; they repeat.
std::string plot_colour(size_t index);

// In single quotes gnuplot substitutes nothing; control characters would end the line.
std::string quoted_for_gnuplot(const std::string& text);

// Large numbers are drawn in thousands, millions or billions: gnuplot's own suffixes show too many
// digits or too few.
struct PlotUnit {
  double size = 1;
  const char* name = "";  // " (millions)"
};
PlotUnit plot_unit(double largest);

// Terminal ("svg" or "png"), size in SVG points, output and style.
std::string plot_head(const std::string& terminal, int width, int height, const Path& output);
// Appends the block $name of finite points, in units.
void add_plot_data(std::string& script, const std::string& name, const Series& data, double x_unit,
                   double y_unit = 1);
// One curve of a plot command: block $data drawn `with` a style; no title, no key.
std::string plot_curve(const std::string& data, const std::string& with, const std::string& colour,
                       const std::string& title);
std::string plot_command(const std::vector<std::string>& curves);

// Draws OUTPUT.svg and OUTPUT.png by the programs that `script` gives for (terminal, path), and
// returns their paths. Throws Error (failed) when gnuplot is absent or refuses.
std::vector<Path> draw_pictures(
    const Path& output,
    FunctionRef<std::string(const std::string& terminal, const Path& path)> script);

}  // namespace cairn
