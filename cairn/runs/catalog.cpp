#include "cairn/runs/catalog.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/base/median.h"
#include "cairn/io/json.h"
#include "cairn/runs/metrics.h"

namespace cairn {
namespace {

constexpr size_t kSpeedWindow = 100;
constexpr int kDeepest = 8;  // folders below the one that is searched

std::optional<double> number(const Json& line, const char* field) {
  const auto at = line.find(field);
  if (at == line.end() || !at->is_number()) return std::nullopt;
  return at->get<double>();
}

uint64_t whole(const Json& line, const char* field) {
  const auto at = line.find(field);
  return at != line.end() && at->is_number_unsigned() ? at->get<uint64_t>() : 0;
}

void add_training_line(const Json& line, RunSummary& run, std::vector<double>& speeds) {
  run.step = whole(line, "step");
  run.tokens = whole(line, "tokens");
  run.loss = number(line, "loss_average");
  run.skipped = whole(line, "skipped");
  run.seconds = number(line, "elapsed_s").value_or(run.seconds);
  if (const auto speed = number(line, "tokens_per_second")) speeds.push_back(*speed);
}

void add_evaluation_line(const Json& line, RunSummary& run) {
  run.held_out_loss = number(line, "val_loss");
  run.bits_per_byte = number(line, "bits_per_byte");
  run.seconds = number(line, "elapsed_s").value_or(run.seconds);
  if (!run.held_out_loss || (run.best_held_out && *run.best_held_out <= *run.held_out_loss)) return;
  run.best_held_out = run.held_out_loss;
  run.best_step = whole(line, "step");
}

std::vector<uint64_t> checkpoint_steps(const RunFolder& folder) {
  constexpr std::string_view kPrefix = "step-";
  std::vector<uint64_t> steps;
  std::error_code code;
  for (const auto& entry : std::filesystem::directory_iterator(folder.checkpoints(), code)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix)) continue;
    uint64_t step = 0;
    const char* end = name.data() + name.size();
    const auto parsed = std::from_chars(name.data() + kPrefix.size(), end, step);
    if (parsed.ec == std::errc() && parsed.ptr == end) steps.push_back(step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

RunState state_of(const RunSummary& run) {
  if (is_locked(run.folder.lock())) return RunState::running;
  if (std::filesystem::exists(run.folder.model() / "config.json")) return RunState::finished;
  return run.checkpoints.empty() ? RunState::begun : RunState::stopped;
}

void search(const Path& folder, int depth, std::vector<Path>& found) {
  if (is_run(folder)) {
    found.push_back(folder);
    return;
  }
  if (depth == kDeepest) return;
  std::error_code code;
  for (const auto& entry : std::filesystem::directory_iterator(
           folder, std::filesystem::directory_options::skip_permission_denied, code))
    if (entry.is_directory(code) && !entry.is_symlink(code)) search(entry.path(), depth + 1, found);
}

}  // namespace

std::string_view run_state_name(RunState state) {
  switch (state) {
    case RunState::begun:
      return "begun";
    case RunState::running:
      return "running";
    case RunState::stopped:
      return "stopped";
    case RunState::finished:
      return "finished";
  }
  return "";
}

bool is_run(const Path& folder) {
  const RunFolder run{folder};
  return std::filesystem::is_regular_file(run.config()) &&
         std::filesystem::is_regular_file(run.metrics());
}

RunSummary summarize_run(const Path& folder) {
  if (!is_run(folder))
    throw Error({.kind = ErrorKind::data,
                 .doing = "looking at run " + folder.string(),
                 .expected = "a folder with config.toml and metrics.jsonl, as cairn train makes it",
                 .found = std::filesystem::exists(folder) ? "none in it" : "no such folder"});
  RunSummary run{.folder = {folder}};
  std::vector<double> speeds;
  for (const Json& line : read_metrics(run.folder.metrics())) {
    if (line.contains("loss")) add_training_line(line, run, speeds);
    if (line.contains("val_loss")) add_evaluation_line(line, run);
    run.rewinds = std::max(run.rewinds, whole(line, "rewinds"));
  }
  if (speeds.size() > kSpeedWindow)
    speeds.erase(speeds.begin(), speeds.end() - static_cast<std::ptrdiff_t>(kSpeedWindow));
  if (!speeds.empty()) run.tokens_per_second = median(std::move(speeds));
  run.checkpoints = checkpoint_steps(run.folder);
  run.parent = read_parent(run.folder);
  run.state = state_of(run);
  return run;
}

std::vector<Path> find_runs(const Path& root) {
  if (!std::filesystem::is_directory(root))
    throw Error({.kind = ErrorKind::data,
                 .doing = "looking for runs in " + root.string(),
                 .expected = "a folder",
                 .found = std::filesystem::exists(root) ? "a file" : "nothing there"});
  std::vector<Path> found;
  search(root, 0, found);
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace cairn
