// cairn pull: fetch a model from a hub.
#include <fmt/core.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/base/log.h"
#include "cairn/base/progress.h"
#include "cairn/cli/program.h"
#include "cairn/cli/verbs.h"
#include "cairn/io/hub/hub.h"
#include "cairn/io/json.h"

namespace cairn {
namespace {

struct Options {
  std::string name, out, hub = default_hub(), revision = "main";
  std::vector<std::string> patterns;
  int64_t attempts = 5;
  bool offline = false, json = false;
};

std::atomic<bool> interrupted{false};

// The first Ctrl-C ends the transfer in order; a second one, the program.
void catch_interrupt() {
  struct sigaction action = {};
  action.sa_handler = [](int /*signal*/) { interrupted = true; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

HubOptions hub_options(const Options& options, const std::string& tag) {
  HubOptions result;
  result.hub = options.hub;
  while (result.hub.ends_with('/')) result.hub.pop_back();
  if (!result.hub.starts_with("https://") && !result.hub.starts_with("http://"))
    throw Error({.kind = ErrorKind::usage,
                 .doing = "reading the command line of cairn pull",
                 .subject = "--hub",
                 .expected = "an address that begins with https:// or http://",
                 .found = in_quotes(options.hub)});
  if (options.attempts < 1 || options.attempts > 1000)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "reading the command line of cairn pull",
                 .subject = "--attempts",
                 .expected = "1 to 1000",
                 .found = std::to_string(options.attempts)});
  result.attempts = static_cast<int>(options.attempts);
  result.revision = options.revision;
  result.patterns = options.patterns;
  if (!tag.empty()) result.patterns.push_back("*" + tag + "*.gguf");
  if (const char* token = std::getenv("HF_TOKEN")) result.token = token;
  return result;
}

// What other verbs open: the GGUF file when that is all there is, else the folder.
Path model_path(const Path& folder, const std::vector<HubFile>& files) {
  return files.size() == 1 && files[0].path.ends_with(".gguf") ? folder / files[0].path : folder;
}

int run(const Options& options) {
  const size_t colon = options.name.find(':');
  const std::string name = options.name.substr(0, colon);
  const std::string tag = colon == std::string::npos ? "" : options.name.substr(colon + 1);
  check_model_name(name);
  const HubOptions how = hub_options(options, tag);
  const Path folder = options.out.empty() ? model_store() / name : Path(options.out);
  HubModel model;
  std::vector<HubFile> files;
  PullReport report;
  if (options.offline) {
    files = check_pulled(folder, how.patterns);
  } else {
    model = list_model(name, how);
    files = choose_files(model, how);
    catch_interrupt();
    report = pull_files(model, files, folder, how, interrupted);
    if (report.stopped) {
      log_info("stopped; the same command goes on");
      return kExitStopped;
    }
  }
  const Path path = model_path(folder, files);
  if (options.json) {
    const Json result = {{"path", path.string()},
                         {"commit", model.commit},
                         {"files", files.size()},
                         {"fetched_files", report.fetched_files},
                         {"fetched_bytes", report.fetched_bytes}};
    fmt::print("{}", json_line(result));
    return kExitDone;
  }
  log_info(fmt::format("{} files fetched, {}; {} were there", report.fetched_files,
                       format_bytes(report.fetched_bytes),
                       options.offline ? files.size() : report.kept_files));
  fmt::print("{}\n", path.string());
  return kExitDone;
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  Options& o = *options;
  arguments.positional("NAME", "ORGANISATION/MODEL; MODEL:Q4_K_M takes that GGUF file", o.name);
  arguments.option("--out", "the folder to write to; empty: the store, which run and chat know",
                   o.out);
  arguments.option("--file", "only files that match, with * and ?; may be given several times",
                   o.patterns);
  arguments.option("--revision", "a branch, tag or commit", o.revision);
  arguments.option("--hub", "address of the hub (CAIRN_HUB, HF_ENDPOINT)", o.hub);
  arguments.option("--attempts", "at each file, before giving up", o.attempts);
  arguments.flag("--offline", "only look whether the model is there", o.offline);
  arguments.flag("--json", "print one JSON object", o.json);
  return [options] { return run(*options); };
}

}  // namespace

const Verb kPullVerb{.name = "pull",
                     .does = "Fetch a model from a hub",
                     .example =
                         "cairn pull HuggingFaceTB/SmolLM2-135M-Instruct\n"
                         "cairn chat HuggingFaceTB/SmolLM2-135M-Instruct\n"
                         "cairn pull bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M --out models",
                     .prepare = prepare};

}  // namespace cairn
