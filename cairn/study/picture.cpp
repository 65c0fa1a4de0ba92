// The picture of a study: what study/report.h tables, as curves.
#include <fmt/core.h>

#include <algorithm>

#include "cairn/runs/gnuplot.h"
#include "cairn/study/report.h"

namespace cairn {
namespace {

// The mean of the held-out curves of a row's runs, as far as the shortest goes.
Series mean_curve(const Study& study, const StudyRow& row) {
  Series out;
  size_t points = SIZE_MAX;
  for (const Json* line : row.lines)
    points = std::min(points, line->at("curve").at("tokens").size());
  if (row.lines.empty()) points = 0;
  for (size_t i = 0; i < points; ++i) {
    double x = 0, y = 0;
    for (const Json* line : row.lines) {
      const Json& curve = line->at("curve");
      const double n = static_cast<double>(row.lines.size());
      const char* kind = study.score == "loss" ? "loss" : "accuracy";
      x += curve.at("tokens").at(i).get<double>() / n;
      y += curve.at(kind).at(i).get<double>() / n;
    }
    out.x.push_back(x);
    out.y.push_back(study.score == "error" ? 1 - y : y);
  }
  return out;
}

Series test_curve(const Study& study, const StudyRow& row) {
  Series out;
  for (size_t i = 0; i < study.tests.size(); ++i) {
    const Estimate score = study_cell(study, row, study.tests[i]).score;
    if (score.count == 0) continue;
    out.x.push_back(static_cast<double>(i));
    out.y.push_back(score.mean);
  }
  return out;
}

std::string score_label(const Study& study) {
  if (study.score == "loss") return "loss (nats)";
  if (study.score == "error") return "share of wrong answers";
  return study.score == "accuracy" ? "share of right answers" : "share of right sequences";
}

std::string test_panel(const Study& study, const std::vector<std::string>& curves) {
  std::string tics;
  for (size_t i = 0; i < study.tests.size(); ++i)
    tics += fmt::format("{}{} {}", i == 0 ? "" : ", ", quoted_for_gnuplot(study.tests[i].name), i);
  return fmt::format(
      "set size 1,0.5\nset origin 0,0\nset xlabel 'test'\nunset key\nset ylabel '{}'\n"
      "set xrange [-0.5:{}.5]\nset xtics ({}) noenhanced rotate by -20\n{}",
      score_label(study), study.tests.size() - 1, tics, plot_command(curves));
}

}  // namespace

std::string study_plot_script(const Study& study, const StudyResults& results,
                              const std::string& terminal, const Path& output) {
  const bool panels = study.tests.size() > 1;
  std::string script = plot_head(terminal, 800, panels ? 760 : 420, output);
  const std::vector<StudyRow> rows = study_rows(study, results);
  std::vector<Series> learning;
  double longest = 0;
  for (const StudyRow& row : rows) {
    learning.push_back(mean_curve(study, row));
    if (!learning.back().x.empty()) longest = std::max(longest, learning.back().x.back());
  }
  const PlotUnit unit = plot_unit(longest);
  std::vector<std::string> over_tokens, over_tests;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (learning[i].x.empty()) continue;
    const std::string n = std::to_string(i);
    add_plot_data(script, "learning" + n, learning[i], unit.size);
    add_plot_data(script, "tests" + n, test_curve(study, rows[i]), 1);
    over_tokens.push_back(
        plot_curve("learning" + n, "lines lw 2", plot_colour(i), rows[i].mechanism->name));
    over_tests.push_back(
        plot_curve("tests" + n, "linespoints lw 2 pt 7 ps 0.7", plot_colour(i), ""));
  }
  if (over_tokens.empty()) return "";
  script += panels ? "set multiplot\nset size 1,0.5\nset origin 0,0.5\n" : "";
  script += "set key outside right\nset rmargin 36\n";
  if (!study.title.empty())
    script += fmt::format("set title {} noenhanced\n", quoted_for_gnuplot(study.title));
  script += fmt::format(
      "set xlabel 'tokens of training{}'\nset ylabel 'held out: {}'\n", unit.name,
      study.score == "sequence_accuracy" ? "share of right answers" : score_label(study));
  script += plot_command(over_tokens);
  if (panels) script += "unset title\n" + test_panel(study, over_tests) + "unset multiplot\n";
  return script + "unset output\n";
}

std::vector<Path> draw_study(const Study& study, const StudyResults& results, const Path& output) {
  if (study_plot_script(study, results, "svg", output).empty()) return {};
  if (output.has_parent_path()) make_folders(output.parent_path());
  return draw_pictures(output, [&](const std::string& terminal, const Path& path) {
    return study_plot_script(study, results, terminal, path);
  });
}

}  // namespace cairn
