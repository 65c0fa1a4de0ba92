// Writing: all that stands before the data is known first, so data stream through.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <set>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/base/memory.h"
#include "cairn/io/gguf.h"
#include "cairn/io/json.h"

namespace cairn {
namespace {

constexpr uint32_t kWrittenVersion = 3;

[[noreturn]] void refuse(const std::string& subject, const std::string& expected,
                         const std::string& found = "") {
  throw Error({.kind = ErrorKind::usage,
               .doing = "writing GGUF",
               .subject = subject,
               .expected = expected,
               .found = found});
}

template <class T>
void append(std::string& text, T value) {
  const size_t size = text.size();
  text.resize(size + sizeof value);
  std::memcpy(text.data() + size, &value, sizeof value);
}

void append_string(std::string& text, std::string_view value) {
  append(text, uint64_t{value.size()});
  text += value;
}

std::string begin_value(GgufKind kind) {
  std::string text;
  append(text, static_cast<uint32_t>(kind));
  return text;
}

std::string begin_array(GgufKind kind, size_t count) {
  std::string text = begin_value(GgufKind::array);
  append(text, static_cast<uint32_t>(kind));
  append(text, uint64_t{count});
  return text;
}

template <class T>
std::string one_value(GgufKind kind, T value) {
  std::string text = begin_value(kind);
  append(text, value);
  return text;
}

template <class T>
std::string array_value(GgufKind kind, std::span<const T> values) {
  std::string text = begin_array(kind, values.size());
  text.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  return text;
}

}  // namespace

void GgufMetadata::set(std::string_view key, std::string value) {
  if (key.empty() || key.size() > kMaxGgufKey)
    refuse("key " + in_quotes(key), fmt::format("1 to {} bytes", kMaxGgufKey),
           std::to_string(key.size()));
  for (Pair& pair : pairs_)
    if (pair.key == key) {
      pair.value = std::move(value);
      return;
    }
  pairs_.push_back({std::string(key), std::move(value)});
}

void GgufMetadata::set_u32(std::string_view key, uint32_t value) {
  set(key, one_value(GgufKind::u32, value));
}
void GgufMetadata::set_u64(std::string_view key, uint64_t value) {
  set(key, one_value(GgufKind::u64, value));
}
void GgufMetadata::set_f32(std::string_view key, float value) {
  set(key, one_value(GgufKind::f32, value));
}
void GgufMetadata::set_bool(std::string_view key, bool value) {
  set(key, one_value(GgufKind::boolean, static_cast<uint8_t>(value ? 1 : 0)));
}
void GgufMetadata::set_string(std::string_view key, std::string_view value) {
  std::string text = begin_value(GgufKind::string);
  append_string(text, value);
  set(key, std::move(text));
}
void GgufMetadata::set_strings(std::string_view key, std::span<const std::string> values) {
  std::string text = begin_array(GgufKind::string, values.size());
  for (const std::string& value : values) append_string(text, value);
  set(key, std::move(text));
}
void GgufMetadata::set_bools(std::string_view key, const std::vector<bool>& values) {
  const std::vector<uint8_t> bytes(values.begin(), values.end());
  set(key, array_value(GgufKind::boolean, std::span(bytes)));
}
void GgufMetadata::set_i32s(std::string_view key, std::span<const int32_t> values) {
  set(key, array_value(GgufKind::i32, values));
}
void GgufMetadata::set_f32s(std::string_view key, std::span<const float> values) {
  set(key, array_value(GgufKind::f32, values));
}

void GgufMetadata::set_u8s(std::string_view key, std::span<const uint8_t> values) {
  set(key, array_value(GgufKind::u8, values));
}

void GgufMetadata::copy(const GgufValue& value) {
  std::string text = value.is_array() ? begin_array(value.element_kind(), value.count())
                                      : begin_value(value.kind());
  text.append(reinterpret_cast<const char*>(value.bytes().data()), value.bytes().size());
  set(value.key(), std::move(text));
}

void GgufMetadata::remove(std::string_view key) {
  pairs_.erase(std::remove_if(pairs_.begin(), pairs_.end(),
                              [&](const Pair& pair) { return pair.key == key; }),
               pairs_.end());
}

bool GgufMetadata::has(std::string_view key) const {
  return std::any_of(pairs_.begin(), pairs_.end(),
                     [&](const Pair& pair) { return pair.key == key; });
}

// What write_gguf needs to know, checked and laid out.
class GgufWriter {
 public:
  GgufWriter(const GgufMetadata& metadata, std::span<const GgufEntry> entries) : entries_(entries) {
    for (const GgufMetadata::Pair& pair : metadata.pairs_)
      if (pair.key == "general.alignment") read_alignment(pair.value);
    header_ = "GGUF";
    append(header_, kWrittenVersion);
    append(header_, uint64_t{entries.size()});
    append(header_, uint64_t{metadata.pairs_.size()});
    for (const GgufMetadata::Pair& pair : metadata.pairs_) {
      append_string(header_, pair.key);
      header_ += pair.value;
    }
    add_infos();
    if (!entries.empty()) header_.append(padding(header_.size()), '\0');
  }

