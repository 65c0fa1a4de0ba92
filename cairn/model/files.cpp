// Models as Hugging Face folders, or in GGUF files (gguf.cpp).
#include <algorithm>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/io/json.h"
#include "cairn/io/safetensors.h"
#include "cairn/model/architecture.h"
#include "cairn/model/gguf.h"
#include "cairn/model/model.h"

namespace cairn {
namespace {

constexpr uint64_t kMaxConfigBytes = uint64_t{1} << 24;

[[noreturn]] void refuse(const TensorArchive& archive, const std::string& name,
                         const std::string& expected, const std::string& found,
                         const std::string& hint = "") {
  throw Error({.kind = ErrorKind::data,
               .doing = "loading " + archive.path().string(),
               .subject = "tensor " + in_quotes(name),
               .expected = expected,
               .found = found,
               .hint = hint});
}

template <class T>
T read_unaligned(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

bool is_loadable(const StoredTensor& tensor) {
  return tensor.type == DType::f32 || tensor.type == DType::f16 || tensor.type == DType::bf16;
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

// Old files hold tables that follow from the configuration.
bool is_derived(std::string_view name) {
  return name.find("rotary_emb.inv_freq") != std::string_view::npos;
}

// Settles tied heads by what the files hold: a head that is not there is the embedding; one that is
// there although config.json ties it must be the same.
void settle_head(ModelConfig& config, const TensorArchive& archive) {
  const auto head = archive.tensors().find(kHeadName);
  if (head == archive.tensors().end()) {
    config.tie_embeddings = true;
    return;
  }
  if (!config.tie_embeddings) return;
  const StoredTensor& embedding = archive.find(kEmbeddingName);
  if (head->second.dtype != embedding.dtype ||
      !std::equal(head->second.bytes.begin(), head->second.bytes.end(), embedding.bytes.begin(),
                  embedding.bytes.end()))
    refuse(archive, kHeadName, "the values of " + std::string(kEmbeddingName), "others",
           "config.json says \"tie_word_embeddings\": true; is that right?");
}

using SpecTable = std::map<std::string_view, const ParameterSpec*>;

SpecTable table_of(const std::vector<ParameterSpec>& specs) {
  SpecTable table;
  for (const ParameterSpec& spec : specs) table.emplace(spec.name, &spec);
  return table;
}

// The shape of a tensor that holds the rows of its parts one after another.
Shape shape_of(const StoredRows& stored, const SpecTable& specs) {
  Shape shape = specs.at(stored.parts.front())->shape;
  for (size_t i = 1; i < stored.parts.size(); ++i)
    shape.front() += specs.at(stored.parts[i])->shape.front();
  return shape;
}

// Every tensor there, of the right shape and a type that can be read, and no other. Done before any
// memory is taken, so a wrong config.json cannot ask for more than the files hold.
void check_tensors(const ModelConfig& config, const TensorArchive& archive) {
  const std::vector<ParameterSpec> specs = parameter_specs(config);
  const SpecTable table = table_of(specs);
  const std::vector<StoredRows> expected = stored_tensors(config);
  std::vector<std::string_view> known;
  for (const StoredRows& stored : expected) {
    const StoredTensor& tensor = archive.find(stored.name);
    const Shape shape = shape_of(stored, table);
    if (tensor.shape != shape)
      refuse(archive, stored.name, to_string(shape) + " (by config.json)", to_string(tensor.shape),
             "is config.json from another model?");
    if (!is_loadable(tensor)) refuse(archive, stored.name, "F32, F16 or BF16", tensor.dtype);
    known.push_back(stored.name);
  }
  if (config.tie_embeddings) known.push_back(kHeadName);
  std::sort(known.begin(), known.end());
  for (const auto& [name, tensor] : archive.tensors())
    if (!is_derived(name) && !std::binary_search(known.begin(), known.end(), name))
      refuse(archive, name, "only tensors of this architecture", to_string(tensor.shape),
             "a feature that config.json does not name, or one that is not supported");
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
  const Path file = path / "config.json";
  const Json document = read_json(file, kMaxConfigBytes);
  ModelConfig config = read_model_config(JsonField(document, file.string()));
  const TensorArchive archive(path);
  settle_head(config, archive);
  check_tensors(config, archive);
  Model model(std::move(config));
  for (const StoredRows& stored : stored_tensors(model.config()))
    take_rows(stored, archive.find(stored.name), model);
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
  const std::vector<ParameterSpec> specs = parameter_specs(model.config());
  const SpecTable table = table_of(specs);
  const std::vector<StoredRows> stored = stored_tensors(model.config());
  std::vector<TensorEntry> entries;
  for (const StoredRows& rows : stored)
    entries.push_back({rows.name, dtype, shape_of(rows, table)});
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
