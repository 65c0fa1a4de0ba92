// `cairn runs`: what has been trained, how it went, and which run came from which.
#include <fmt/core.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "cairn/base/error.h"
#include "cairn/base/progress.h"
#include "cairn/cli/verbs.h"
#include "cairn/io/json.h"
#include "cairn/runs/catalog.h"
#include "cairn/train/config.h"

namespace cairn {
namespace {

struct Options {
  std::string folder = "runs";
  std::vector<std::string> runs;
  bool json = false;
};

std::string shown(const std::optional<double>& value) {
  return value ? fmt::format("{:.4f}", *value) : "-";
}

Json to_json(const RunSummary& run) {
  Json line = {{"run", run.folder.root.string()},
               {"state", run_state_name(run.state)},
               {"step", run.step},
               {"tokens", run.tokens},
               {"seconds", run.seconds},
               {"tokens_per_second", run.tokens_per_second},
               {"skipped", run.skipped},
               {"rewinds", run.rewinds},
               {"checkpoints", run.checkpoints}};
  const auto put = [&](const char* field, const std::optional<double>& value) {
    if (value) line[field] = *value;
  };
  put("loss", run.loss);
  put("held_out_loss", run.held_out_loss);
  put("bits_per_byte", run.bits_per_byte);
  put("best_held_out", run.best_held_out);
  if (run.best_held_out) line["best_step"] = run.best_step;
  if (run.parent)
    line["parent"] = {{"how", run.parent->how},
                      {"folder", run.parent->folder.string()},
                      {"step", run.parent->step}};
  return line;
}

std::vector<RunSummary> summaries_below(const std::string& folder) {
  std::vector<RunSummary> runs;
  for (const Path& path : find_runs(folder)) runs.push_back(summarize_run(path));
  return runs;
}

void print_header(size_t width) {
  fmt::print("{:<{}}  {:<8}  {:>8}  {:>7}  {:>8}  {:>8}  {:>9}  {:>9}  {:>8}\n", "run", width,
             "state", "step", "tokens", "loss", "held-out", "bits/byte", "best at", "time");
}

void print_row(const RunSummary& run, const std::string& name, size_t width) {
  fmt::print("{:<{}}  {:<8}  {:>8}  {:>7}  {:>8}  {:>8}  {:>9}  {:>9}  {:>8}\n", name, width,
             run_state_name(run.state), run.step, format_count(static_cast<double>(run.tokens)),
             shown(run.loss), shown(run.held_out_loss), shown(run.bits_per_byte),
             run.best_held_out ? std::to_string(run.best_step) : "-", format_duration(run.seconds));
}

void print_table(const std::vector<RunSummary>& runs) {
  size_t width = 3;
  for (const RunSummary& run : runs) width = std::max(width, run.folder.root.string().size());
  print_header(width);
  for (const RunSummary& run : runs) print_row(run, run.folder.root.string(), width);
}

// ---- list ----

int run_list(const Options& options) {
  const std::vector<RunSummary> runs = summaries_below(options.folder);
  if (options.json)
    for (const RunSummary& run : runs) fmt::print("{}", json_line(to_json(run)));
  else if (runs.empty())
    fmt::print("no runs in {}\n", options.folder);
  else
    print_table(runs);
  return 0;
}

// ---- show ----

std::string parent_text(const RunParent& parent) {
  return parent.how == "weights"
             ? "the weights of " + parent.folder.string()
             : fmt::format("{} of {} at step {}", parent.how, parent.folder.string(), parent.step);
}

void print_run(const RunSummary& run) {
  fmt::print("{}: {}\n", run.folder.root.string(), run_state_name(run.state));
  if (run.parent) fmt::print("began as       {}\n", parent_text(*run.parent));
  fmt::print("trained        {} steps, {} tokens, {}\n", run.step,
             format_count(static_cast<double>(run.tokens)), format_duration(run.seconds));
  if (run.tokens_per_second > 0)
    fmt::print("speed          {} tokens/s\n", format_count(run.tokens_per_second));
  fmt::print("loss           {} nats a token\n", shown(run.loss));
  if (run.held_out_loss)
    fmt::print("held-out loss  {} nats a token, {} bits a byte; best {} at step {}\n",
               shown(run.held_out_loss), shown(run.bits_per_byte), shown(run.best_held_out),
               run.best_step);
  if (run.skipped + run.rewinds > 0)
    fmt::print("spikes         {} updates dropped, {} rewinds\n", run.skipped, run.rewinds);
  std::string steps;
  for (const uint64_t step : run.checkpoints)
    steps += (steps.empty() ? "" : ", ") + std::to_string(step);
  fmt::print("checkpoints    {}\n", steps.empty() ? "none" : "of steps " + steps);
  if (run.state == RunState::finished)
    fmt::print("model          {}\n", run.folder.model().string());
  fmt::print("configuration  {}\n", run.folder.config().string());
}

int run_show(const Options& options) {
  for (const std::string& path : options.runs) {
    const RunSummary run = summarize_run(path);
    if (options.json)
      fmt::print("{}", json_line(to_json(run)));
    else
      print_run(run);
  }
  return 0;
}

// ---- compare ----

TrainConfig config_of(const RunSummary& run) {
  const Path file = run.folder.config();
  return parse_config(read_file(file, uint64_t{1} << 20), file.string(), {});
}

int run_compare(const Options& options) {
  if (options.runs.size() < 2)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "comparing runs",
                 .expected = "at least two of them",
                 .found = std::to_string(options.runs.size())});
  std::vector<RunSummary> runs;
  for (const std::string& path : options.runs) runs.push_back(summarize_run(path));
  const TrainConfig first = config_of(runs.front());
  Json lines = Json::array();
  for (const RunSummary& run : runs) {
    Json line = to_json(run);
    for (const ConfigDifference& d : compare_configs(first, config_of(run)))
      if (d.key != "run.folder") line["differs"][d.key] = {d.before, d.after};
    lines.push_back(std::move(line));
  }
  if (options.json) {
    for (const Json& line : lines) fmt::print("{}", json_line(line));
    return 0;
  }
  print_table(runs);
  for (size_t i = 1; i < runs.size(); ++i) {
    fmt::print("\n{} differs from {} in\n", options.runs[i], options.runs[0]);
    const Json differs = lines[i].value("differs", Json::object());
    if (differs.empty()) fmt::print("  nothing\n");
    for (const auto& [key, values] : differs.items())
      fmt::print("  {:<32} {} -> {}\n", key, values[0].get<std::string>(),
                 values[1].get<std::string>());
  }
  return 0;
}