  uint64_t write(const Path& path, TensorSource source) const {
    uint64_t total = 0;
    write_file_atomically(path, [&](FileWriter& writer) {
      writer.write(header_);
      for (size_t i = 0; i < entries_.size(); ++i) write_tensor(writer, i, source);
      total = writer.written();
    });
    return total;
  }

 private:
  void read_alignment(const std::string& value) {
    uint32_t kind = 0, alignment = 0;
    if (value.size() == 8) {
      std::memcpy(&kind, value.data(), 4);
      std::memcpy(&alignment, value.data() + 4, 4);
    }
    if (kind != static_cast<uint32_t>(GgufKind::u32) || !std::has_single_bit(alignment))
      refuse("general.alignment", "a u32 that is a power of two");
    alignment_ = alignment;
  }

  void add_infos() {
    std::set<std::string_view> names;
    uint64_t offset = 0;
    for (const GgufEntry& entry : entries_) {
      const std::string label = "tensor " + in_quotes(entry.name);
      if (entry.name.empty() || entry.name.size() > kMaxGgufName)
        refuse(label, fmt::format("a name of 1 to {} bytes", kMaxGgufName),
               std::to_string(entry.name.size()));
      if (!names.insert(entry.name).second) refuse(label, "each name once");
      if (entry.shape.empty() || entry.shape.size() > kMaxGgufDims)
        refuse(label, fmt::format("1 to {} dimensions", kMaxGgufDims), to_string(entry.shape));
      append_string(header_, entry.name);
      append(header_, static_cast<uint32_t>(entry.shape.size()));
      for (size_t d = entry.shape.size(); d-- > 0;) append(header_, uint64_t{entry.shape[d]});
      append(header_, static_cast<uint32_t>(entry.type));
      append(header_, offset);
      offset = align_up(offset + block_bytes(entry.type, entry.shape), alignment_);
    }
  }

  size_t padding(uint64_t bytes) const { return align_up(bytes, alignment_) - bytes; }

  // Sends one tensor to the file and holds its source to the promised size.
  void write_tensor(FileWriter& writer, size_t index, TensorSource source) const {
    const GgufEntry& entry = entries_[index];
    const uint64_t expected = block_bytes(entry.type, entry.shape);
    uint64_t given = 0;
    source(index, [&](const void* data, size_t bytes) {
      given += bytes;
      if (given <= expected && bytes != 0) writer.write(data, bytes);
    });
    if (given != expected)
      refuse("tensor " + in_quotes(entry.name), std::to_string(expected) + " bytes",
             std::to_string(given));
    writer.write(std::string(padding(expected), '\0'));
  }

  std::span<const GgufEntry> entries_;
  uint64_t alignment_ = kGgufAlignment;
  std::string header_;
};

uint64_t write_gguf(const Path& path, const GgufMetadata& metadata,
                    std::span<const GgufEntry> entries, TensorSource source) {
  return GgufWriter(metadata, entries).write(path, source);
}

}  // namespace cairn
