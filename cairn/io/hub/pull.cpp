// Fetching the files of a model: in pieces that survive broken connections, checked before they
// get their names.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "cairn/base/error.h"
#include "cairn/base/progress.h"
#include "cairn/io/hub/digest.h"
#include "cairn/io/hub/http.h"
#include "cairn/io/hub/hub.h"
#include "cairn/io/json.h"

namespace cairn {
namespace {

constexpr const char* kManifest = ".cairn-pull.json";

std::string checksum_of(const HubFile& file) {
  return file.sha256.empty() ? file.git_sha1 : file.sha256;
}

// The checksum of a file on disk, of the kind that `file` has.
std::string checksum_on_disk(const Path& path, const HubFile& file) {
  const bool sha256 = !file.sha256.empty();
  const FileReader reader(path);
  Digest digest(sha256 ? Digest::Kind::sha256 : Digest::Kind::sha1);
  if (!sha256) {  // of a git object: its kind, its size and a zero byte come first
    digest.update(fmt::format("blob {}", reader.size()));
    digest.update(std::string_view("\0", 1));
  }
  std::string piece(size_t{1} << 20, '\0');
  for (uint64_t at = 0; at < reader.size();) {
    const size_t count = static_cast<size_t>(std::min<uint64_t>(piece.size(), reader.size() - at));
    reader.read(at, piece.data(), count);
    digest.update(std::string_view(piece).substr(0, count));
    at += count;
  }
  return digest.finish();
}

uint64_t size_on_disk(const Path& path) {
  std::error_code code;
  const uint64_t size = std::filesystem::file_size(path, code);
  return code ? 0 : size;
}

bool is_there(const Path& path, const HubFile& file) {
  std::error_code code;
  if (!std::filesystem::is_regular_file(path, code)) return false;
  if (size_on_disk(path) != file.size) return false;
  const std::string expected = checksum_of(file);
  return !expected.empty() && checksum_on_disk(path, file) == expected;
}

// An address in which a path of the repository stands: all but plain characters as %XX.
std::string escaped(std::string_view path) {
  std::string result;
  for (const char c : path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("-._~/").find(c) != std::string::npos;
    result += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return result;
}

class Puller {
 public:
  Puller(const HubModel& model, const Path& folder, const HubOptions& options,
         const std::atomic<bool>& stop, ProgressCount& progress)
      : model_(model), folder_(folder), options_(options), stop_(stop), progress_(progress) {}

  // False when `stop_` was set. Adds to `fetched` the bytes that came.
  bool pull(const HubFile& file, uint64_t& fetched);

 private:
  enum class Attempt { whole, broken, stopped };
  Attempt attempt(const HubFile& file, const Path& part, uint64_t& fetched);
  bool wait(double seconds) const;
  [[noreturn]] void refuse(const HubFile& file, const std::string& expected,
                           const std::string& found, ErrorKind kind = ErrorKind::failed,
                           const std::string& hint = "") const {
    throw Error({.kind = kind,
                 .doing = "pulling " + model_.name,
                 .subject = file.path,
                 .expected = expected,
                 .found = found,
                 .hint = hint});
  }

  const HubModel& model_;
  const Path& folder_;
  const HubOptions& options_;
  const std::atomic<bool>& stop_;
  ProgressCount& progress_;
  HttpClient client_;
  std::string trouble_;  // of the last attempt
};

bool Puller::wait(double seconds) const {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (std::chrono::steady_clock::now() < end) {
    if (stop_) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return !stop_;
}

bool Puller::pull(const HubFile& file, uint64_t& fetched) {
  const Path target = folder_ / file.path;
  make_folders(target.parent_path());
  // The name says what was begun: another version of the file is begun anew.
  const std::string checksum = checksum_of(file);
  const Path part =
      target.string() + "." + (checksum.empty() ? model_.commit : checksum).substr(0, 12) + ".part";
  double pause = options_.first_pause;
  bool begun_anew = false;
  for (int left = options_.attempts;;) {
    const Attempt outcome = attempt(file, part, fetched);
    if (outcome == Attempt::stopped) return false;
    if (outcome == Attempt::whole) {
      const std::string found = checksum.empty() ? "" : checksum_on_disk(part, file);
      if (found == checksum) break;
      truncate_file(part, 0);
      // What was there from before may have been damaged; what came now in one go was not.
      if (begun_anew)
        refuse(file, "the checksum " + checksum, found, ErrorKind::data,
               "the hub or something on the way changes the file");
      begun_anew = true;
      continue;
    }
    if (--left <= 0)
      refuse(file, fmt::format("{} bytes", file.size), trouble_, ErrorKind::failed,
             "the same command goes on where this one stopped");
    if (!wait(pause)) return false;
    pause *= 2;
  }
  rename_file(part, target);
  sync_folder(target.parent_path());
  return true;
}

Puller::Attempt Puller::attempt(const HubFile& file, const Path& part, uint64_t& fetched) {
  uint64_t have = size_on_disk(part);
  if (have > file.size) {
    truncate_file(part, 0);
    have = 0;
  }
  std::error_code code;
  if (have == file.size && std::filesystem::exists(part, code)) return Attempt::whole;
  std::optional<FileWriter> writer;
  uint64_t at = have;
  bool too_long = false;
  const HttpRequest request{.url = fmt::format("{}/{}/resolve/{}/{}", options_.hub, model_.name,
                                               model_.commit, escaped(file.path)),
                            .token = options_.token,
                            .begin = have};
  const HttpResponse response =
      client_.get(request, [&](const HttpResponse& so_far, std::string_view bytes) {
        if (stop_) return false;
        if (so_far.status != 200 && so_far.status != 206) return true;  // an error's page
        if (!writer) {
          // A server that does not know ranges sends everything again.
          const auto range = so_far.headers.find("content-range");
          const bool goes_on = so_far.status == 206 && range != so_far.headers.end() &&
                               range->second.starts_with(fmt::format("bytes {}-", have));
          if (!goes_on) at = 0;
          if (!goes_on && so_far.status == 206) return false;  // not the range asked for
          writer.emplace(part,
                         goes_on && have > 0 ? FileWriter::Mode::append : FileWriter::Mode::create);
        }
        too_long = bytes.size() > file.size - at;
        if (too_long) return false;
        writer->write(bytes);
        at += bytes.size();
        fetched += bytes.size();
        progress_.advance(bytes.size());
        return true;
      });
  if (writer) {
    writer->sync();
    writer->close();
  }
  if (stop_) return Attempt::stopped;
  if (too_long) refuse(file, fmt::format("{} bytes", file.size), "more", ErrorKind::data);
  if (response.status == 416) truncate_file(part, 0);
  if (response.status >= 400 && response.status < 500 && response.status != 416 &&
      response.status != 408 && response.status != 429)
    refuse(file, "the file", fmt::format("status {}", response.status));
  if (file.size == 0 && response.status == 200 && !writer) FileWriter(part).close();
  if (size_on_disk(part) == file.size && response.error.empty() && response.status < 300)
    return Attempt::whole;
  trouble_ = !response.error.empty()  ? response.error
             : response.status >= 300 ? fmt::format("status {}", response.status)
                                      : fmt::format("{} bytes", size_on_disk(part));
  return Attempt::broken;
}

void write_manifest(const HubModel& model, const std::vector<HubFile>& files, const Path& folder,
                    const std::string& hub) {
  Json list = Json::object();
  for (const HubFile& file : files) {
    list[file.path] = {{"size", file.size}};
    if (!file.sha256.empty()) list[file.path]["sha256"] = file.sha256;
    if (file.sha256.empty() && !file.git_sha1.empty()) list[file.path]["git_sha1"] = file.git_sha1;
  }
  const Json manifest = {
      {"hub", hub}, {"name", model.name}, {"commit", model.commit}, {"files", list}};
  write_file_atomically(folder / kManifest, write_json(manifest));
}

}  // namespace

PullReport pull_files(const HubModel& model, const std::vector<HubFile>& files, const Path& folder,
                      const HubOptions& options, const std::atomic<bool>& stop) {
  PullReport report;
  make_folders(folder);
  std::vector<const HubFile*> missing;
  uint64_t needed = 0;
  for (const HubFile& file : files) {
    if (!is_safe_path(file.path))
      throw Error({.kind = ErrorKind::data,
                   .doing = "pulling " + model.name,
                   .expected = "paths inside the model's folder",
                   .found = in_quotes(file.path)});
    report.total_bytes += file.size;
    if (is_there(folder / file.path, file)) {
      ++report.kept_files;
      continue;
    }
    missing.push_back(&file);
    needed += file.size;
  }
  const uint64_t room = free_space(folder);
  if (needed > room)
    throw Error({.doing = "pulling " + model.name + " into " + folder.string(),
                 .expected = format_bytes(needed) + " of free space",
                 .found = format_bytes(room)});
  ProgressCount progress("pulling", needed, "B");
  Puller puller(model, folder, options, stop, progress);
  for (const HubFile* file : missing) {
    if (stop || !puller.pull(*file, report.fetched_bytes)) {
      report.stopped = true;
      return report;
    }
    ++report.fetched_files;
  }
  progress.finish();
  write_manifest(model, files, folder, options.hub);
  return report;
}

std::vector<HubFile> check_pulled(const Path& folder, const std::vector<std::string>& patterns) {
  const Path path = folder / kManifest;
  std::error_code code;
  if (!std::filesystem::is_regular_file(path, code))
    throw Error({.kind = ErrorKind::data,
                 .doing = "looking for a pulled model",
                 .subject = folder.string(),
                 .expected = "a model that was pulled before",
                 .found = "none",
                 .hint = "pull it once without --offline"});
  const Json document = read_json(path);
  const JsonField files = JsonField(document, path.string()).member("files");
  std::vector<HubFile> result;
  for (const std::string& name : files.keys()) {
    if (!is_safe_path(name)) files.fail("paths inside the folder");
    const bool wanted =
        patterns.empty() || std::any_of(patterns.begin(), patterns.end(), [&](const auto& pattern) {
          return matches_pattern(name, pattern);
        });
    if (!wanted) continue;
    HubFile file;
    file.path = name;
    file.size = static_cast<uint64_t>(files.member(name).member("size").as_integer(0));
    if (size_on_disk(folder / name) != file.size)
      throw Error({.kind = ErrorKind::data,
                   .doing = "looking for a pulled model",
                   .subject = (folder / name).string(),
                   .expected = fmt::format("{} bytes", file.size),
                   .found = fmt::format("{} bytes", size_on_disk(folder / name)),
                   .hint = "pull it again without --offline"});
    result.push_back(file);
  }
  if (result.empty())
    throw Error({.kind = ErrorKind::data,
                 .doing = "looking for a pulled model",
                 .subject = folder.string(),
                 .expected = "files that match --file",
                 .found = "none"});
  return result;
}

}  // namespace cairn
