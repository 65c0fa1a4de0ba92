#include "cairn/study/report.h"

#include <fmt/core.h>

#include <algorithm>

#include "cairn/base/progress.h"
#include "cairn/train/units.h"

namespace cairn {
namespace {

double score_of(const Study& study, const Json& test) {
  if (study.score == "error") return 1 - test.at("accuracy").get<double>();
  return test.at(study.score).get<double>();
}

bool is_loss(const Study& study) {
  return study.score == "loss";
}
bool lower_is_better(const Study& study) {
  return study.score == "loss" || study.score == "error";
}

// Percent with as many digits as the distance to 0 or 100 leaves to see.
std::string percent(double share) {
  const double away = std::min(share, 1 - share);
  return away <= 0         ? fmt::format("{:.0f} %", 100 * share)
         : away < 0.000995 ? fmt::format("{:.4f} %", 100 * share)
         : away < 0.00995  ? fmt::format("{:.2f} %", 100 * share)
                           : fmt::format("{:.1f} %", 100 * share);
}

std::string cell_text(const Study& study, const StudyCell& cell) {
  const Estimate& e = cell.score;
  if (e.count == 0) return "";
  const bool loss = is_loss(study);
  const auto text = [&](double value) {
    return loss ? fmt::format("{:.4f}", value) : percent(value);
  };
  if (!loss && cell.wrong == 0)
    return fmt::format("{} (0 of {} wrong, error < {:.1e})", text(e.mean),
                       format_count(static_cast<double>(cell.trials)),
                       upper_bound_without_errors(cell.trials));
  std::string out = text(e.mean);
  if (e.count < 2) return out;
  out +=
      loss ? fmt::format(" ± {:.4f}", e.half_width) : fmt::format(" ± {:.2g}", 100 * e.half_width);
  return out + fmt::format(", worst {}", text(lower_is_better(study) ? e.highest : e.lowest));
}

}  // namespace

std::vector<StudyRow> study_rows(const Study& study, const StudyResults& results) {
  std::vector<StudyRow> rows;
  const StudyPlan plan = plan_study(study, results, "");
  for (const StudyMechanism& mechanism : study.mechanisms) {
    StudyRow row{.mechanism = &mechanism, .lr = chosen_rate(study, mechanism, results)};
    for (const StudyRun& run : plan.runs) {
      if (run.mechanism != &mechanism || run.lr != row.lr) continue;
      const Json* line = results.find(run.hash);
      if (line == nullptr) continue;
      if (line->contains("diverged"))
        ++row.diverged;
      else
        row.lines.push_back(line);
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

StudyCell study_cell(const Study& study, const StudyRow& row, const StudyTest& test) {
  StudyCell cell;
  std::vector<double> values;
  for (const Json* line : row.lines) {
    const auto found = line->at("scores").find(test.name);
    if (found == line->at("scores").end()) continue;
    values.push_back(score_of(study, *found));
    const bool whole = study.score == "sequence_accuracy";
    const auto trials = found->at(whole ? "sequences" : "targets").get<uint64_t>();
    cell.trials += trials;
    cell.wrong += trials - found->at(whole ? "whole" : "right").get<uint64_t>();
  }
  cell.score = estimate(values);
  return cell;
}

std::string study_table(const Study& study, const StudyResults& results) {
  std::string out =
      fmt::format("| {} | lr | seeds |", study.score == "sequence_accuracy" ? "sequences right"
                                         : study.score == "accuracy"        ? "answers right"
                                         : study.score == "error"           ? "answers wrong"
                                                                            : "loss (nats)");
  std::string rule = "\n|---|---|---|";
  for (const StudyTest& test : study.tests) {
    out += fmt::format(" {} |", test.name);
    rule += "---|";
  }
  out += rule + "\n";
  for (const StudyRow& row : study_rows(study, results)) {
    const std::string diverged =
        row.diverged == 0 ? "" : fmt::format(", {} diverged", row.diverged);
    out += fmt::format("| {} | {} | {}{} |", row.mechanism->name,
                       row.lr == 0 ? "open" : format_real(row.lr), row.lines.size(), diverged);
    for (const StudyTest& test : study.tests)
      out += fmt::format(" {} |", cell_text(study, study_cell(study, row, test)));
    out += "\n";
  }
  return out;
}

Json study_table_json(const Study& study, const StudyResults& results) {
  Json rows = Json::array();
  for (const StudyRow& row : study_rows(study, results)) {
    Json line = {{"mechanism", row.mechanism->name},
                 {"lr", row.lr},
                 {"seeds", row.lines.size()},
                 {"diverged", row.diverged},
                 {"tests", Json::object()}};
    for (const StudyTest& test : study.tests) {
      const StudyCell cell = study_cell(study, row, test);
      if (cell.score.count == 0) continue;
      line["tests"][test.name] = {
          {"mean", cell.score.mean},     {"half_width", cell.score.half_width},
          {"lowest", cell.score.lowest}, {"highest", cell.score.highest},
          {"trials", cell.trials},       {"wrong", cell.wrong}};
    }
    rows.push_back(std::move(line));
  }
  return {{"study", study.name}, {"score", study.score}, {"rows", std::move(rows)}};
}

std::string study_list(const Study& study, const StudyResults& results, const Path& folder) {
  const StudyPlan plan = plan_study(study, results, folder);
  std::string out;
  size_t done = 0;
  double seconds = 0;
  for (const StudyRun& run : plan.runs) {
    const bool is = is_done(study, run, results);
    const Json* line = results.find(run.hash);
    const double took = line == nullptr ? 0 : line->value("seconds", 0.0);
    done += is ? 1 : 0;
    seconds += is ? took : 0;
    out += fmt::format("{:<8} {}{}\n",
                       is                ? "done"
                       : line != nullptr ? "untested"
                                         : "missing",
                       run.title(), is ? fmt::format("  ({})", format_duration(took)) : "");
  }
  if (plan.waiting > 0)
    out += fmt::format("{:<8} {} runs at the learning rate that a sweep will choose\n", "waiting",
                       plan.waiting);
  const size_t all = plan.runs.size() + plan.waiting;
  out += fmt::format("{}: {} of {} runs done", study.name, done, all);
  if (done > 0 && done < all)
    out += fmt::format(
        ", about {} to go at their mean time",
        format_duration(seconds / static_cast<double>(done) * static_cast<double>(all - done)));
  return out + "\n";
}

}  // namespace cairn
