// A model in one file or in shards.
#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/base/suggest.h"
#include "cairn/io/gguf.h"
#include "cairn/io/json.h"

namespace cairn {
namespace {

constexpr int64_t kMaxShards = 65535;  // split.count is a u16

[[noreturn]] void refuse(const std::string& source, const std::string& subject,
                         const std::string& expected, const std::string& found,
                         const std::string& hint = "") {
  throw Error({.kind = ErrorKind::data,
               .doing = "reading " + source,
               .subject = subject,
               .expected = expected,
               .found = found,
               .hint = hint});
}

// STEM of STEM-00002-of-00003.gguf, where `count` is 3; empty for another name.
std::string shard_stem(const std::string& name, size_t count) {
  const std::string end = fmt::format("-of-{:05}.gguf", count);
  if (name.size() < end.size() + 7 || name.substr(name.size() - end.size()) != end) return "";
  const std::string head = name.substr(0, name.size() - end.size());
  const std::string digits = head.substr(head.size() - 5);
  if (digits.find_first_not_of("0123456789") != std::string::npos) return "";
  return head[head.size() - 6] == '-' ? head.substr(0, head.size() - 6) : "";
}

}  // namespace

bool is_gguf(const Path& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return false;
  try {
    const MappedFile file(path);
    return file.text().substr(0, 4) == "GGUF";
  } catch (const Error&) {
    return false;
  }
}

GgufArchive::GgufArchive(const Path& path) : path_(path) {
  open(path);
  const auto count = files_.front().find("split.count");
  if (count && count->as_integer(0, kMaxShards) > 1)
    open_shards(static_cast<size_t>(count->as_integer()));
}

void GgufArchive::open(const Path& path) {
  maps_.emplace_back(path);
  files_.emplace_back(maps_.back().bytes(), path.string());
}

void GgufArchive::open_shards(size_t count) {
  const std::string stem = shard_stem(path_.filename().string(), count);
  if (stem.empty())
    refuse(path_.string(), "name of the file",
           fmt::format("NAME-0000K-of-{:05}.gguf (split.count is {})", count, count),
           in_quotes(path_.filename().string()), "shards find each other by their names");
  files_.clear();
  maps_.clear();
  std::vector<std::string_view> names;
  for (size_t number = 0; number < count; ++number) {
    const Path shard =
        path_.parent_path() / fmt::format("{}-{:05}-of-{:05}.gguf", stem, number + 1, count);
    open(shard);
    const GgufFile& file = files_.back();
    const auto no = file.find("split.no"), all = file.find("split.count");
    if (!no || !all)
      refuse(shard.string(), "split.no and split.count", "both", "no such keys",
             "is it a shard of another model?");
    if (no->as_integer() != static_cast<int64_t>(number))
      no->fail(std::to_string(number) + " (by the name of the file)");
    if (all->as_integer() != static_cast<int64_t>(count)) all->fail(std::to_string(count));
    for (size_t i = 0; i < file.tensor_count(); ++i) names.push_back(file.tensor(i).name);
  }
  const auto promised = find("split.tensors.count");
  if (promised && promised->as_integer() != static_cast<int64_t>(names.size()))
    promised->fail(fmt::format("{} (tensors in all shards)", names.size()));
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end())
    refuse(path_.string(), "tensor " + in_quotes(*twice), "each tensor in one shard",
           "it in two of them");
}

GgufValue GgufArchive::at(std::string_view key) const {
  if (const auto value = find(key)) return *value;
  std::vector<std::string> keys;
  for (size_t i = 0; i < metadata().metadata_count(); ++i)
    keys.emplace_back(metadata().metadata(i).key());
  refuse(path_.string(), "key " + in_quotes(key), "it in the metadata", "no such key",
         did_you_mean(key, keys));
}

size_t GgufArchive::tensor_count() const {
  size_t count = 0;
  for (const GgufFile& file : files_) count += file.tensor_count();
  return count;
}

GgufTensor GgufArchive::tensor(size_t index) const {
  for (const GgufFile& file : files_) {
    if (index < file.tensor_count()) return file.tensor(index);
    index -= file.tensor_count();
  }
  throw Error({.kind = ErrorKind::usage,
               .doing = "looking into " + path_.string(),
               .expected = "a tensor below " + std::to_string(tensor_count())});
}

std::optional<GgufTensor> GgufArchive::find_tensor(std::string_view name) const {
  for (const GgufFile& file : files_)
    if (const auto index = file.find_tensor(name)) return file.tensor(*index);
  return std::nullopt;
}

GgufTensor GgufArchive::tensor(std::string_view name) const {
  if (const auto found = find_tensor(name)) return *found;
  std::vector<std::string> names;
  for (size_t i = 0; i < tensor_count(); ++i) names.emplace_back(tensor(i).name);
  refuse(path_.string(), "tensor " + in_quotes(name), "it in the file", "no such tensor",
         did_you_mean(name, names));
}

}  // namespace cairn
