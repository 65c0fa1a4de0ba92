#include "cairn/study/grid.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <optional>

#include "cairn/base/error.h"
#include "cairn/base/hash.h"
#include "cairn/base/log.h"
#include "cairn/base/progress.h"
#include "cairn/data/dataset.h"
#include "cairn/data/evaluation_windows.h"
#include "cairn/eval/task_score.h"
#include "cairn/runs/metrics.h"
#include "cairn/runs/run_folder.h"
#include "cairn/train/session.h"
#include "cairn/train/units.h"

namespace cairn {
namespace {

// A name as part of a folder's.
std::string as_file_name(std::string name) {
  for (char& c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!plain && c != '_' && c != '.') c = '-';
  }
  return name;
}

// What decides what a run learns. Default values are left out, so that a key that a later version
// adds does not make old results unknown.
std::string learning_hash(const TrainConfig& config) {
  std::string text;
  for (const ConfigDifference& d : compare_configs(TrainConfig{}, config)) {
    const bool outside = d.key == "run.folder" || d.key == "run.threads" ||
                         d.key.starts_with("checkpoint.") || d.key.starts_with("log.");
    if (!outside) text += d.key + " = " + d.after + "\n";
  }
  return hex64(hash64(text));
}

std::vector<double> rates_of(const Study& study, const StudyMechanism& mechanism) {
  if (!mechanism.lr.empty()) return mechanism.lr;
  TomlDocument document = study.training;
  for (const auto& [key, value] : mechanism.settings) document.values[key] = value;
  return {make_config(document, study.overrides).optim.lr};
}

StudyRun make_run(const Study& study, const StudyMechanism& mechanism, double lr, uint64_t seed,
                  const Path& folder) {
  StudyRun run{.mechanism = &mechanism, .seed = seed, .lr = lr};
  TomlDocument document = study.training;
  for (const auto& [key, value] : mechanism.settings) document.values[key] = value;
  std::vector<std::string> overrides = study.overrides;
  overrides.push_back(fmt::format("optim.lr={}", format_real(lr)));
  for (const char* key : {"run.seed", "data.seed"})
    overrides.push_back(fmt::format("{}={}", key, seed));
  run.config = make_config(document, overrides);
  run.hash = learning_hash(run.config);
  run.config.run.folder = (folder / as_file_name(study.name) /
                           fmt::format("{}-lr{}-seed{}-{}", as_file_name(mechanism.name),
                                       format_real(lr), seed, run.hash.substr(0, 8)))
                              .string();
  return run;
}

// The loss that a sweep compares; infinite for a diverged run, empty when there is no result.
std::optional<double> held_out_loss(const StudyRun& run, const StudyResults& results) {
  const Json* line = results.find(run.hash);
  if (line == nullptr) return std::nullopt;
  if (line->contains("diverged")) return std::numeric_limits<double>::infinity();
  return line->at("held_out").at("loss").get<double>();
}

Json options_json(const std::map<std::string, OptionValue>& options) {
  Json out = Json::object();
  for (const auto& [key, value] : options)
    std::visit([&, &name = key](const auto& held) { out[name] = held; }, value);
  return out;
}

Json describe_run(const Study& study, const StudyRun& run) {
  const TrainConfig& c = run.config;
  return {{"study", study.name},
          {"mechanism", run.mechanism->name},
          {"attention", c.model.attention.mechanism},
          {"options", options_json(c.model.attention.values)},
          {"task", c.data.task.name},
          {"seed", run.seed},
          {"lr", run.lr},
          {"precision", c.run.precision},
          {"config", run.hash},
          {"version", CAIRN_VERSION}};
}

// What the run's own folder says about how it went.
void add_history(const StudyRun& run, Json& line) {
  const std::vector<Json> metrics = read_metrics(RunFolder{run.config.run.folder}.metrics());
  const Series loss = series(metrics, "tokens", "val_loss");
  const Series accuracy = series(metrics, "tokens", "val_accuracy");
  line["curve"] = {{"tokens", loss.x}, {"loss", loss.y}, {"accuracy", accuracy.y}};
  if (!loss.y.empty())
    line["held_out"] = {{"loss", loss.y.back()}, {"accuracy", accuracy.y.back()}};
  const Series elapsed = series(metrics, "step", "elapsed_s"),
               tokens = series(metrics, "step", "tokens");
  if (elapsed.x.empty()) return;
  line["steps"] = elapsed.x.back();
  line["seconds"] = elapsed.y.back();
  line["tokens"] = tokens.y.back();
}

TaskOptions tested_task(const StudyTest& test, const StudyRun& run) {
  TaskOptions task = run.config.data.task;
  for (const auto& [key, value] : test.task) task.values[key] = value;
  return task;
}

bool has_test(const Json& line, const StudyTest& test, const StudyRun& run) {
  const auto scores = line.find("scores");
  if (scores == line.end() || !scores->contains(test.name)) return false;
  return scores->at(test.name).value("test", "") == test_hash(test, run);
}

// The held-out text of the run's dataset, in windows of the test's length.
TaskScore score_text(const Model& model, const StudyTest& test, const StudyRun& run,
                     const ScoreOptions& options, ThreadTeam& team) {
  const TokenStream tokens(run.config.data.folder, Split::held_out);
  const EvaluationWindows windows(token_source(tokens),
                                  {.length = test.length, .stride = test.stride});
  return score_batches(
      model, test.length, std::min(test.sequences, windows.size()),
      [&](uint64_t first, uint64_t count) { return windows.batch(first, count); }, options, team);
}

Json take_test(const Model& model, const StudyTest& given, const StudyRun& run, ThreadTeam& team) {
  StudyTest test = given;
  if (test.length == 0) test.length = run.config.batch.seq_len;
  const ScoreOptions options{run.config.precision(), test.attention};
  TaskScore score;
  const auto start = std::chrono::steady_clock::now();
  if (run.config.data.task.name.empty()) {
    score = score_text(model, test, run, options, team);
  } else {
    const auto task = make_task(tested_task(test, run));
    test.length = task->length();
    score = score_task(model, *task, test.sequences, options, team);
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  Json out = {{"test", test_hash(given, run)},
              {"length", test.length},
              {"sequences", score.sequences},
              {"whole", score.whole},
              {"targets", score.targets},
              {"right", score.right},
              {"loss", score.mean_loss()},
              {"accuracy", score.accuracy()},
              {"sequence_accuracy", score.sequence_accuracy()},
              {"seconds", took.count()}};
  if (score.attention.visible > 0) {
    out["visited"] =
        static_cast<double>(score.attention.visited) / static_cast<double>(score.attention.visible);
    out["remainder"] = score.attention.mean_remainder;
  }
  return out;
}

void take_tests(const Study& study, const StudyRun& run, const Path& model_folder, Json& line) {
  const Model model = load_model(model_folder);
  ThreadTeam team(static_cast<int>(run.config.run.threads));
  line["parameters"] = parameter_count(model.config());
  line["threads"] = team.size();
  Json& scores = line["scores"];
  if (!scores.is_object()) scores = Json::object();
  for (const StudyTest& test : study.tests)
    if (test.taken_by(run.mechanism->name) && !has_test(line, test, run))
      scores[test.name] = take_test(model, test, run, team);
}

std::string spoken_scores(const Json& line) {
  if (line.contains("diverged")) return "diverged";
  std::string text;
  for (const auto& [name, score] : line.at("scores").items())
    text += fmt::format("{}{} {:.2f}%", text.empty() ? "" : "  ", name,
                        100 * score.at("accuracy").get<double>());
  return text + " right";
}

// Trains and tests one run. Empty when it was stopped.
std::optional<Json> make_result(const Study& study, const StudyRun& run, const Json* earlier,
                                Deadline deadline) {
  Json line = describe_run(study, run);
  if (earlier != nullptr && earlier->contains("scores")) line["scores"] = earlier->at("scores");
  try {
    const SessionResult result = train(run.config, {.deadline = deadline});
    if (!result.finished) {
      log_info("stopped by " + result.stop_reason);
      return std::nullopt;
    }
    add_history(run, line);
    take_tests(study, run, result.model, line);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::diverged) throw;
    add_history(run, line);
    line.erase("scores");
    line["diverged"] = error.what();
  }
  return line;
}

}  // namespace