// ---- tree ----

// Runs below each parent, by canonical path; those whose parent is not among them are roots.
class RunTree {
 public:
  // `runs` must outlive it.
  explicit RunTree(const std::vector<RunSummary>& runs) {
    std::set<Path> known;
    for (const RunSummary& run : runs) known.insert(place(run.folder.root));
    for (const RunSummary& run : runs) {
      const Path parent = run.parent ? run.parent->folder : Path();
      children_[known.count(parent) != 0 ? parent : Path()].push_back(&run);
    }
  }

  void print() const {
    size_t width = 3;
    walk({}, "", [&](const RunSummary& run, const std::string& head) {
      width = std::max(width, name(run, head).size());
    });
    print_header(width);
    walk({}, "", [&](const RunSummary& run, const std::string& head) {
      print_row(run, name(run, head), width);
    });
  }

 private:
  static Path place(const Path& path) {
    return std::filesystem::weakly_canonical(std::filesystem::absolute(path));
  }
  static std::string name(const RunSummary& run, const std::string& head) {
    std::string text = head + run.folder.root.string();
    if (run.parent)
      text += run.parent->how == "weights"
                  ? " (weights of " + run.parent->folder.string() + ")"
                  : fmt::format(" ({} at {})", run.parent->how, run.parent->step);
    return text;
  }
  // A run is no ancestor of itself: each has one parent, and a circle of them has no root.
  void walk(const Path& parent, const std::string& head,
            const std::function<void(const RunSummary&, const std::string&)>& visit) const {
    const auto found = children_.find(parent);
    if (found == children_.end()) return;
    for (const RunSummary* run : found->second) {
      visit(*run, head);
      walk(place(run->folder.root), head + "  ", visit);
    }
  }

  std::map<Path, std::vector<const RunSummary*>> children_;
};

int run_tree(const Options& options) {
  const std::vector<RunSummary> runs = summaries_below(options.folder);
  if (options.json)
    for (const RunSummary& run : runs) fmt::print("{}", json_line(to_json(run)));
  else if (runs.empty())
    fmt::print("no runs in {}\n", options.folder);
  else
    RunTree(runs).print();
  return 0;
}

template <int (*kRun)(const Options&)>
std::function<int()> prepare_below(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  arguments.positional("FOLDER", "where to look (runs)", options->folder, false);
  arguments.flag("--json", "print a JSON line a run", options->json);
  return [options] { return kRun(*options); };
}

template <int (*kRun)(const Options&)>
std::function<int()> prepare_named(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  arguments.positionals("RUN", "run folders of `cairn train`", options->runs);
  arguments.flag("--json", "print a JSON line a run", options->json);
  return [options] { return kRun(*options); };
}

}  // namespace

const Verb kRunsVerb{.name = "runs",
                     .does = "List, show and compare runs of `cairn train`",
                     .example = "cairn runs list\n  cairn runs compare runs/small runs/half",
                     .prepare = nullptr,
                     .subverbs = {{.name = "list",
                                   .does = "Show the runs below a folder, a line each",
                                   .example = "cairn runs list runs --json",
                                   .prepare = prepare_below<run_list>},
                                  {.name = "show",
                                   .does = "Show how a run went and what it left",
                                   .example = "cairn runs show runs/small",
                                   .prepare = prepare_named<run_show>},
                                  {.name = "compare",
                                   .does = "Show runs side by side, and in which keys they differ",
                                   .example = "cairn runs compare runs/small runs/half",
                                   .prepare = prepare_named<run_compare>},
                                  {.name = "tree",
                                   .does = "Show which run branched off from which",
                                   .example = "cairn runs tree runs",
                                   .prepare = prepare_below<run_tree>}}};

}  // namespace cairn
