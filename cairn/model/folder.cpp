#include "cairn/model/folder.h"

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/base/log.h"
#include "cairn/io/json.h"
#include "cairn/model/architecture.h"

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

bool is_loadable(const StoredTensor& tensor) {
  return tensor.type == DType::f32 || tensor.type == DType::f16 || tensor.type == DType::bf16;
}

// Old files hold tables that follow from the configuration, and T5's one that nothing reads.
bool is_derived(std::string_view name) {
  return name.find("rotary_emb.inv_freq") != std::string_view::npos ||
         name.find("EncDecAttention.relative_attention_bias") != std::string_view::npos;
}

bool same(const StoredTensor& a, const StoredTensor& b) {
  return a.dtype == b.dtype &&
         std::equal(a.bytes.begin(), a.bytes.end(), b.bytes.begin(), b.bytes.end());
}

// Files of encoder-decoders may hold the embedding under several names, or under another one.
void settle_embedding(const ModelConfig& config, TensorArchive& archive) {
  const OuterNames names = outer_names(config);
  if (names.embedding_copies.empty()) return;
  std::string kept = names.embedding;
  for (const std::string& copy : names.embedding_copies) {
    if (archive.tensors().count(copy) == 0) continue;
    if (archive.tensors().count(kept) == 0) kept = copy;
    if (!same(archive.find(copy), archive.find(kept)))
      refuse(archive, copy, "the values of " + kept, "others");
  }
  archive.rename([&](const std::string& name) -> std::optional<std::string> {
    if (name == kept) return names.embedding;
    const auto& copies = names.embedding_copies;
    if (std::find(copies.begin(), copies.end(), name) != copies.end()) return std::nullopt;
    return name;
  });
}

// Settles tied heads by what the files hold: a head that is not there is the embedding; one that is
// there although config.json ties it must be the same.
void settle_head(ModelConfig& config, const TensorArchive& archive) {
  const OuterNames names = outer_names(config);
  const auto head = archive.tensors().find(names.head);
  if (head == archive.tensors().end()) {
    config.tie_embeddings = true;
    return;
  }
  if (!config.tie_embeddings) return;
  if (!same(head->second, archive.find(names.embedding)))
    refuse(archive, names.head, "the values of " + names.embedding, "others",
           "config.json says \"tie_word_embeddings\": true; is that right?");
}

// Where multimodal models keep the language model: before and since transformers 4.52, and Idefics.
struct Place {
  std::string_view prefix, meant;
};
constexpr std::array kTextPlaces = {
    Place{"language_model.model.", "model."},
    Place{"language_model.lm_head.", "lm_head."},
    Place{"model.language_model.", "model."},
    Place{"model.text_model.", "model."},
    Place{"lm_head.", "lm_head."},
};

// The names of a text model for its part; what else there is goes, and is named in the log.
void take_text_part(TensorArchive& archive) {
  std::map<std::string, size_t> left;  // tensors by the part they belong to
  archive.rename([&](const std::string& name) -> std::optional<std::string> {
    for (const Place& place : kTextPlaces)
      if (name.compare(0, place.prefix.size(), place.prefix) == 0)
        return std::string(place.meant) + name.substr(place.prefix.size());
    const size_t begin = name.compare(0, 6, "model.") == 0 ? 6 : 0;
    ++left[name.substr(begin, name.find('.', begin) - begin)];
    return std::nullopt;
  });
  std::string list;
  for (const auto& [part, count] : left)
    list += (list.empty() ? "" : ", ") + part + " (" + std::to_string(count) + " tensors)";
  log_info(archive.path().string() + ": the text part of a multimodal model; left aside: " +
           (list.empty() ? "nothing" : list));
}

// Every tensor there, of the right shape and a type that can be read, and no other. Done before any
// memory is taken, so a wrong config.json cannot ask for more than the files hold.
void check_tensors(const ModelConfig& config, const TensorArchive& archive) {
  const std::vector<StoredRows> expected = stored_tensors(config);
  std::vector<std::string_view> known;
  for (const StoredRows& stored : expected) {
    const StoredTensor& tensor = archive.find(stored.name);
    if (tensor.shape != stored.shape)
      refuse(archive, stored.name, to_string(stored.shape) + " (by config.json)",
             to_string(tensor.shape), "is config.json from another model?");
    if (!is_loadable(tensor)) refuse(archive, stored.name, "F32, F16 or BF16", tensor.dtype);
    known.push_back(stored.name);
  }
  const std::string head = outer_names(config).head;
  if (config.tie_embeddings) known.push_back(head);
  std::sort(known.begin(), known.end());
  for (const auto& [name, tensor] : archive.tensors())
    if (!is_derived(name) && !std::binary_search(known.begin(), known.end(), name))
      refuse(archive, name, "only tensors of this architecture", to_string(tensor.shape),
             "a feature that config.json does not name, or one that is not supported");
}

}  // namespace

ModelFolder open_model_folder(const Path& folder) {
  std::error_code code;
  if (!std::filesystem::is_directory(folder, code))
    throw Error({.kind = ErrorKind::data,
                 .doing = "opening " + folder.string(),
                 .expected = "a GGUF file, or a folder with config.json and safetensors",
                 .found = std::filesystem::exists(folder, code) ? "another file"
                                                                : "no such file or folder"});
  const Path file = folder / "config.json";
  const Json document = read_json(file, kMaxConfigBytes);
  const JsonField config(document, file.string());
  ModelFolder result{read_model_config(config), TensorArchive(folder)};
  if (config.has("text_config")) take_text_part(result.archive);
  settle_embedding(result.config, result.archive);
  settle_head(result.config, result.archive);
  check_tensors(result.config, result.archive);
  return result;
}

}  // namespace cairn
