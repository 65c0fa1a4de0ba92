// What a study shows: a table of its mechanisms by its tests, and their curves. Made from the
// results alone, as far as they go.
#pragma once

#include <string>
#include <vector>

#include "cairn/study/grid.h"
#include "cairn/study/statistics.h"

namespace cairn {

// One mechanism at the learning rate it is judged by.
struct StudyRow {
  const StudyMechanism* mechanism = nullptr;
  double lr = 0;                   // 0 while a sweep is open
  std::vector<const Json*> lines;  // a finished run each; borrowed from the results
  size_t diverged = 0;             // further runs
};
std::vector<StudyRow> study_rows(const Study& study, const StudyResults& results);

// A row's score in a test, over its seeds. Accuracies and errors as shares.
struct StudyCell {
  Estimate score;
  uint64_t trials = 0;  // answers (or sequences) over all seeds,
  uint64_t wrong = 0;   // and how many were wrong; what bounds an error rate of zero
};
StudyCell study_cell(const Study& study, const StudyRow& row, const StudyTest& test);

// The table in Markdown: mean and 95 % interval over seeds, the worst seed, and where nothing was
// wrong the upper bound of the error.
std::string study_table(const Study& study, const StudyResults& results);
// The same numbers as JSON.
Json study_table_json(const Study& study, const StudyResults& results);
// Which runs are done and which are missing, a line each.
std::string study_list(const Study& study, const StudyResults& results, const Path& folder);

// The gnuplot program of the study's picture, data included: held-out score over tokens, and the
// score of each test when there are several; `terminal` is "svg" or "png".
std::string study_plot_script(const Study& study, const StudyResults& results,
                              const std::string& terminal, const Path& output);
// Draws OUTPUT.svg and OUTPUT.png and returns their paths; none without results. Throws Error
// (failed) when gnuplot is absent or refuses.
std::vector<Path> draw_study(const Study& study, const StudyResults& results, const Path& output);

}  // namespace cairn
