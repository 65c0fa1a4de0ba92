#include "cairn/train/checkpoint_store.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <sstream>

#include "cairn/base/error.h"
#include "cairn/base/hash.h"
#include "cairn/base/log.h"
#include "cairn/base/progress.h"
#include "cairn/io/json.h"

namespace cairn {
namespace {

constexpr const char* kManifest = "MANIFEST";

struct FileFacts {
  uint64_t hash = 0;
  uint64_t size = 0;
  bool operator==(const FileFacts& other) const = default;
};

std::string line_of(const std::string& name, const FileFacts& facts) {
  return fmt::format("{} {} {}\n", hex64(facts.hash), facts.size, name);
}

// The last line of a manifest vouches for the lines before it.
std::string own_line(const std::string& lines) {
  return line_of(kManifest, {hash64(lines), lines.size()});
}

FileFacts facts_of(const Path& path) {
  const MappedFile file(path);
  return {hash64(file.bytes().data(), file.size()), file.size()};
}

// Regular files of a folder by name; a checkpoint has no folders inside.
std::map<std::string, FileFacts> facts_of_folder(const Path& folder) {
  std::map<std::string, FileFacts> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().filename() != kManifest)
      files[entry.path().filename().string()] = facts_of(entry.path());
  return files;
}

void sync_file(const Path& path) {
  FileWriter writer(path, FileWriter::Mode::append);
  writer.sync();
  writer.close();
}

[[noreturn]] void distrust(const Path& folder, const std::string& subject,
                           const std::string& expected, const std::string& found) {
  throw Error({.kind = ErrorKind::checkpoint,
               .doing = "checking " + folder.string(),
               .subject = subject,
               .expected = expected,
               .found = found});
}

std::optional<uint64_t> step_of(const std::string& name) {
  constexpr std::string_view kPrefix = "step-";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  uint64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [stop, code] = std::from_chars(name.data() + kPrefix.size(), end, step);
  if (code != std::errc() || stop != end) return std::nullopt;
  return step;
}

void seal(const Path& folder) {
  std::string manifest;
  for (const auto& [name, facts] : facts_of_folder(folder)) {
    sync_file(folder / name);
    manifest += line_of(name, facts);
  }
  sync_folder(folder);
  FileWriter writer(folder / kManifest);
  writer.write(manifest + own_line(manifest));
  writer.sync();
  writer.close();
  sync_folder(folder);
}

}  // namespace

void verify_manifest(const Path& folder) {
  const Path manifest = folder / kManifest;
  if (!std::filesystem::is_regular_file(manifest)) distrust(folder, kManifest, "a file", "none");
  const std::string text = read_file(manifest, uint64_t{1} << 20);
  const size_t last = text.size() < 2 ? 0 : text.rfind('\n', text.size() - 2) + 1;
  const std::string listed = text.substr(0, last);
  if (text.substr(last) != own_line(listed))
    distrust(folder, kManifest, "its own hash in its last line", in_quotes(text.substr(last)));
  std::istringstream lines(listed);
  std::string line;
  while (std::getline(lines, line)) {
    const Path path = folder / Path(line.substr(line.rfind(' ') + 1)).filename();
    if (!std::filesystem::is_regular_file(path))
      distrust(folder, path.filename().string(), "a file", "none");
    const std::string found = line_of(path.filename().string(), facts_of(path));
    if (found != line + "\n") distrust(folder, path.filename().string(), line, found);
  }
}

CheckpointStore::CheckpointStore(const Path& folder, Access access) : folder_(folder) {
  if (access == Access::look) return;
  make_folders(folder_);
  std::error_code ignored;  // a leftover that cannot be removed harms nobody
  for (const auto& entry : std::filesystem::directory_iterator(folder_))
    if (entry.path().filename().string().starts_with("tmp-"))
      std::filesystem::remove_all(entry.path(), ignored);
}

Path CheckpointStore::place(uint64_t step) const {
  return folder_ / fmt::format("step-{:08}", step);
}

