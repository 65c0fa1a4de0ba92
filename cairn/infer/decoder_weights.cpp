#include "cairn/infer/decoder_weights.h"

#include <functional>
#include <map>
#include <string>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/io/gguf.h"
#include "cairn/kernels/blocks.h"
#include "cairn/model/architecture.h"
#include "cairn/model/decoder_layout.h"
#include "cairn/model/gguf.h"

namespace cairn {
namespace {

// Finds tensors by their Hugging Face names.
struct Finder {
  std::function<StoredMatrix(const std::string&)> matrix;
  std::function<std::vector<float>(const std::string&)> vector;
};

DecoderLayerWeights find_layer(const Finder& find, const AttentionMechanism& attention,
                               const LayerNames& names) {
  const auto vector = [&](const std::string& name) {
    return name.empty() ? std::vector<float>() : find.vector(name);
  };
  DecoderLayerWeights layer;
  layer.attention_norm = vector(names.attention_norm);
  layer.attention_post_norm = vector(names.attention_post_norm);
  layer.mlp_norm = vector(names.mlp_norm);
  layer.mlp_post_norm = vector(names.mlp_post_norm);
  layer.q = find.matrix(names.q);
  layer.k = find.matrix(names.k);
  layer.v = find.matrix(names.v);
  layer.o = find.matrix(names.o);
  layer.gate = find.matrix(names.gate);
  layer.up = find.matrix(names.up);
  layer.down = find.matrix(names.down);
  layer.q_bias = vector(names.q_bias);
  layer.k_bias = vector(names.k_bias);
  layer.v_bias = vector(names.v_bias);
  layer.o_bias = vector(names.o_bias);
  layer.gate_bias = vector(names.gate_bias);
  layer.up_bias = vector(names.up_bias);
  layer.down_bias = vector(names.down_bias);
  for (const ParameterSpec& spec : attention.parameters())
    layer.attention_parameters.push_back(find.vector(names.attention + spec.name));
  return layer;
}

void refuse_experts(const ModelConfig& config) {
  if (config.experts == 0) return;
  throw Error({.kind = ErrorKind::usage,
               .doing = "preparing to decode",
               .subject = "the model's MLP",
               .expected = "a plain one",
               .found = "a mixture of " + std::to_string(config.experts) + " experts",
               .hint = "it can be trained, evaluated and converted"});
}

DecoderWeights find_all(const ModelConfig& config, const Finder& find) {
  refuse_experts(config);
  const LayerAttention attention(config);
  DecoderWeights weights;
  weights.config = config;
  weights.embedding = find.matrix(kEmbeddingName);
  weights.head = config.tie_embeddings ? weights.embedding : find.matrix(kHeadName);
  weights.final_norm = find.vector(kFinalNormName);
  for (size_t i = 0; i < config.layers; ++i)
    weights.layers.push_back(find_layer(find, attention[i], layer_names(config, i)));
  return weights;
}

}  // namespace

const std::byte* StoredMatrix::row(size_t index) const {
  return data + (rotary_head == 0 ? index : gguf_row(index, rotary_head)) * row_bytes();
}

DecoderWeights decoder_weights(const Model& model) {
  Finder find;
  find.matrix = [&](const std::string& name) {
    const Parameter& parameter = model.find(name);
    const View1<const float> values = model.values(parameter);
    const size_t rows = parameter.spec.shape[0];
    return StoredMatrix{BlockType::f32, rows, values.size / rows,
                        reinterpret_cast<const std::byte*>(values.data)};
  };
  find.vector = [&](const std::string& name) {
    const View1<const float> values = model.values(model.find(name));
    return std::vector<float>(values.begin(), values.end());
  };
  return find_all(model.config(), find);
}

DecoderWeights decoder_weights(Model&& model) {
  auto kept = std::make_shared<const Model>(std::move(model));
  DecoderWeights weights = decoder_weights(*kept);
  weights.keeper = kept;
  return weights;
}

namespace {

// A parameter in a GGUF file: rows from `first` on of a tensor that may hold others too.
struct Place {
  GgufName name;
  size_t first = 0;
};

std::map<std::string, Place> places_of(const ModelConfig& config) {
  std::map<std::string, GgufName> names;
  for (GgufName& name : gguf_names(config)) names.emplace(name.hf, name);
  std::map<std::string, size_t> rows;
  for (const ParameterSpec& spec : parameter_specs(config)) rows[spec.name] = spec.shape[0];
  std::map<std::string, Place> places;
  for (const StoredRows& stored : stored_tensors(config)) {
    size_t first = 0;
    for (const std::string& part : stored.parts) {
      places.emplace(part, Place{names.at(stored.name), first});
      first += rows.at(part);
    }
  }
  return places;
}

}  // namespace

DecoderWeights open_gguf_weights(const Path& path) {
  auto archive = std::make_shared<const GgufArchive>(path);
  const ModelConfig config = read_gguf_config(*archive);
  check_gguf_tensors(*archive, config);
  refuse_experts(config);
  const std::map<std::string, Place> places = places_of(config);
  std::map<std::string, size_t> rows;
  for (const ParameterSpec& spec : parameter_specs(config)) rows[spec.name] = spec.shape[0];
  Finder find;
  find.matrix = [&](const std::string& parameter) {
    const Place& place = places.at(parameter);
    const GgufTensor tensor = archive->tensor(place.name.gguf);
    const size_t cols = tensor.shape.back();
    return StoredMatrix{tensor.type, rows.at(parameter), cols,
                        tensor.bytes.data() + place.first * block_row_bytes(tensor.type, cols),
                        place.name.order.rotary_head};
  };
  find.vector = [&](const std::string& parameter) {
    const GgufName& name = places.at(parameter).name;
    const GgufTensor tensor = archive->tensor(name.gguf);
    std::vector<float> stored(element_count(tensor.shape)), values(stored.size());
    decode_blocks(tensor.type, tensor.bytes, {stored.data(), stored.size()});
    const bool moves = name.cols() != tensor.shape.back();
    for (size_t i = 0; i < values.size(); ++i)
      values[moves ? name.order.hf_row(i) : i] = stored[i] - static_cast<float>(name.offset);
    return values;
  };
  DecoderWeights weights = find_all(config, find);
  weights.keeper = archive;
  return weights;
}

DecoderWeights open_decoder_weights(const Path& path) {
  return is_gguf(path) ? open_gguf_weights(path) : decoder_weights(load_model(path));
}

}  // namespace cairn
