#include "cairn/infer/convert.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/base/hash.h"
#include "cairn/base/log.h"
#include "cairn/io/json.h"
#include "cairn/kernels/blocks.h"
#include "cairn/model/architecture.h"
#include "cairn/model/gguf.h"
#include "cairn/text/gguf_keys.h"
#include "cairn/text/tokenizer_json.h"

namespace cairn {
namespace {

constexpr uint32_t kQuantizationVersion = 2;        // general.quantization_version
constexpr size_t kSlabElements = size_t{1} << 22;   // converted and written at a time
constexpr size_t kChunkElements = size_t{1} << 15;  // one thread's piece of a slab

// Rows [first, first + count) of a tensor in another type, into `to`; `importance` is that of its
// columns, or of each expert's.
void convert_rows(const ContentTensor& tensor, size_t first, size_t count, BlockType type,
                  View1<const float> importance, std::span<std::byte> to, ThreadTeam& team) {
  const size_t cols = tensor.cols(), row_bytes = block_row_bytes(type, cols);
  const size_t grain = std::max<size_t>(1, kChunkElements / cols);
  const size_t matrices = std::max<size_t>(1, importance.size / cols);
  const size_t matrix_rows = tensor.rows() / matrices;
  team.run(chunk_count(count, grain), [&](size_t chunk, int /*thread*/) {
    std::vector<float> values(cols);
    const size_t end = std::min(count, (chunk + 1) * grain);
    for (size_t i = chunk * grain; i < end; ++i) {
      const auto from = tensor.row(first + i);
      const auto target = to.subspan(i * row_bytes, row_bytes);
      if (tensor.type == type && tensor.offset == 0) {
        std::copy(from.begin(), from.end(), target.begin());
        continue;
      }
      decode_blocks(tensor.type, from, {values.data(), cols});
      for (float& value : values) value += static_cast<float>(tensor.offset);
      const auto weights = importance.empty()
                               ? importance
                               : importance.slice((first + i) / matrix_rows * cols, cols);
      encode_blocks(type, {values.data(), cols}, target, weights);
    }
  });
}

// Vectors and what no mix names: floats in f32, the rest as it is.
BlockType kept_type(const ContentTensor& tensor) {
  const bool half = tensor.type == BlockType::f16 || tensor.type == BlockType::bf16;
  return half && tensor.shape.size() == 1 ? BlockType::f32 : tensor.type;
}

View1<const float> importance_of(const ImportanceMatrix& matrix, const ContentTensor& tensor) {
  const auto found = matrix.find(tensor.name);
  if (found == matrix.end()) return {};
  const size_t matrices = tensor.shape.size() == 3 ? tensor.shape.front() : 1;
  const size_t size = found->second.size();
  if (size != tensor.cols() && size != matrices * tensor.cols())
    throw Error({.kind = ErrorKind::data,
                 .doing = "reading the importance matrix",
                 .subject = "tensor " + in_quotes(tensor.name),
                 .expected = std::to_string(tensor.cols()) + " columns",
                 .found = std::to_string(size),
                 .hint = "is it of another model?"});
  return {found->second.data(), size};
}

uint32_t file_type_id(const TensorContent& content, const FileType* file_type) {
  if (file_type != nullptr) return file_type->id;
  for (const FileType& known : file_types())
    if (!content.tensors.empty() && known.base == content.tensors[0].type) return known.id;
  return 0;
}

void note(Manifest& manifest, const std::string& name, std::string_view type, const Shape& shape,
          uint64_t bytes, uint64_t hash) {
  manifest.tensors.push_back({name, std::string(type), shape, bytes, hash});
}

}  // namespace

Manifest write_gguf_model(const TensorContent& content, const Path& path, const FileType* file_type,
                          const ImportanceMatrix& importance, ThreadTeam& team,
                          const ConvertProgress& progress) {
  std::vector<GgufEntry> entries;
  uint64_t all = 0, done = 0;
  bool quantized = false;
  MixModel model = content.model;
  model.weighted = !importance.empty();
  for (const ContentTensor& tensor : content.tensors) {
    const auto mixed = file_type == nullptr
                           ? std::nullopt
                           : mixed_type(*file_type, tensor.name, tensor.shape, model);
    entries.push_back({tensor.name, mixed.value_or(kept_type(tensor)), tensor.shape});
    all += block_bytes(entries.back().type, tensor.shape);
    quantized = quantized || block_type_info(entries.back().type).quantized;
  }
  GgufMetadata metadata = content.metadata;
  if (file_type != nullptr || !metadata.has("general.file_type"))
    metadata.set_u32("general.file_type", file_type_id(content, file_type));
  if (quantized) metadata.set_u32("general.quantization_version", kQuantizationVersion);

  Manifest manifest;
  std::vector<std::byte> slab;
  manifest.file_bytes = write_gguf(path, metadata, entries, [&](size_t index, ByteSink sink) {
    const ContentTensor& tensor = content.tensors[index];
    const BlockType type = entries[index].type;
    const View1<const float> weights = importance_of(importance, tensor);
    const size_t rows = tensor.rows(), row_bytes = block_row_bytes(type, tensor.cols());
    const size_t step = std::max<size_t>(1, kSlabElements / std::max<size_t>(1, tensor.cols()));
    Hasher hasher;
    for (size_t first = 0; first < rows; first += step) {
      const size_t count = std::min(step, rows - first);
      slab.resize(count * row_bytes);
      convert_rows(tensor, first, count, type, weights, slab, team);
      hasher.update(slab.data(), slab.size());
      sink(slab.data(), slab.size());
    }
    note(manifest, tensor.name, block_type_name(type), tensor.shape, rows * row_bytes,
         hasher.digest());
    done += rows * row_bytes;
    if (progress) progress(done, all);
  });
  return manifest;
}

namespace {

// Whether every value of an f32 tensor, less `offset`, is one of `type`.
bool fits(const GgufTensor& tensor, double offset, BlockType type) {
  const size_t count = tensor.bytes.size() / 4;
  std::vector<float> values(count), back(count);
  std::vector<std::byte> narrow(2 * count);
  decode_blocks(BlockType::f32, tensor.bytes, {values.data(), count});
  for (float& value : values) {
    value -= static_cast<float>(offset);
    if (type == BlockType::f16 && !(value >= -65504 && value <= 65504)) return false;
  }
  encode_blocks(type, {values.data(), count}, narrow);
  decode_blocks(type, narrow, {back.data(), count});
  return std::memcmp(values.data(), back.data(), 4 * count) == 0;
}

// The type that a tensor has in the folder; `matrices` is that of the embedding.
BlockType hf_type(const GgufTensor& tensor, double offset, BlockType matrices,
                  std::optional<DType> dtype) {
  if (dtype) return *block_type_of(*dtype);
  if (block_type_info(tensor.type).quantized) return BlockType::f32;
  const bool narrow = matrices == BlockType::f16 || matrices == BlockType::bf16;
  if (tensor.type == BlockType::f32 && tensor.shape.size() == 1 && narrow &&
      fits(tensor, offset, matrices))
    return matrices;
  return tensor.type;
}

// A tensor of the folder, and where each of its rows lies in the file.
struct HfTensor {
  std::string name;
  Shape shape;
  size_t cols = 0;
  std::vector<std::pair<const GgufName*, size_t>> rows;
};

std::vector<HfTensor> hf_tensors(const std::vector<GgufName>& names) {
  std::vector<HfTensor> tensors;
  for (const GgufName& name : names) {
    if (tensors.empty() || tensors.back().name != name.hf) {
      tensors.push_back({name.hf, name.hf_shape, name.cols(), {}});
      tensors.back().rows.resize(element_count(name.hf_shape) / name.cols());
    }
    for (size_t row = 0; row < name.rows(); ++row)
      tensors.back().rows[name.order.hf_row(row)] = {&name, row};
  }
  return tensors;
}

void write_description(const GgufArchive& archive, const ModelConfig& config, const Path& folder,
                       DType dtype) {
  const auto tokenizer = archive.find("tokenizer.ggml.model");
  if (tokenizer && tokenizer->as_string() != "none")
    save_tokenizer(tokenizer_from_gguf(archive), folder);
  else
    log_warning("no tokenizer in " + archive.path().string() + ": the folder will have none");
  write_file_atomically(folder / "generation_config.json",
                        write_json(write_generation_config(config)));
  // Last: a folder without config.json is not a model yet.
  write_file_atomically(folder / "config.json", write_json(write_model_config(config, dtype)));
}

}  // namespace

Manifest write_hf_model(const Path& gguf, const Path& folder, std::optional<DType> dtype) {
  if (std::filesystem::is_directory(gguf))
    throw Error({.kind = ErrorKind::usage,
                 .doing = "writing a Hugging Face folder",
                 .subject = gguf.string(),
                 .expected = "a GGUF file to read",
                 .found = "a folder",
                 .hint = "cairn convert FOLDER FILE --to gguf goes the other way"});
  const GgufArchive archive(gguf);
  const ModelConfig config = read_gguf_config(archive);
  check_gguf_tensors(archive, config);
  const std::vector<GgufName> names = gguf_names(config);
  const std::vector<HfTensor> tensors = hf_tensors(names);
  const BlockType matrices = archive.tensor("token_embd.weight").type;
  std::vector<TensorEntry> entries;
  for (const HfTensor& tensor : tensors) {
    const auto type_of = [&](const auto& row) {
      return hf_type(archive.tensor(row.first->gguf), row.first->offset, matrices, dtype);
    };
    const BlockType first = type_of(tensor.rows.front()), last = type_of(tensor.rows.back());
    entries.push_back({tensor.name, *block_type_info(first == last ? first : BlockType::f32).dtype,
                       tensor.shape});
  }
  make_folders(folder);
  Manifest manifest;
  const auto source = [&](size_t index, ByteSink sink) {
    const HfTensor& tensor = tensors[index];
    const BlockType type = *block_type_of(entries[index].dtype);
    std::vector<float> values(tensor.cols);
    std::vector<std::byte> row(block_row_bytes(type, tensor.cols));
    Hasher hasher;
    const GgufName* name = nullptr;
    GgufTensor stored;
    for (const auto& [of, at] : tensor.rows) {
      if (of != name) stored = archive.tensor((name = of)->gguf);
      const size_t from_bytes = block_row_bytes(stored.type, tensor.cols);
      const auto from = stored.bytes.subspan(at * from_bytes, from_bytes);
      if (type == stored.type && name->offset == 0) {
        std::copy(from.begin(), from.end(), row.begin());
      } else {
        decode_blocks(stored.type, from, {values.data(), tensor.cols});
        for (float& value : values) value -= static_cast<float>(name->offset);
        encode_blocks(type, {values.data(), tensor.cols}, row);
      }
      hasher.update(row.data(), row.size());
      sink(row.data(), row.size());
    }
    note(manifest, tensor.name, block_type_name(type), tensor.shape,
         tensor.rows.size() * row.size(), hasher.digest());
  };
  for (const std::string& file : write_tensor_archive(folder, "model", entries, source))
    manifest.file_bytes += std::filesystem::file_size(folder / file);
  write_description(archive, config, folder, entries[0].dtype);
  return manifest;
}

}  // namespace cairn
