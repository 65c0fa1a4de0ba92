#include "cairn/data/dataset.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/io/json.h"

namespace cairn {
namespace {

constexpr int kVersion = 1;

Json to_json(const SplitInfo& split) {
  return {{"tokens", split.tokens},
          {"documents", split.documents},
          {"bytes", split.bytes},
          {"shards", split.shards}};
}

SplitInfo split_from(const JsonField& field) {
  SplitInfo split;
  split.tokens = static_cast<uint64_t>(field.member("tokens").as_integer(0));
  split.documents = static_cast<uint64_t>(field.member("documents").as_integer(0));
  split.bytes = static_cast<uint64_t>(field.member("bytes").as_integer(0));
  for (const JsonField& shard : field.member("shards").elements()) {
    const std::string name = shard.as_string();
    if (name.empty() || name.find('/') != std::string::npos)
      shard.fail("the name of a file in this folder");
    split.shards.push_back(name);
  }
  return split;
}

}  // namespace

std::string_view split_name(Split split) {
  return split == Split::training ? "training" : "held_out";
}

DatasetInfo read_dataset_info(const Path& folder) {
  const Path file = folder / "dataset.json";
  if (!std::filesystem::exists(file))
    throw Error({.kind = ErrorKind::data,
                 .doing = "opening dataset " + folder.string(),
                 .expected = "a folder with dataset.json, as cairn data pack makes it",
                 .found = std::filesystem::exists(folder) ? "none in it" : "no such folder"});
  const Json document = read_json(file, uint64_t{16} << 20);
  const JsonField field(document, file.string());
  field.member("version").as_integer(kVersion, kVersion);
  DatasetInfo info;
  info.vocab_size = field.member("vocab_size").as_positive();
  const std::string fingerprint = field.member("tokenizer").as_string();
  char* end = nullptr;
  info.tokenizer = std::strtoull(fingerprint.c_str(), &end, 16);
  if (fingerprint.size() != 16 || *end != '\0') field.member("tokenizer").fail("16 hex digits");
  info.eos_id = static_cast<int32_t>(field.member("eos_id").as_integer(-1, INT32_MAX));
  if (const auto pairs = field.find("pairs")) info.pairs = pairs->as_bool();
  info.training = split_from(field.member("training"));
  info.held_out = split_from(field.member("held_out"));
  return info;
}

void write_dataset_info(const DatasetInfo& info, const Path& folder) {
  Json document = {{"version", kVersion},
                   {"vocab_size", info.vocab_size},
                   {"tokenizer", fmt::format("{:016x}", info.tokenizer)},
                   {"eos_id", info.eos_id},
                   {"training", to_json(info.training)},
                   {"held_out", to_json(info.held_out)}};
  if (info.pairs) document["pairs"] = true;
  write_file_atomically(folder / "dataset.json", write_json(document));
}

void refuse_existing_dataset(const Path& folder) {
  if (std::filesystem::exists(folder / "dataset.json"))
    throw Error({.kind = ErrorKind::usage,
                 .doing = "packing a dataset into " + folder.string(),
                 .expected = "a folder without a dataset",
                 .found = "dataset.json",
                 .hint = "remove the folder or choose another"});
}

TokenStream::TokenStream(const Path& folder, Split split)
    : folder_(folder),
      split_(split),
      info_(read_dataset_info(folder)),
      starts_{0},
      document_starts_{0} {
  const SplitInfo& expected = info_.split(split);
  for (const std::string& name : expected.shards) {
    shards_.push_back(std::make_unique<Shard>(folder / name));
    const ShardInfo& shard = shards_.back()->info();
    if (shard.tokenizer != info_.tokenizer || shard.vocab_size != info_.vocab_size)
      throw Error({.kind = ErrorKind::data,
                   .doing = "opening dataset " + folder.string(),
                   .subject = name,
                   .expected = fmt::format("tokenizer {:016x}", info_.tokenizer),
                   .found = fmt::format("{:016x}", shard.tokenizer)});
    starts_.push_back(starts_.back() + shard.tokens);
    document_starts_.push_back(document_starts_.back() + shard.documents);
  }
  if (tokens() != expected.tokens || document_starts_.back() != expected.documents)
    throw Error({.kind = ErrorKind::data,
                 .doing = "opening dataset " + folder.string(),
                 .subject = std::string(split_name(split)) + " shards",
                 .expected = fmt::format("{} tokens", expected.tokens),
                 .found = fmt::format("{}", tokens())});
}

void TokenStream::read(uint64_t begin, std::span<int32_t> out) const {
  if (begin > tokens() || out.size() > tokens() - begin)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "reading dataset " + folder_.string(),
                 .expected = fmt::format("tokens below {}", tokens()),
                 .found = fmt::format("{} + {}", begin, out.size())});
  const auto after = std::upper_bound(starts_.begin(), starts_.end(), begin);
  for (auto shard = static_cast<size_t>(after - starts_.begin()) - 1; !out.empty(); ++shard) {
    const size_t here = std::min<uint64_t>(out.size(), starts_[shard + 1] - begin);
    shards_[shard]->read(begin - starts_[shard], out.first(here));
    out = out.subspan(here);
    begin += here;
  }
}

std::vector<uint64_t> TokenStream::document_starts(uint64_t begin, uint64_t end) const {
  std::vector<uint64_t> starts;
  for (size_t shard = 0; shard < shards_.size(); ++shard) {
    const uint64_t before = starts_[shard];
    if (before >= end || starts_[shard + 1] <= begin) continue;
    const auto all = shards_[shard]->document_starts();
    const uint64_t first = begin > before ? begin - before : 0;
    for (auto start = std::lower_bound(all.begin(), all.end(), first);
         start != all.end() && before + *start < end; ++start)
      starts.push_back(before + *start);
  }
  return starts;
}

std::string TokenStream::file_of(size_t shard, uint64_t document) const {
  const std::string names = read_file(folder_ / (std::string(split_name(split_)) + ".files"));
  uint64_t line = document_starts_[shard] + document;
  std::string_view rest = names;
  while (line-- > 0 && !rest.empty())
    rest.remove_prefix(std::min(rest.find('\n'), rest.size() - 1) + 1);
  return std::string(rest.substr(0, rest.find('\n')));
}

}  // namespace cairn
