#include "cairn/io/hub/hub.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/io/hub/http.h"
#include "cairn/io/json.h"

namespace cairn {
namespace {

constexpr size_t kLargestAnswer = size_t{64} << 20;

bool is_hexadecimal(std::string_view text, size_t digits) {
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == text.npos;
}

// "revision" stands in an address: branches, tags and commits of letters, digits and . _ - /
void check_revision(const std::string& revision) {
  const bool good = !revision.empty() && is_safe_path(revision) &&
                    revision.find_first_not_of(
                        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                        "0123456789._-/") == revision.npos;
  if (!good)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "reading the command line",
                 .subject = "revision",
                 .expected = "a branch, tag or commit",
                 .found = in_quotes(revision)});
}

HubFile read_file_entry(const JsonField& entry) {
  HubFile file;
  file.path = entry.member("rfilename").as_string();
  if (!is_safe_path(file.path)) entry.member("rfilename").fail("a path inside the model's folder");
  constexpr int64_t kLargest = int64_t{1} << 50;
  if (const auto size = entry.find("size"))
    file.size = static_cast<uint64_t>(size->as_integer(0, kLargest));
  if (const auto lfs = entry.find("lfs")) {
    if (const auto sha = lfs->find("sha256")) file.sha256 = sha->as_string();
    if (!file.sha256.empty() && !is_hexadecimal(file.sha256, 64))
      lfs->member("sha256").fail("64 hexadecimal digits");
    if (const auto size = lfs->find("size"))
      file.size = static_cast<uint64_t>(size->as_integer(0, kLargest));
  } else if (const auto blob = entry.find("blobId")) {
    file.git_sha1 = blob->as_string();
    if (!is_hexadecimal(file.git_sha1, 40)) blob->fail("40 hexadecimal digits");
  }
  return file;
}

HubModel read_listing(const std::string& name, const std::string& text,
                      const std::string& address) {
  const Json document = parse_json(text, address);
  const JsonField answer(document, address);
  HubModel model;
  model.name = name;
  model.commit = answer.member("sha").as_string();
  if (!is_hexadecimal(model.commit, 40)) answer.member("sha").fail("40 hexadecimal digits");
  for (const JsonField& entry : answer.member("siblings").elements())
    model.files.push_back(read_file_entry(entry));
  std::sort(model.files.begin(), model.files.end(),
            [](const HubFile& a, const HubFile& b) { return a.path < b.path; });
  for (size_t i = 1; i < model.files.size(); ++i)
    if (model.files[i].path == model.files[i - 1].path)
      answer.member("siblings").fail("each file once");
  return model;
}

[[noreturn]] void refuse_listing(const std::string& name, const std::string& address,
                                 const HttpResponse& response) {
  Problem problem{.kind = ErrorKind::failed,
                  .doing = "asking for " + name,
                  .subject = address,
                  .expected = "the files of the model",
                  .found = response.error};
  if (response.error.empty()) problem.found = fmt::format("status {}", response.status);
  if (response.status == 401 || response.status == 403 || response.status == 404)
    problem.hint = "is the name right? A model that is not public needs HF_TOKEN";
  throw Error(std::move(problem));
}

}  // namespace

std::string default_hub() {
  for (const char* name : {"CAIRN_HUB", "HF_ENDPOINT"})
    if (const char* value = std::getenv(name); value != nullptr && *value != '\0') return value;
  return "https://huggingface.co";
}

void check_model_name(std::string_view name) {
  const size_t slash = name.find('/');
  const auto good = [](std::string_view part) {
    return !part.empty() && part.size() <= 100 && part.front() != '.' && part.front() != '-' &&
           part.find_first_not_of(
               "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
               "._-") == part.npos &&
           part.find("..") == part.npos;
  };
  if (slash == name.npos ? good(name) : good(name.substr(0, slash)) && good(name.substr(slash + 1)))
    return;
  throw Error({.kind = ErrorKind::usage,
               .doing = "reading the name of a model",
               .expected = "ORGANISATION/MODEL, as in HuggingFaceTB/SmolLM2-135M-Instruct",
               .found = in_quotes(name)});
}

bool is_safe_path(std::string_view path) {
  if (path.empty() || path.size() > 1000) return false;
  size_t begin = 0;
  while (begin <= path.size()) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    if (part.empty() || part == "." || part == ".." || part.size() > 200) return false;
    for (const char c : part)
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F || c == '\\' || c == ':') return false;
    begin = end + 1;
  }
  return true;
}