// Renamed first, so that a crash in the middle leaves no folder that lacks only a part.
void CheckpointStore::remove(const Path& folder) {
  const Path grave = folder_ / ("tmp-old-" + folder.filename().string());
  std::error_code ignored;
  std::filesystem::remove_all(grave, ignored);
  rename_file(folder, grave);
  std::filesystem::remove_all(grave, ignored);
}

void CheckpointStore::require_space(uint64_t step, uint64_t bytes) const {
  if (const uint64_t free = free_space(folder_); free < bytes)
    throw Error({.kind = ErrorKind::checkpoint,
                 .doing = "writing checkpoint " + place(step).string(),
                 .expected = format_bytes(bytes) + " of free space",
                 .found = format_bytes(free),
                 .hint = "free some space; older checkpoints are untouched"});
}

Path CheckpointStore::write(uint64_t step, uint64_t bytes,
                            FunctionRef<void(const Path& folder)> fill) {
  const Path final_place = place(step);
  if (std::filesystem::exists(final_place)) {
    try {
      verify_manifest(final_place);
      return final_place;
    } catch (const Error&) {
      remove(final_place);
    }
  }
  require_space(step, bytes);
  const Path temporary = folder_ / fmt::format("tmp-step-{:08}-{}", step, ::getpid());
  Problem problem;
  try {
    make_folders(temporary);
    fill(temporary);
    seal(temporary);
    rename_file(temporary, final_place);
    sync_folder(folder_);
    write_file_atomically(folder_ / "latest", final_place.filename().string() + "\n");
    return final_place;
  } catch (const Error& error) {
    problem = error.problem();
  } catch (const std::exception& error) {
    problem = {.doing = "writing checkpoint " + final_place.string(), .found = error.what()};
  }
  std::error_code ignored;
  std::filesystem::remove_all(temporary, ignored);
  problem.kind = ErrorKind::checkpoint;
  if (problem.hint.empty()) problem.hint = "older checkpoints are untouched";
  throw Error(std::move(problem));
}

std::vector<uint64_t> CheckpointStore::steps() const {
  std::vector<uint64_t> steps;
  for (const auto& entry : std::filesystem::directory_iterator(folder_))
    if (const auto step = step_of(entry.path().filename().string())) steps.push_back(*step);
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::optional<CheckpointStore::Found> CheckpointStore::newest() const {
  const std::vector<uint64_t> all = steps();
  for (auto step = all.rbegin(); step != all.rend(); ++step) {
    try {
      verify_manifest(place(*step));
      return Found{*step, place(*step)};
    } catch (const Error& error) {
      log_warning(std::string(error.what()) + "\n  this checkpoint is passed over");
    }
  }
  return std::nullopt;
}

Path CheckpointStore::find(uint64_t step) const {
  verify_manifest(place(step));
  return place(step);
}

void CheckpointStore::forget_after(uint64_t step) {
  const std::vector<uint64_t> all = steps();
  for (auto other = all.rbegin(); other != all.rend() && *other > step; ++other)
    remove(place(*other));
}

void CheckpointStore::retain(const Retention& retention) {
  const std::vector<uint64_t> all = steps();
  const size_t keep = std::max<uint64_t>(1, retention.keep_last);
  std::vector<uint64_t> superfluous;
  for (size_t i = 0; i + keep < all.size(); ++i) {
    const bool major = retention.keep_every > 0 && all[i] % retention.keep_every == 0;
    const auto& listed = retention.steps;
    if (!major && std::find(listed.begin(), listed.end(), all[i]) == listed.end())
      superfluous.push_back(all[i]);
  }
  if (superfluous.empty()) return;
  try {
    verify_manifest(place(all.back()));
    for (const uint64_t step : superfluous) remove(place(step));
  } catch (const Error& error) {  // too many checkpoints are better than a run that ends
    log_warning(error.what());
  }
}

}  // namespace cairn
