// The picture of a study: what study/report.h tables, as curves with what the seeds leave open.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "cairn/runs/gnuplot.h"
#include "cairn/study/report.h"

namespace cairn {
namespace {

struct Point {
  double x = 0, mean = 0, low = 0, high = 0;
};
using Curve = std::vector<Point>;

bool is_share(const Study& study) {
  return study.score != "loss";
}

// Held-out scores over tokens, as far as the shortest run goes, from the lowest seed to the
// highest.
Curve learning_curve(const Study& study, const StudyRow& row) {
  Curve out;
  size_t points = row.lines.empty() ? 0 : SIZE_MAX;
  for (const Json* line : row.lines)
    points = std::min(points, line->at("curve").at("tokens").size());
  for (size_t i = 0; i < points; ++i) {
    std::vector<double> tokens, scores;
    for (const Json* line : row.lines) {
      const Json& curve = line->at("curve");
      tokens.push_back(curve.at("tokens").at(i).get<double>());
      const auto score = curve.at(is_share(study) ? "accuracy" : "loss").at(i).get<double>();
      scores.push_back(study.score == "error" ? 1 - score : score);
    }
    const Estimate score = estimate(scores);
    out.push_back({estimate(tokens).mean, score.mean, score.lowest, score.highest});
  }
  return out;
}

// The score of each test with its 95 % interval, as far as a score can lie there.
Curve test_curve(const Study& study, const StudyRow& row) {
  Curve out;
  for (size_t i = 0; i < study.tests.size(); ++i) {
    const Estimate score = study_cell(study, row, study.tests[i]).score;
    if (score.count == 0) continue;
    Point point{static_cast<double>(i), score.mean, score.mean - score.half_width,
                score.mean + score.half_width};
    if (is_share(study)) {
      point.low = std::max(point.low, 0.0);
      point.high = std::min(point.high, 1.0);
    }
    out.push_back(point);
  }
  return out;
}

// The block $name of lines "x mean low high".
std::string data_block(const std::string& name, const Curve& curve) {
  std::string out = "$" + name + " << EOD\n";
  for (const Point& p : curve)
    if (std::isfinite(p.mean) && std::isfinite(p.low) && std::isfinite(p.high))
      out += fmt::format("{:.9g} {:.7g} {:.7g} {:.7g}\n", p.x, p.mean, p.low, p.high);
  return out + "EOD\n";
}

std::string score_label(const Study& study) {
  if (study.score == "loss") return "loss (nats)";
  if (study.score == "error") return "share of wrong answers";
  return study.score == "accuracy" ? "share of right answers" : "share of right sequences";
}

// All of [0, 1] where good is 1; else down to 0 or the best, up to the worst after the first
// `skipped` points of each curve: an untrained model would hide the rest.
std::string score_range(const Study& study, const std::vector<Curve>& curves, size_t skipped) {
  if (is_share(study) && study.score != "error") return "set yrange [0:1.03]\n";
  double worst = 0;
  for (const Curve& curve : curves)
    for (size_t i = curve.size() > skipped ? skipped : 0; i < curve.size(); ++i)
      if (std::isfinite(curve[i].high)) worst = std::max(worst, curve[i].high);
  return fmt::format("set yrange [{}:{:.4g}]\n", is_share(study) ? "0" : "*",
                     worst > 0 ? 1.05 * worst : 1.0);
}

// Colours repeat after a few curves; dashes tell those apart.
std::string dashes(size_t index) {
  constexpr size_t kColours = 7, kDashes = 5;
  return fmt::format("dt {}", index / kColours % kDashes + 1);
}

// A mechanism each; empty while it has no result.
struct Curves {
  std::vector<std::string> names;
  std::vector<Curve> learning, tests;
  bool any = false, seeds = false;  // whether a mechanism has a result, has several
  double longest = 0;               // in tokens
};

Curves study_curves(const Study& study, const StudyResults& results) {
  Curves out;
  for (const StudyRow& row : study_rows(study, results)) {
    out.names.push_back(row.mechanism->name);
    out.learning.push_back(learning_curve(study, row));
    out.tests.push_back(test_curve(study, row));
    out.seeds = out.seeds || row.lines.size() > 1;
    out.any = out.any || !row.lines.empty();
    for (const Point& point : out.learning.back()) out.longest = std::max(out.longest, point.x);
  }
  return out;
}

std::string learning_panel(const Study& study, Curves& curves, std::string& data) {
  const PlotUnit unit = plot_unit(curves.longest);
  std::vector<std::string> bands, lines;
  for (size_t i = 0; i < curves.names.size(); ++i) {
    if (curves.learning[i].empty()) continue;
    for (Point& point : curves.learning[i]) point.x /= unit.size;
    const std::string name = "learning" + std::to_string(i), colour = plot_colour(i);
    data += data_block(name, curves.learning[i]);
    bands.push_back(fmt::format(
        "${} using 1:3:4 with filledcurves lc rgb '{}' fs transparent solid 0.13 noborder notitle",
        name, colour));
    lines.push_back(plot_curve(name, "lines lw 2 " + dashes(i), colour, curves.names[i]));
  }
  if (!curves.seeds) bands.clear();
  bands.insert(bands.end(), lines.begin(), lines.end());
  std::string out = score_range(study, curves.learning, 1);
  if (curves.longest > 0) out += fmt::format("set xrange [0:{:.9g}]\n", curves.longest / unit.size);
  out += fmt::format(
      "set xlabel 'tokens of training{}{}'\nset ylabel 'held out: {}'\n", unit.name,
      curves.seeds ? "; shaded: from the lowest seed to the highest" : "",
      study.score == "sequence_accuracy" ? "share of right answers" : score_label(study));
  return out + plot_command(bands);
}

std::string test_panel(const Study& study, Curves& curves, std::string& data) {
  std::string tics;
  size_t letters = 0;
  for (size_t i = 0; i < study.tests.size(); ++i) {
    const std::string& name = study.tests[i].name;
    tics += fmt::format("{}{} {}", i == 0 ? "" : ", ", quoted_for_gnuplot(name), i);
    letters = std::max(letters, name.size());
  }
  constexpr size_t kLettersOfAxis = 72;
  const char* slope = letters * study.tests.size() > kLettersOfAxis ? "rotate by 20 right" : "";
  std::vector<std::string> plots;
  const auto count = static_cast<double>(curves.names.size());
  for (size_t i = 0; i < curves.names.size(); ++i) {
    if (curves.tests[i].empty()) continue;
    // Side by side, lest intervals hide each other.
    const double aside = (static_cast<double>(i) - (count - 1) / 2) * std::min(0.05, 0.4 / count);
    for (Point& point : curves.tests[i]) point.x += aside;
    const std::string name = "tests" + std::to_string(i), colour = plot_colour(i);
    data += data_block(name, curves.tests[i]);
    if (curves.seeds)
      plots.push_back(fmt::format(
          "${} using 1:2:3:4 with yerrorbars pt 0 lw 1.2 lc rgb '{}' notitle", name, colour));
    plots.push_back(plot_curve(name, "linespoints lw 2 pt 7 ps 0.6 " + dashes(i), colour, ""));
  }
  return score_range(study, curves.tests, 0) +
         fmt::format(
             "unset key\nset xlabel 'test{}'\nset ylabel '{}'\nset errorbars 0.5\n"
             "set xrange [-0.5:{}.5]\nset xtics ({}) noenhanced {}\n",
             curves.seeds ? "; bars: 95 % interval over seeds" : "", score_label(study),
             study.tests.size() - 1, tics, slope) +
         plot_command(plots);
}

}  // namespace

std::string study_plot_script(const Study& study, const StudyResults& results,
                              const std::string& terminal, const Path& output) {
  Curves curves = study_curves(study, results);
  if (!curves.any) return "";
  const bool panels = study.tests.size() > 1;
  // The key lies above the curves, in as many columns as its names leave room for.
  size_t longest = 0;
  for (const std::string& name : curves.names) longest = std::max(longest, name.size());
  const size_t columns = std::clamp<size_t>(90 / (longest + 8), 1, 4);
  constexpr int kWidth = 800, kPanel = 340, kLine = 21, kTitle = 20;
  const auto lines = static_cast<int>((curves.names.size() + columns - 1) / columns);
  const int upper = kTitle + kLine * lines + kPanel, height = upper + (panels ? kPanel : 0);
  std::string script = plot_head(terminal, kWidth, height, output);
  const std::string learning = learning_panel(study, curves, script);
  const double lower = panels ? static_cast<double>(kPanel) / height : 0;
  if (panels)
    script +=
        fmt::format("set multiplot\nset size 1,{:.4f}\nset origin 0,{:.4f}\n", 1 - lower, lower);
  script +=
      fmt::format("set key tmargin center horizontal Left reverse maxcols {} samplen 2\n", columns);
  if (!study.title.empty())
    script += fmt::format("set title {} noenhanced\n", quoted_for_gnuplot(study.title));
  script += learning;
  if (!panels) return script + "unset output\n";
  std::string blocks;
  const std::string tests = test_panel(study, curves, blocks);
  return script + blocks + fmt::format("unset title\nset size 1,{:.4f}\nset origin 0,0\n", lower) +
         tests + "unset multiplot\nunset output\n";
}

std::vector<Path> draw_study(const Study& study, const StudyResults& results, const Path& output) {
  if (study_plot_script(study, results, "svg", output).empty()) return {};
  if (output.has_parent_path()) make_folders(output.parent_path());
  return draw_pictures(output, [&](const std::string& terminal, const Path& path) {
    return study_plot_script(study, results, terminal, path);
  });
}

}  // namespace cairn
