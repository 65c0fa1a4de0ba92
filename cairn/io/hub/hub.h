// Models on a hub that speaks the HTTP layout of Hugging Face: what a repository holds, which files
// of it make a model that runs here, and fetching them, checked and resumed.
//
//   GET {hub}/api/models/{name}/revision/{revision}?blobs=true     the commit and its files
//   GET {hub}/{name}/resolve/{commit}/{path}                       a file
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/base/file.h"

namespace cairn {

struct HubOptions {
  std::string hub;    // "https://huggingface.co"
  std::string token;  // for models that are not public; may be empty
  std::string revision = "main";
  std::vector<std::string> patterns;  // of files, with * and ?; none: what makes a model
  int attempts = 5;                   // at each file, before giving up
  double first_pause = 0.5;           // seconds between attempts, doubled each time
};

struct HubFile {
  std::string path;  // inside the repository, checked by is_safe_path()
  uint64_t size = 0;
  std::string sha256;    // of files kept apart (LFS); may be empty
  std::string git_sha1;  // of the git object of others; may be empty
};

struct HubModel {
  std::string name, commit;
  std::vector<HubFile> files;
};

// CAIRN_HUB, HF_ENDPOINT, or the public one.
std::string default_hub();

// "org/model", "model"; letters, digits, and . _ - inside. Throws Error (usage) otherwise.
void check_model_name(std::string_view name);

// Whether a path that a server names stays inside the folder it is written to: relative, of plain
// components, without control characters and backslashes, none longer than 200 bytes.
bool is_safe_path(std::string_view path);

// `text` matches `pattern`, in which * stands for any text and ? for one byte; letters of either
// case.
bool matches_pattern(std::string_view text, std::string_view pattern);

// Asks the hub. Throws Error (failed) when it cannot be reached or has no such model, (data) when
// its answer is not understood or names unsafe paths.
HubModel list_model(const std::string& name, const HubOptions& options);

// The files to fetch: those that match a pattern; without one the weights in safetensors with all
// configuration beside them, or the one GGUF file. Throws Error (usage) naming the choices where
// there are several GGUF files, and (data) where there is no model.
std::vector<HubFile> choose_files(const HubModel& model, const HubOptions& options);

struct PullReport {
  uint64_t fetched_bytes = 0, total_bytes = 0;
  size_t fetched_files = 0, kept_files = 0;
  bool stopped = false;  // `stop` was set: the same call goes on
};

// Fetches the files into `folder`. What is there with the right checksum stays; a file that was
// begun (PATH.HASH.part) goes on. A manifest, .cairn-pull.json, tells afterwards what came from
// where. Throws Error (failed) when the network or disk gives up, (data) when a checksum is wrong.
PullReport pull_files(const HubModel& model, const std::vector<HubFile>& files, const Path& folder,
                      const HubOptions& options, const std::atomic<bool>& stop);

// Without any network: checks that what the manifest of `folder` names (and matches a pattern, if
// there are any) is there with its size. Throws Error (data) when it is not.
std::vector<HubFile> check_pulled(const Path& folder, const std::vector<std::string>& patterns);

// Where pulled models live: CAIRN_MODELS, or cairn/models in XDG_DATA_HOME or ~/.local/share.
Path model_store();

// `name` itself when there is such a file or folder, else the model of that name in the store if it
// was pulled: its folder, or its GGUF file when it is one. Else `name`.
Path find_model(const std::string& name);

}  // namespace cairn
