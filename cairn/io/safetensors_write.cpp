// Writing: the header is known before the first byte of data, so data stream through.
#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/base/memory.h"
#include "cairn/io/json.h"
#include "cairn/io/safetensors.h"

namespace cairn {
namespace {

uint64_t entry_bytes(const TensorEntry& entry) {
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(element_count(entry.shape), dtype_size(entry.dtype), &bytes))
    throw Error({.kind = ErrorKind::usage,
                 .doing = "writing tensor " + entry.name,
                 .expected = "fewer than 2^64 bytes"});
  return bytes;
}

// Indices of the entries in the order in which they are stored.
std::vector<size_t> storage_order(std::span<const TensorEntry> entries) {
  std::vector<size_t> order(entries.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const size_t wide = dtype_size(entries[a].dtype);
    const size_t other = dtype_size(entries[b].dtype);
    return wide != other ? wide > other : entries[a].name < entries[b].name;
  });
  std::set<std::string_view> names;
  for (const TensorEntry& entry : entries)
    if (!names.insert(entry.name).second || entry.name == "__metadata__")
      throw Error({.kind = ErrorKind::usage,
                   .doing = "writing safetensors",
                   .subject = "tensor " + entry.name,
                   .expected = "names that differ from each other and from __metadata__"});
  return order;
}

std::string one_line(const Json& value) {
  std::string line = json_line(value);
  line.pop_back();
  return line;
}

// Length and JSON, padded so that the data begin at a multiple of 64 bytes. Written by hand, since
// Json would sort the names and the data's order reads better.
std::string make_header(const std::string& doing, std::span<const TensorEntry> entries,
                        std::span<const size_t> order, TensorMetadata metadata) {
  metadata.try_emplace("format", "pt");
  std::string text = "{\"__metadata__\":" + one_line(Json(metadata));
  uint64_t offset = 0;
  for (const size_t index : order) {
    const TensorEntry& entry = entries[index];
    const uint64_t end = offset + entry_bytes(entry);
    text += fmt::format(R"(,{}:{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})",
                        one_line(Json(entry.name)), safetensors_dtype(entry.dtype),
                        one_line(Json(entry.shape)), offset, end);
    offset = end;
  }
  text += "}";
  text.append(align_up(8 + text.size(), kAlignment) - 8 - text.size(), ' ');
  if (text.size() > kMaxSafetensorsHeader)
    throw Error({.kind = ErrorKind::usage,
                 .doing = doing,
                 .subject = "header",
                 .expected = "at most " + std::to_string(kMaxSafetensorsHeader) + " bytes",
                 .found = std::to_string(text.size())});
  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(text.size() >> (8 * i) & 0xFFU);
  return length + text;
}

// Sends one tensor to the file and holds its source to the promised size.
void write_tensor(FileWriter& writer, const std::string& doing, const TensorEntry& entry,
                  size_t index, TensorSource source) {
  const uint64_t expected = entry_bytes(entry);
  uint64_t given = 0;
  source(index, [&](const void* data, size_t bytes) {
    given += bytes;
    if (given <= expected && bytes != 0) writer.write(data, bytes);
  });
  if (given != expected)
    throw Error({.kind = ErrorKind::usage,
                 .doing = doing,
                 .subject = "tensor " + entry.name,
                 .expected = std::to_string(expected) + " bytes",
                 .found = std::to_string(given)});
}

std::string shard_name(const std::string& stem, size_t number, size_t count) {
  return fmt::format("{}-{:05}-of-{:05}.safetensors", stem, number, count);
}

// Cuts the entries, in their given order, into shards of at most `limit` bytes.
std::vector<std::vector<size_t>> cut_shards(std::span<const TensorEntry> entries, uint64_t limit) {
  std::vector<std::vector<size_t>> shards(1);
  uint64_t filled = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    const uint64_t bytes = entry_bytes(entries[i]);
    if (!shards.back().empty() && filled + bytes > limit) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().push_back(i);
    filled += bytes;
  }
  return shards;
}

// Whether `name` is STEM.safetensors, its index or one of its shards.
bool belongs_to(const std::string& name, const std::string& stem) {
  if (name == stem + ".safetensors" || name == stem + ".safetensors.index.json") return true;
  const std::string end = ".safetensors";
  const std::string middle = "-00000-of-00000";
  if (name.size() != stem.size() + middle.size() + end.size()) return false;
  if (name.compare(0, stem.size(), stem) != 0) return false;
  if (name.compare(name.size() - end.size(), end.size(), end) != 0) return false;
  for (size_t i = 0; i < middle.size(); ++i) {
    const char found = name[stem.size() + i];
    if (middle[i] == '0' ? found < '0' || found > '9' : found != middle[i]) return false;
  }
  return true;
}

// Removes what an older writing left, so that no loader can pick it up.
void remove_others(const Path& folder, const std::string& stem,
                   const std::vector<std::string>& written) {
  std::error_code ignored;  // an old file that stays is untidy, not wrong: the new ones are whole
  std::vector<Path> old;
  for (const auto& item : std::filesystem::directory_iterator(folder, ignored)) {
    const std::string name = item.path().filename().string();
    if (belongs_to(name, stem) && std::find(written.begin(), written.end(), name) == written.end())
      old.push_back(item.path());
  }
  for (const Path& path : old) std::filesystem::remove(path, ignored);
}

}  // namespace

uint64_t write_safetensors(const Path& path, std::span<const TensorEntry> entries,
                           TensorSource source, const TensorMetadata& metadata) {
  const std::string doing = "writing " + path.string();
  const std::vector<size_t> order = storage_order(entries);
  const std::string header = make_header(doing, entries, order, metadata);
  uint64_t total = 0;
  write_file_atomically(path, [&](FileWriter& writer) {
    writer.write(header);
    for (const size_t index : order) write_tensor(writer, doing, entries[index], index, source);
    total = writer.written();
  });
  return total;
}

std::vector<std::string> write_tensor_archive(const Path& folder, const std::string& stem,
                                              std::span<const TensorEntry> entries,
                                              TensorSource source, uint64_t max_shard_bytes,
                                              const TensorMetadata& metadata) {
  const auto shards = cut_shards(entries, max_shard_bytes);
  std::vector<std::string> written;
  if (shards.size() == 1) {
    written.push_back(stem + ".safetensors");
    write_safetensors(folder / written.back(), entries, source, metadata);
    remove_others(folder, stem, written);
    return written;
  }
  storage_order(entries);  // refuses a name that two shards would share
  Json weight_map = Json::object();
  uint64_t total = 0;
  for (size_t shard = 0; shard < shards.size(); ++shard) {
    std::vector<TensorEntry> part;
    written.push_back(shard_name(stem, shard + 1, shards.size()));
    for (const size_t index : shards[shard]) {
      part.push_back(entries[index]);
      weight_map[entries[index].name] = written.back();
      total += entry_bytes(entries[index]);
    }
    const auto part_source = [&](size_t index, ByteSink sink) {
      source(shards[shard][index], sink);
    };
    write_safetensors(folder / written.back(), part, part_source, metadata);
  }
  written.push_back(stem + ".safetensors.index.json");
  const Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
  write_file_atomically(folder / written.back(), write_json(index));
  remove_others(folder, stem, written);
  return written;
}

}  // namespace cairn
