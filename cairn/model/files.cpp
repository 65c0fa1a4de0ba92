// Models as Hugging Face folders, or in GGUF files (gguf.cpp).
#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/io/json.h"
#include "cairn/io/safetensors.h"
#include "cairn/model/architecture.h"
#include "cairn/model/folder.h"
#include "cairn/model/gguf.h"
#include "cairn/model/model.h"

namespace cairn {
namespace {

template <class T>
T read_unaligned(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// Copies a tensor into f32. The type has been checked.
void convert(const StoredTensor& tensor, View1<float> target) {
  const std::byte* from = tensor.bytes.data();
  if (tensor.type == DType::f32) {
    if (!target.empty()) std::memcpy(target.data, from, tensor.bytes.size());
  } else if (tensor.type == DType::bf16) {
    for (size_t i = 0; i < target.size; ++i)
      target[i] = bf16{read_unaligned<uint16_t>(from + 2 * i)}.to_float();
  } else {
    for (size_t i = 0; i < target.size; ++i)
      target[i] = f16{read_unaligned<uint16_t>(from + 2 * i)}.to_float();
  }
}

// Puts the rows of a checked tensor into the parameters that they belong to.
void take_rows(const StoredRows& stored, StoredTensor tensor, Model& model) {
  for (const std::string& part : stored.parts) {
    const View1<float> values = model.values(model.find(part));
    convert(tensor, values);
    tensor.bytes = tensor.bytes.subspan(values.size * dtype_size(*tensor.type));
  }
}

void write_values(View1<const float> values, DType dtype, ByteSink sink) {
  if (dtype == DType::f32) return sink(values.data, values.size * sizeof(float));
  std::vector<bf16> piece;
  constexpr size_t kPiece = size_t{1} << 16;
  for (size_t begin = 0; begin < values.size; begin += kPiece) {
    const View1<const float> part = values.slice(begin, std::min(kPiece, values.size - begin));
    piece.clear();
    for (const float value : part) piece.push_back(bf16::from_float(value));
    sink(piece.data(), piece.size() * sizeof(bf16));
  }
}

}  // namespace

Model load_model(const Path& path) {
  if (is_gguf(path)) return load_gguf_model(path);
  const ModelFolder folder = open_model_folder(path);
  Model model(folder.config);
  for (const StoredRows& stored : stored_tensors(model.config()))
    take_rows(stored, folder.archive.find(stored.name), model);
  return model;
}

void save_model(const Model& model, const Path& folder, DType dtype) {
  if (dtype != DType::f32 && dtype != DType::bf16)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "saving a model to " + folder.string(),
                 .subject = "dtype",
                 .expected = "f32 or bf16",
                 .found = std::string(dtype_name(dtype))});
  make_folders(folder);
  const std::vector<StoredRows> stored = stored_tensors(model.config());
  std::vector<TensorEntry> entries;
  for (const StoredRows& rows : stored) entries.push_back({rows.name, dtype, rows.shape});
  const auto source = [&](size_t index, ByteSink sink) {
    for (const std::string& part : stored[index].parts)
      write_values(model.values(model.find(part)), dtype, sink);
  };
  write_tensor_archive(folder, "model", entries, source);
  write_file_atomically(folder / "generation_config.json",
                        write_json(write_generation_config(model.config())));
  // Last: a folder without config.json is not a model yet.
  write_file_atomically(folder / "config.json",
                        write_json(write_model_config(model.config(), dtype)));
}

}  // namespace cairn
