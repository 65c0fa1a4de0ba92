// GGUF: metadata and tensors of a model in one file that can be mapped (the format of
// github.com/ggml-org/ggml, docs/gguf.md). A version 3 file, little-endian, is
//
//   "GGUF" | u32 version | u64 tensors | u64 metadata pairs
//   pairs:   string key | u32 kind | value          string = u64 length | bytes
//   tensors: string name | u32 n | n x u64 dims | u32 block type | u64 offset
//   zeros up to a multiple of general.alignment (32 if absent) | data
//
// dims[0] is the contiguous dimension; Cairn's shapes are the other way round, outermost first.
//
// The reader believes nothing: every count, length, offset and alignment is held against the file
// before it is used, keys and names are unique, tensors follow one another without holes, as the
// ggml library demands. It keeps 8 bytes a pair and 16 a tensor and decodes the rest from the map
// when asked, so a hostile file cannot make it take more than twice the file's size.
//
//   const GgufArchive archive("smol.gguf");
//   const auto layers = archive.at("llama.block_count").as_integer(1, 4096);
//   const GgufTensor embedding = archive.tensor("token_embd.weight");
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cairn/base/file.h"
#include "cairn/io/tensor_source.h"
#include "cairn/tensor/block_type.h"
#include "cairn/tensor/shape.h"

namespace cairn {

inline constexpr uint64_t kGgufAlignment = 32;  // where the file does not say
inline constexpr size_t kMaxGgufDims = 4;
inline constexpr size_t kMaxGgufName = 63;    // bytes of a tensor's name
inline constexpr size_t kMaxGgufKey = 65535;  // bytes of a key

// The values are the ids that files store.
enum class GgufKind : uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12,
};

std::string_view gguf_kind_name(GgufKind kind);  // "u32", "string", "array"

// One metadata value where it lies in its file. Borrows the file, which must outlive it. Accessors
// throw Error (data) "reading FILE: byte OFFSET, KEY, expected ..., found ...".
class GgufValue {
 public:
  std::string_view key() const { return key_; }
  GgufKind kind() const { return kind_; }
  // Of an array: the kind and the number of its elements. Otherwise kind() and 1.
  GgufKind element_kind() const { return element_; }
  size_t count() const { return count_; }
  bool is_array() const { return kind_ == GgufKind::array; }
  // The value as stored; of an array, its elements.
  std::span<const std::byte> bytes() const { return bytes_; }

  bool as_bool() const;
  // An integer of any width and sign, in [low, high].
  int64_t as_integer(int64_t low = INT64_MIN, int64_t high = INT64_MAX) const;
  double as_number() const;            // any integer or float
  std::string_view as_string() const;  // bytes; not always UTF-8
  // The elements of an array, with the same rules.
  std::vector<int64_t> as_integers() const;
  std::vector<float> as_floats() const;
  std::vector<std::string_view> as_strings() const;

  [[noreturn]] void fail(const std::string& expected, const std::string& hint = "") const;
  // A short form for people: numbers, "text" cut after a line, [3, 1, 4, ...].
  std::string show(size_t max_bytes = 60) const;

 private:
  friend class GgufFile;
  std::string_view key_;
  GgufKind kind_ = GgufKind::u8;
  GgufKind element_ = GgufKind::u8;
  uint64_t count_ = 1;
  std::span<const std::byte> bytes_;
  uint64_t offset_ = 0;  // of the value, for messages
  const std::string* source_ = nullptr;
};

// A tensor where it lies in its file.
struct GgufTensor {
  std::string_view name;  // borrowed from the file
  BlockType type = BlockType::f32;
  Shape shape;                       // outermost first; rows are whole blocks
  std::span<const std::byte> bytes;  // borrowed from the file, of any alignment
};

// The bytes of one whole file, checked. Borrows them. Movable. Reading is thread-safe.
class GgufFile {
 public:
  // `source` is what errors call it. Throws Error (data).
  GgufFile(std::span<const std::byte> bytes, std::string source);

  uint32_t version() const { return version_; }
  uint64_t alignment() const { return alignment_; }
  uint64_t data_offset() const { return data_offset_; }
  const std::string& source() const { return *source_; }

