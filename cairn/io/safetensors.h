// Safetensors: named tensors in a file that can be mapped (the format of github.com/huggingface/
// safetensors). A file is
//
//   u64 little-endian N | N bytes of JSON, space-padded | data
//
// where the JSON maps each name to {"dtype", "shape", "data_offsets": [begin, end)} and may hold
// "__metadata__": {string: string}. Large models lie in several files ("shards") with
// model.safetensors.index.json naming the file of each tensor.
//
// The reader is strict: N at most 100 MB and within the file, each name once, offsets that agree
// with dtype and shape (without overflow), data covered exactly, without holes or overlaps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/base/file.h"
#include "cairn/base/function_ref.h"
#include "cairn/io/tensor_source.h"
#include "cairn/tensor/dtype.h"
#include "cairn/tensor/shape.h"

namespace cairn {

// The most bytes a header may have.
inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;

// The format's word for an element type: "F32", "BF16", "BOOL".
std::string_view safetensors_dtype(DType dtype);

// A tensor as it lies in a file.
struct StoredTensor {
  std::string dtype;                 // the file's word: "BF16", "F8_E4M3"
  std::optional<DType> type;         // empty when Cairn has no such type
  Shape shape;                       // row-major, outermost first; empty for a scalar
  std::span<const std::byte> bytes;  // borrowed from the mapped file, of any alignment
  size_t file = 0;                   // index into TensorArchive::files()
};

using StoredTensors = std::map<std::string, StoredTensor, std::less<>>;

// What one file holds beside its tensors.
struct TensorFileFacts {
  Path path;
  uint64_t header_bytes = 0;  // N, padding included
  uint64_t data_bytes = 0;
  std::map<std::string, std::string> metadata;
};

// Checks the bytes of a whole file and lists its tensors, whose `bytes` point into `file` and whose
// `file` is `index`. `source` is what errors call it. Throws Error (data).
StoredTensors parse_safetensors(std::span<const std::byte> file, const std::string& source,
                                TensorFileFacts& facts, size_t index = 0);

// The tensors of a .safetensors file, of the shards that a .safetensors.index.json names, or of a
// folder with model.safetensors or model.safetensors.index.json; all mapped, nothing loaded.
// Movable. Reading is thread-safe.
class TensorArchive {
 public:
  // Throws Error (data) when a file is absent or wrong, when a shard lacks a tensor that the index
  // promises or holds one that it does not, or when two shards hold one name.
  explicit TensorArchive(const Path& path);

  const StoredTensors& tensors() const { return tensors_; }
  const std::vector<TensorFileFacts>& files() const { return facts_; }
  // The file or index that was opened, for messages.
  const Path& path() const { return path_; }
  // By name; Error (data) with the nearest name when there is none.
  const StoredTensor& find(std::string_view name) const;
  // Keeps the tensors for which `name_of` gives a name, under that name. Throws Error (data) when
  // two get the same.
  void rename(FunctionRef<std::optional<std::string>(const std::string&)> name_of);
  // Where a tensor lies.
  const Path& file_of(const StoredTensor& tensor) const { return facts_[tensor.file].path; }

 private:
  void open_file(const Path& path);
  void open_shards(const Path& index);

  Path path_;
  std::vector<MappedFile> maps_;
  std::vector<TensorFileFacts> facts_;
  StoredTensors tensors_;
};

// A tensor that is to be written.
struct TensorEntry {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
};

using TensorMetadata = std::map<std::string, std::string>;

// Writes one file: data start at a multiple of 64 bytes (the header is padded), tensors in order
// of falling element size, then name, so every tensor is aligned to its element. `metadata`
// without a "format" gets {"format": "pt"}, which some loaders insist on. The file appears
// whole or not at all (temporary sibling, sync, rename). Returns its size in bytes.
// Throws Error (usage) on a name given twice or a source that gives another number of bytes, and
// Error (failed) when the disk refuses; then nothing is left behind.
uint64_t write_safetensors(const Path& path, std::span<const TensorEntry> entries,
                           TensorSource source, const TensorMetadata& metadata = {});

// Writes `folder`/STEM.safetensors, or, when the data take more than `max_shard_bytes`,
// STEM-00001-of-0000K.safetensors ... and STEM.safetensors.index.json (last), with at most that
// many bytes of data a shard (a larger tensor has a shard of its own). Files of the other form and
// shards of an older writing are removed afterwards. Returns the names of the files written.
std::vector<std::string> write_tensor_archive(const Path& folder, const std::string& stem,
                                              std::span<const TensorEntry> entries,
                                              TensorSource source,
                                              uint64_t max_shard_bytes = 5'000'000'000,
                                              const TensorMetadata& metadata = {});

}  // namespace cairn