std::string StudyRun::title() const {
  return fmt::format("{}  lr {}  seed {}", mechanism->name, format_real(lr), seed);
}

std::string test_hash(const StudyTest& test, const StudyRun& run) {
  const Json what = {{"task", run.config.data.task.name},
                     {"options", options_json(tested_task(test, run).values)},
                     {"attention", options_json(test.attention)},
                     {"sequences", test.sequences},
                     {"length", test.length},
                     {"stride", test.stride}};
  return hex64(hash64(json_line(what)));
}

bool is_done(const Study& study, const StudyRun& run, const StudyResults& results) {
  const Json* line = results.find(run.hash);
  if (line == nullptr) return false;
  if (line->contains("diverged")) return true;
  return std::all_of(study.tests.begin(), study.tests.end(), [&](const StudyTest& test) {
    return !test.taken_by(run.mechanism->name) || has_test(*line, test, run);
  });
}

double chosen_rate(const Study& study, const StudyMechanism& mechanism,
                   const StudyResults& results) {
  const std::vector<double> rates = rates_of(study, mechanism);
  if (rates.size() == 1) return rates.front();
  double best = std::numeric_limits<double>::infinity(), chosen = rates.front();
  for (const double rate : rates) {
    const auto loss = held_out_loss(make_run(study, mechanism, rate, 0, ""), results);
    if (!loss) return 0;
    if (*loss < best) {
      best = *loss;
      chosen = rate;
    }
  }
  return chosen;
}

StudyPlan plan_study(const Study& study, const StudyResults& results, const Path& folder) {
  StudyPlan plan;
  for (uint64_t seed = 0; seed < study.seeds; ++seed)
    for (const StudyMechanism& mechanism : study.mechanisms) {
      std::vector<double> rates = rates_of(study, mechanism);
      if (seed > 0 && rates.size() > 1) {
        rates = {chosen_rate(study, mechanism, results)};
        if (rates.front() == 0) {
          ++plan.waiting;
          continue;
        }
      }
      for (const double rate : rates)
        plan.runs.push_back(make_run(study, mechanism, rate, seed, folder));
    }
  return plan;
}

bool run_study(const Study& study, StudyResults& results, const Path& folder, Deadline deadline) {
  const Path home = folder / as_file_name(study.name);
  make_folders(home);
  const FileLock lock(home / "lock");
  while (true) {
    const StudyPlan plan = plan_study(study, results, folder);
    const auto next = std::find_if(plan.runs.begin(), plan.runs.end(), [&](const StudyRun& run) {
      return !is_done(study, run, results);
    });
    if (next == plan.runs.end()) return true;
    if (std::chrono::steady_clock::now() >= deadline) return false;
    log_info(fmt::format("run {} of {}: {}", next - plan.runs.begin() + 1,
                         plan.runs.size() + plan.waiting, next->title()));
    const std::optional<Json> line = make_result(study, *next, results.find(next->hash), deadline);
    if (!line) return false;
    results.append(*line);
    log_info(fmt::format("{}: {}  ({})", next->title(), spoken_scores(*line),
                         format_duration(line->value("seconds", 0.0))));
  }
}

}  // namespace cairn
