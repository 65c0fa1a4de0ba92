// Models as Hugging Face folders.
#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/io/json.h"
#include "cairn/io/safetensors.h"
#include "cairn/model/architecture.h"
#include "cairn/model/model.h"

namespace cairn {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";
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

// IEEE half to single; exact.
float half_to_float(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000U} << 16;
  const uint32_t exponent = half >> 10 & 0x1FU;
  const uint32_t fraction = half & 0x3FFU;
  if (exponent == 0) {  // zero and subnormals: fraction * 2^-24
    const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  const uint32_t wide = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | wide << 23 | fraction << 13);
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
      target[i] = half_to_float(read_unaligned<uint16_t>(from + 2 * i));
  }
}

// Old files hold tables that follow from the configuration.
bool is_derived(std::string_view name) {
  return name.find("rotary_emb.inv_freq") != std::string_view::npos;
}

// Settles tied heads by what the files hold: a head that is not there is the embedding; one that is
// there although config.json ties it must be the same.
void settle_head(ModelConfig& config, const TensorArchive& archive) {
  const auto head = archive.tensors().find(kHead);
  if (head == archive.tensors().end()) {
    config.tie_embeddings = true;
    return;
  }
  if (!config.tie_embeddings) return;
  const StoredTensor& embedding = archive.find(kEmbedding);
  if (head->second.dtype != embedding.dtype ||
      !std::equal(head->second.bytes.begin(), head->second.bytes.end(), embedding.bytes.begin(),
                  embedding.bytes.end()))
    refuse(archive, kHead, "the values of " + std::string(kEmbedding), "others",
           "config.json says \"tie_word_embeddings\": true; is that right?");
}

// Every tensor there, of the right shape and a type that can be read, and no other. Done before any
// memory is taken, so a wrong config.json cannot ask for more than the files hold.
void check_tensors(const std::vector<ParameterSpec>& specs, const ModelConfig& config,
                   const TensorArchive& archive) {
  std::vector<std::string_view> known;
  for (const ParameterSpec& spec : specs) {
    const StoredTensor& tensor = archive.find(spec.name);
    if (tensor.shape != spec.shape)
      refuse(archive, spec.name, to_string(spec.shape) + " (by config.json)",
             to_string(tensor.shape), "is config.json from another model?");
    if (!is_loadable(tensor)) refuse(archive, spec.name, "F32, F16 or BF16", tensor.dtype);
    known.push_back(spec.name);
  }
  if (config.tie_embeddings) known.push_back(kHead);
  std::sort(known.begin(), known.end());
  for (const auto& [name, tensor] : archive.tensors())
    if (!is_derived(name) && !std::binary_search(known.begin(), known.end(), name))
      refuse(archive, name, "only tensors of this architecture", to_string(tensor.shape),
             "a feature that config.json does not name, or one that is not supported");
}

}  // namespace

Model load_model(const Path& folder) {
  const Path path = folder / "config.json";
  const Json document = read_json(path, kMaxConfigBytes);
  ModelConfig config = read_model_config(JsonField(document, path.string()));
  const TensorArchive archive(folder);
  settle_head(config, archive);
  check_tensors(parameter_specs(config), config, archive);
  Model model(std::move(config));
  for (const Parameter& parameter : model.parameters())
    convert(archive.find(parameter.spec.name), model.values(parameter));
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
  std::vector<TensorEntry> entries;
  for (const Parameter& parameter : model.parameters())
    entries.push_back({parameter.spec.name, dtype, parameter.spec.shape});
  const auto source = [&](size_t index, ByteSink sink) {
    const View1<const float> values = model.values(model.parameters()[index]);
    if (dtype == DType::f32) return sink(values.data, values.size * sizeof(float));
    std::vector<bf16> piece;
    constexpr size_t kPiece = size_t{1} << 16;
    for (size_t begin = 0; begin < values.size; begin += kPiece) {
      const View1<const float> part = values.slice(begin, std::min(kPiece, values.size - begin));
      piece.clear();
      for (const float value : part) piece.push_back(bf16::from_float(value));
      sink(piece.data(), piece.size() * sizeof(bf16));
    }
  };
  write_tensor_archive(folder, "model", entries, source);
  write_file_atomically(folder / "generation_config.json",
                        write_json(write_generation_config(model.config())));
  // Last: a folder without config.json is not a model yet.
  write_file_atomically(folder / "config.json",
                        write_json(write_model_config(model.config(), dtype)));
}

}  // namespace cairn
