// Where tensors and metadata come from.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/base/log.h"
#include "cairn/infer/convert.h"
#include "cairn/io/json.h"
#include "cairn/model/decoder_layout.h"
#include "cairn/model/folder.h"
#include "cairn/model/gguf.h"
#include "cairn/text/gguf_keys.h"
#include "cairn/text/tokenizer_json.h"

namespace cairn {
namespace {

size_t read_size(const GgufArchive& archive, const std::string& key, size_t otherwise) {
  const auto value = archive.find(key);
  if (!value) return otherwise;
  if (!value->is_array()) return static_cast<size_t>(value->as_integer(0, 1 << 20));
  const std::vector<int64_t> numbers = value->as_integers();
  return numbers.empty() ? otherwise : static_cast<size_t>(std::max<int64_t>(numbers[0], 0));
}

TensorContent open_gguf(const Path& path) {
  const auto archive = std::make_shared<const GgufArchive>(path);
  TensorContent content;
  for (size_t i = 0; i < archive->metadata().metadata_count(); ++i) {
    const GgufValue value = archive->metadata().metadata(i);
    if (value.key().substr(0, 6) != "split.") content.metadata.copy(value);  // one file is written
  }
  for (size_t i = 0; i < archive->tensor_count(); ++i) {
    const GgufTensor tensor = archive->tensor(i);
    content.tensors.push_back({std::string(tensor.name), tensor.type, tensor.shape, tensor.bytes});
  }
  const std::string name(archive->at("general.architecture").as_string());
  content.model.layers = read_size(*archive, name + ".block_count", 0);
  content.model.heads = read_size(*archive, name + ".attention.head_count", 1);
  content.model.kv_heads =
      read_size(*archive, name + ".attention.head_count_kv", content.model.heads);
  content.model.experts = read_size(*archive, name + ".expert_count", 0);
  content.model.tied_head = !archive->find_tensor("output.weight");
  content.files = archive;
  return content;
}

void add_tokenizer(const Path& folder, const ModelConfig& config, GgufMetadata& metadata) {
  if (!find_tokenizer(folder)) {
    log_warning("no tokenizer in " + folder.string() + ": the GGUF file will have no tokenizer");
    metadata.set_string("tokenizer.ggml.model", "none");
    return;
  }
  tokenizer_to_gguf(load_tokenizer(folder).spec(), config.vocab_size, metadata);
}

// A folder and the tables that GGUF has beside the weights.
struct FolderFiles {
  explicit FolderFiles(const Path& path) : folder(open_model_folder(path)) {}
  ModelFolder folder;
  std::vector<GgufTable> tables;
};

TensorContent open_folder(const Path& path) {
  const auto files = std::make_shared<FolderFiles>(path);
  ModelConfig& config = files->folder.config;
  const TensorArchive& archive = files->folder.archive;
  config.tie_embeddings = archive.tensors().count(outer_names(config).head) == 0;
  files->tables = gguf_tables(config);
  TensorContent content;
  content.files = files;
  content.model = {config.layers, config.heads, config.kv_heads, config.experts,
                   config.tie_embeddings};
  for (const GgufTable& table : files->tables)
    content.tensors.push_back({table.name,
                               BlockType::f32,
                               Shape{table.values.size()},
                               std::as_bytes(std::span(table.values)),
                               {},
                               0});
  for (const GgufName& name : gguf_names(config)) {
    const StoredTensor& stored = archive.find(name.hf);
    content.tensors.push_back({name.gguf, *block_type_of(*stored.type), name.shape, stored.bytes,
                               name.order, name.offset});
  }
  write_gguf_config(config, content.metadata);
  content.metadata.set_string("general.type", "model");
  content.metadata.set_string("general.name",
                              std::filesystem::weakly_canonical(path).filename().string());
  add_tokenizer(path, config, content.metadata);
  write_gguf_config(config, content.metadata);  // config.json's ids count
  return content;
}

}  // namespace

size_t ContentTensor::rows() const {
  const size_t elements = element_count(shape);
  return elements == 0 ? 0 : elements / cols();
}

std::span<const std::byte> ContentTensor::row(size_t index) const {
  const size_t row_bytes = block_row_bytes(type, cols());
  return bytes.subspan(order.hf_row(index) * row_bytes, row_bytes);
}

TensorContent open_as_gguf(const Path& path) {
  return is_gguf(path) ? open_gguf(path) : open_folder(path);
}

}  // namespace cairn