bool matches_pattern(std::string_view text, std::string_view pattern) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  size_t t = 0, p = 0, star = pattern.npos, star_text = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_text = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || lower(pattern[p]) == lower(text[t]))) {
      ++p;
      ++t;
    } else if (star != pattern.npos) {  // the last star takes one more
      p = star + 1;
      t = ++star_text;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

HubModel list_model(const std::string& name, const HubOptions& options) {
  check_model_name(name);
  check_revision(options.revision);
  const std::string address =
      fmt::format("{}/api/models/{}/revision/{}?blobs=true", options.hub, name, options.revision);
  HttpClient client;
  std::string text;
  const HttpResponse response =
      client.get({.url = address, .token = options.token},
                 [&](const HttpResponse& /*so_far*/, std::string_view bytes) {
                   text += bytes;
                   return text.size() <= kLargestAnswer;
                 });
  if (response.status != 200 || !response.error.empty()) refuse_listing(name, address, response);
  return read_listing(name, text, address);
}

std::vector<HubFile> choose_files(const HubModel& model, const HubOptions& options) {
  std::vector<HubFile> chosen;
  const auto take = [&](auto wanted) {
    for (const HubFile& file : model.files)
      if (wanted(file.path)) chosen.push_back(file);
  };
  const auto matches_any = [](const std::string& path, const auto& patterns) {
    return std::any_of(patterns.begin(), patterns.end(),
                       [&](const auto& pattern) { return matches_pattern(path, pattern); });
  };
  if (!options.patterns.empty()) {
    take([&](const std::string& path) { return matches_any(path, options.patterns); });
  } else {
    const auto ends_with = [](const std::string& ending) {
      return [ending](const HubFile& file) {
        return file.path.ends_with(ending) && file.path.find('/') == std::string::npos;
      };
    };
    const auto& files = model.files;
    if (std::any_of(files.begin(), files.end(), ends_with(".safetensors"))) {
      constexpr std::array<std::string_view, 5> kKept = {"*.json", "*.safetensors", "*.model",
                                                         "*.jinja", "*.txt"};
      take([&](const std::string& path) {  // the top folder; others hold other formats
        return path.find('/') == path.npos && !path.starts_with("consolidated") &&
               !path.starts_with('.') && matches_any(path, kKept);
      });
    } else {
      take([&](const std::string& path) { return path.ends_with(".gguf"); });
      if (chosen.size() > 1) {
        std::string names;
        for (const HubFile& file : chosen) names += (names.empty() ? "" : ", ") + file.path;
        throw Error({.kind = ErrorKind::usage,
                     .doing = "choosing files of " + model.name,
                     .expected = "one of its GGUF files",
                     .found = names,
                     .hint = "name one: --file '*Q4_K_M.gguf', or " + model.name + ":Q4_K_M"});
      }
    }
  }
  if (chosen.empty())
    throw Error({.kind = ErrorKind::data,
                 .doing = "choosing files of " + model.name,
                 .expected = options.patterns.empty() ? "safetensors or GGUF files"
                                                      : "files that match --file",
                 .found = "none"});
  return chosen;
}

Path model_store() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value != nullptr ? value : "");
  };
  if (const std::string own = variable("CAIRN_MODELS"); !own.empty()) return own;
  if (const std::string data = variable("XDG_DATA_HOME"); !data.empty())
    return Path(data) / "cairn" / "models";
  return Path(variable("HOME")) / ".local" / "share" / "cairn" / "models";
}

Path find_model(const std::string& name) {
  std::error_code code;
  if (std::filesystem::exists(name, code)) return name;
  try {
    check_model_name(name);
  } catch (const Error&) {
    return name;
  }
  const Path folder = model_store() / name;
  if (!std::filesystem::is_regular_file(folder / ".cairn-pull.json", code)) return name;
  std::vector<Path> ggufs;
  for (const auto& entry : std::filesystem::directory_iterator(folder, code)) {
    if (entry.path().filename() == "config.json") return folder;
    if (entry.path().extension() == ".gguf") ggufs.push_back(entry.path());
  }
  return ggufs.size() == 1 ? ggufs.front() : folder;
}

}  // namespace cairn
