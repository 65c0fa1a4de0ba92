// Models from one kind of file to another: Hugging Face folders to GGUF and back, and any file to a
// GGUF file of smaller types.
//
//   const TensorContent model = open_as_gguf("smollm2");          // a folder or a GGUF file
//   const auto manifest = write_gguf_model(model, "smollm2-q4_k_m.gguf",
//                                          find_file_type("q4_k_m"), {}, team);
//
// Floating-point tensors keep their bits on the way to GGUF and back: a matrix stays in its type,
// vectors are widened to f32 (as llama.cpp wants them) and narrowed again where that loses nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cairn/base/thread_team.h"
#include "cairn/infer/importance.h"
#include "cairn/infer/quantization_mix.h"
#include "cairn/io/gguf.h"
#include "cairn/io/safetensors.h"
#include "cairn/model/config.h"
#include "cairn/model/gguf.h"

namespace cairn {

// A tensor under its GGUF name, whatever file holds it.
struct ContentTensor {
  std::string name;
  BlockType type = BlockType::f32;
  Shape shape;                       // outermost first
  std::span<const std::byte> bytes;  // as the file holds it
  // Of a tensor in a Hugging Face file: where its rows stand there, and what is added to its
  // values.
  RowOrder order;
  double offset = 0;

  // As rows that move whole: of a vector whose elements change places, each is a row.
  size_t cols() const { return order.rotary_head != 0 && shape.size() == 1 ? 1 : shape.back(); }
  size_t rows() const;
  // A row in GGUF's order.
  std::span<const std::byte> row(size_t index) const;
};

// What a GGUF file of a model holds. Borrows from the files, which it keeps mapped.
struct TensorContent {
  GgufMetadata metadata;
  std::vector<ContentTensor> tensors;
  MixModel model;
  std::shared_ptr<const void> files;
};

// A GGUF file of any architecture, with all its metadata, or a Hugging Face folder of a family that
// GGUF knows, with its tokenizer if tokenizer.json is there. Throws Error: data naming what is
// wrong or cannot be said in GGUF.
TensorContent open_as_gguf(const Path& path);

// One tensor of a written file.
struct WrittenTensor {
  std::string name;
  std::string type;
  Shape shape;
  uint64_t bytes = 0;
  uint64_t hash = 0;  // of its bytes (base/hash.h)
};

struct Manifest {
  std::vector<WrittenTensor> tensors;  // in stored order
  uint64_t file_bytes = 0;
};

// Called after each tensor with the bytes written so far and in all.
using ConvertProgress = std::function<void(uint64_t done, uint64_t all)>;

// Writes `content` with the types of `file_type`, or as it is when null. Each column's importance
// enters where the matrix has the tensor; it must then have its width. Throws Error: usage when
// names and widths disagree, data when a weight cannot be encoded, failed when the disk refuses;
// then nothing is left behind. The same bytes for any number of threads.
Manifest write_gguf_model(const TensorContent& content, const Path& path, const FileType* file_type,
                          const ImportanceMatrix& importance, ThreadTeam& team,
                          const ConvertProgress& progress = {});

// What came back of a model that was converted and converted again.
struct RoundTrip {
  size_t same = 0;                     // tensors with their type and bytes
  size_t decoded = 0;                  // quantised ones, of which a folder has only the values
  std::vector<std::string> different;  // the names of the others
};

// Converts `written`, made from `source` without another type, back into the kind of file that
// `source` is, as `scratch` (which must not exist, and does not afterwards), and compares. Throws
// what reading and writing them throws.
RoundTrip verify_conversion(const Path& source, const Path& written, const Path& scratch,
                            ThreadTeam& team);

// Writes the model of a GGUF file as a Hugging Face folder: config.json,
// generation_config.json, model.safetensors and the tokenizer's files. Matrices of f32, f16 and
// bf16 keep their type and bits unless `dtype` says another; quantised ones become `dtype`, or f32.
Manifest write_hf_model(const Path& gguf, const Path& folder, std::optional<DType> dtype);

}  // namespace cairn