  // In stored order.
  size_t metadata_count() const { return pairs_.size(); }
  GgufValue metadata(size_t index) const;
  std::optional<GgufValue> find(std::string_view key) const;
  size_t tensor_count() const { return infos_.size(); }
  GgufTensor tensor(size_t index) const;
  std::optional<size_t> find_tensor(std::string_view name) const;

 private:
  void read_metadata(uint64_t count, uint64_t& offset);
  void read_alignment();
  void read_tensors(uint64_t count, uint64_t& offset);
  std::string_view key_at(size_t index) const;
  std::string_view name_at(size_t index) const;

  std::span<const std::byte> bytes_;
  std::unique_ptr<const std::string> source_;  // values point to it; a move must not move it
  uint32_t version_ = 0;
  uint64_t alignment_ = kGgufAlignment;
  uint64_t metadata_end_ = 0;
  uint64_t data_offset_ = 0;
  std::vector<uint64_t> pairs_;   // where each begins, in stored order
  std::vector<uint64_t> infos_;   // the same for tensor infos
  std::vector<uint64_t> by_key_;  // indices into pairs_, by key
  std::vector<uint64_t> by_name_;
};

// A model in one file, or in the shards NAME-00001-of-0000N.gguf of which any one is given (the
// first holds the metadata); all mapped, nothing loaded. Movable. Reading is thread-safe.
class GgufArchive {
 public:
  // Throws Error (data) when a file is absent or wrong, when shards do not belong together, or
  // when two hold one name.
  explicit GgufArchive(const Path& path);

  const Path& path() const { return path_; }
  const std::vector<GgufFile>& files() const { return files_; }
  const GgufFile& metadata() const { return files_.front(); }

  std::optional<GgufValue> find(std::string_view key) const { return metadata().find(key); }
  // By key; Error (data) with the nearest key when there is none.
  GgufValue at(std::string_view key) const;

  size_t tensor_count() const;
  // In stored order, shard after shard.
  GgufTensor tensor(size_t index) const;
  std::optional<GgufTensor> find_tensor(std::string_view name) const;
  // By name; Error (data) with the nearest name when there is none.
  GgufTensor tensor(std::string_view name) const;

 private:
  void open(const Path& path);
  void open_shards(size_t count);

  Path path_;
  std::vector<MappedFile> maps_;
  std::vector<GgufFile> files_;
};

// Whether the file begins with "GGUF". False for what cannot be read.
bool is_gguf(const Path& path);

// Metadata that is to be written, in order.
class GgufMetadata {
 public:
  // Each sets a key, in place when it is there already. Throws Error (usage) for a key that is
  // empty or too long.
  void set_u32(std::string_view key, uint32_t value);
  void set_u64(std::string_view key, uint64_t value);
  void set_f32(std::string_view key, float value);
  void set_bool(std::string_view key, bool value);
  void set_string(std::string_view key, std::string_view value);
  void set_strings(std::string_view key, std::span<const std::string> values);
  void set_bools(std::string_view key, const std::vector<bool>& values);
  void set_i32s(std::string_view key, std::span<const int32_t> values);
  void set_f32s(std::string_view key, std::span<const float> values);
  void set_u8s(std::string_view key, std::span<const uint8_t> values);
  // A value of another file, byte for byte.
  void copy(const GgufValue& value);
  void remove(std::string_view key);

  bool has(std::string_view key) const;
  size_t size() const { return pairs_.size(); }

 private:
  friend class GgufWriter;
  struct Pair {
    std::string key;
    std::string value;  // kind and value as stored
  };
  void set(std::string_view key, std::string value);

  std::vector<Pair> pairs_;
};

// A tensor that is to be written.
struct GgufEntry {
  std::string name;
  BlockType type = BlockType::f32;
  Shape shape;  // outermost first, 1 to 4 dimensions
};

// Writes a version 3 file; its alignment is the metadata's general.alignment, or 32. Tensors are
// stored in the order of `entries`, each padded. The file appears whole or not at all. Returns its
// size in bytes. Throws Error (usage) on names given twice or too long, on shapes that the type
// cannot have, on a source that gives another number of bytes; Error (failed) when the disk
// refuses; then nothing is left behind.
uint64_t write_gguf(const Path& path, const GgufMetadata& metadata,
                    std::span<const GgufEntry> entries, TensorSource source);

}  // namespace cairn
