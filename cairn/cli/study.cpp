// `cairn study`: grids of training runs that compare, and resume.
#include <fmt/core.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/cli/verbs.h"
#include "cairn/study/report.h"

namespace cairn {
namespace {

constexpr int kResumable = 75;  // EX_TEMPFAIL: the same command goes on

struct Options {
  std::string config;
  std::string task;
  std::string mechanisms;  // separated by commas
  std::string results;
  std::string runs = "runs/study";
  std::string pictures;
  int64_t seeds = 0;
  double max_minutes = 0;
  bool list = false;
  bool table = false;
  bool json = false;
  std::vector<std::string> overrides;
};

std::vector<std::string> split_words(const std::string& text) {
  std::vector<std::string> words;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    if (end > begin) words.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

[[noreturn]] void wrong_use(const std::string& expected, const std::string& found) {
  throw Error({.kind = ErrorKind::usage,
               .doing = "reading the command line of cairn study attention",
               .expected = expected,
               .found = found,
               .hint = "cairn study attention --help shows an example"});
}

Deadline deadline_of(const Options& options) {
  if (options.max_minutes < 0) wrong_use("--max-minutes above 0", "less");
  if (options.max_minutes == 0) return kNoDeadline;
  constexpr double kMost = 1e6;  // two years
  return std::chrono::steady_clock::now() +
         std::chrono::seconds(static_cast<int64_t>(std::min(options.max_minutes, kMost) * 60));
}

void show(const Study& study, const StudyResults& results, const Options& options) {
  if (options.json)
    fmt::print("{}", json_line(study_table_json(study, results)));
  else
    fmt::print("{}", study_table(study, results));
  Path pictures = options.pictures.empty() ? "studies/results/" : options.pictures;
  if (pictures.filename().empty()) pictures /= study.name;
  for (const Path& path : draw_study(study, results, pictures))
    if (!options.json) fmt::print("{}\n", path.string());
}

int run_attention(const Options& options) {
  if (options.config.empty() && options.task.empty())
    wrong_use("a CONFIG or --task NAME", "neither");
  if (options.seeds < 0) wrong_use("--seeds from 1 on", std::to_string(options.seeds));
  const Deadline deadline = deadline_of(options);
  const Study study = load_study({.file = options.config,
                                  .task = options.task,
                                  .mechanisms = split_words(options.mechanisms),
                                  .seeds = static_cast<uint64_t>(options.seeds),
                                  .overrides = options.overrides});
  const Path file =
      !options.results.empty() ? options.results : "studies/results/" + study.name + ".jsonl";
  StudyResults results(file);
  if (options.list) {
    fmt::print("{}", study_list(study, results, options.runs));
    return 0;
  }
  if (options.table) {
    show(study, results, options);
    return 0;
  }
  const bool finished = run_study(study, results, options.runs, deadline);
  show(study, results, options);
  if (!finished && !options.json)
    fmt::print("stopped; the same command goes on: {}", study_list(study, results, options.runs));
  return finished ? 0 : kResumable;
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  arguments.positional("CONFIG", "a study, a TOML file (or give --task)", options->config, false);
  arguments.option("--task", "the synthetic task to train on", options->task);
  arguments.option("--mechanisms", "some of the study's, or rooms, separated by commas (all)",
                   options->mechanisms);
  arguments.option("--seeds", "runs of each mechanism (as the study says; 3)", options->seeds);
  arguments.option("--results", "JSON lines, one a finished run (studies/results/NAME.jsonl)",
                   options->results);
  arguments.option("--runs", "where runs are kept and resumed", options->runs);
  arguments.option("--pictures",
                   "where to draw: a folder ending in /, or a file without .svg and .png "
                   "(studies/results/NAME)",
                   options->pictures);
  arguments.option("--max-minutes", "save and stop after so long (exit code 75)",
                   options->max_minutes);
  arguments.flag("--list", "show what is done and what is missing; train nothing", options->list);
  arguments.flag("--table", "show table and pictures of the results so far; train nothing",
                 options->table);
  arguments.flag("--json", "print the table as JSON", options->json);
  arguments.overrides("sets a key of every run's configuration: --run.steps=500",
                      options->overrides);
  return [options] { return run_attention(*options); };
}

}  // namespace

const Verb kStudyVerb{
    .name = "study",
    .does = "Compare by training: grids of runs that resume",
    .example = "cairn study attention examples/studies/flip-flop.toml --max-minutes 60",
    .subverbs = {
        {.name = "attention",
         .does = "Train several attention mechanisms on one task or text, and table their tests",
         .example = "cairn study attention examples/studies/flip-flop.toml --max-minutes 60\n"
                    "cairn study attention --task recall --mechanisms softmax --run.steps=500\n"
                    "Stopped or killed, the same command goes on; --list shows what is missing.",
         .prepare = prepare},
    }};

}  // namespace cairn
