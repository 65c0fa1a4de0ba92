#include "cairn/infer/decoder_weights.h"

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/io/gguf.h"
#include "cairn/kernels/blocks.h"
#include "cairn/model/architecture.h"
#include "cairn/model/decoder_layout.h"
#include "cairn/model/folder.h"
#include "cairn/model/gguf.h"

namespace cairn {
namespace {

// Finds tensors by their Hugging Face names.
struct Finder {
  std::function<StoredMatrix(const std::string&)> matrix;
  std::function<std::vector<float>(const std::string&)> vector;
  // Rows [first, first + count) of a stack of matrices or of halves: a whole one.
  std::function<StoredMatrix(const std::string&, size_t first, size_t count)> rows;
};

// Gates stand before ups, in each expert and in the shared one.
void find_experts(const Finder& find, const ModelConfig& config, const LayerNames& names,
                  DecoderLayerWeights& layer) {
  const size_t hidden = config.hidden_size, width = config.intermediate_size;
  layer.mlp_norm = find.vector(names.mlp_norm);
  layer.router = find.matrix(names.router);
  for (size_t e = 0; e < config.experts; ++e)
    layer.experts.push_back({find.rows(names.experts_gate_up, 2 * e * width, width),
                             find.rows(names.experts_gate_up, (2 * e + 1) * width, width),
                             find.rows(names.experts_down, e * hidden, hidden)});
  const size_t shared = config.shared_intermediate_size;
  if (shared == 0) return;
  layer.gate = find.rows(names.shared_gate_up, 0, shared);
  layer.up = find.rows(names.shared_gate_up, shared, shared);
  layer.down = find.matrix(names.shared_down);
}

void find_mlp(const Finder& find, const LayerNames& names, DecoderLayerWeights& layer) {
  if (!names.mlp_norm.empty()) layer.mlp_norm = find.vector(names.mlp_norm);
  if (!names.gate.empty()) layer.gate = find.matrix(names.gate);
  layer.up = find.matrix(names.up);
  layer.down = find.matrix(names.down);
}

DecoderLayerWeights find_layer(const Finder& find, const ModelConfig& config,
                               const AttentionMechanism& attention, const LayerNames& names) {
  const auto vector = [&](const std::string& name) {
    return name.empty() ? std::vector<float>() : find.vector(name);
  };
  DecoderLayerWeights layer;
  layer.attention_norm = vector(names.attention_norm);
  layer.attention_post_norm = vector(names.attention_post_norm);
  layer.mlp_post_norm = vector(names.mlp_post_norm);
  layer.q = find.matrix(names.q);
  layer.k = find.matrix(names.k);
  layer.v = find.matrix(names.v);
  layer.o = find.matrix(names.o);
  if (config.experts > 0)
    find_experts(find, config, names, layer);
  else if (names.cross_q.empty())  // otherwise behind the other branch
    find_mlp(find, names, layer);
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

// The second half of an encoder-decoder's layer.
DecoderLayerWeights find_cross(const Finder& find, const LayerNames& names) {
  DecoderLayerWeights layer;
  layer.reads_source = true;
  layer.attention_norm = find.vector(names.cross_norm);
  layer.q = find.matrix(names.cross_q);
  layer.o = find.matrix(names.cross_o);
  find_mlp(find, names, layer);
  return layer;
}

DecoderWeights find_encoder(const ModelConfig& config, const LayerAttention& attention,
                            const Finder& find) {
  const OuterNames names = outer_names(config);
  DecoderWeights weights;
  weights.config = config;
  weights.embedding = find.matrix(names.embedding);
  weights.final_norm = find.vector(names.encoder_norm);
  for (size_t i = 0; i < config.encoder_layers; ++i)
    weights.layers.push_back(
        find_layer(find, config, attention.encoder(), layer_names(config, i, Stack::encoder)));
  for (size_t i = 0; i < config.layers; ++i) {
    const LayerNames reader = layer_names(config, i);
    weights.readers.push_back({find.matrix(reader.cross_k), find.matrix(reader.cross_v)});
  }
  return weights;
}

DecoderWeights find_all(const ModelConfig& config, const Finder& find) {
  const LayerAttention attention(config);
  const OuterNames names = outer_names(config);
  DecoderWeights weights;
  weights.config = config;
  weights.embedding = find.matrix(names.embedding);
  weights.head = config.tie_embeddings ? weights.embedding : find.matrix(names.head);
  weights.final_norm = find.vector(names.final_norm);
  for (size_t i = 0; i < config.layers; ++i) {
    const LayerNames layer = layer_names(config, i);
    weights.layers.push_back(find_layer(find, config, attention[i], layer));
    if (!layer.cross_q.empty()) weights.layers.push_back(find_cross(find, layer));
  }
  if (config.has_encoder())
    weights.encoder = std::make_shared<const DecoderWeights>(find_encoder(config, attention, find));
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
  find.rows = [&](const std::string& name, size_t first, size_t count) {
    const Parameter& parameter = model.find(name);
    const size_t cols = parameter.spec.shape.back();
    const float* row = model.values(parameter).data + first * cols;
    return StoredMatrix{BlockType::f32, count, cols, reinterpret_cast<const std::byte*>(row)};
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

// Where a parameter lies: rows of a tensor that may hold others too.
struct Place {
  std::string tensor;  // its name in Hugging Face files
  size_t first = 0, rows = 0;
};

std::map<std::string, Place> places_of(const ModelConfig& config) {
  std::map<std::string, size_t> rows;
  for (const ParameterSpec& spec : parameter_specs(config)) rows[spec.name] = spec.shape[0];
  std::map<std::string, Place> places;
  for (const StoredRows& stored : stored_tensors(config)) {
    size_t first = 0;
    for (const std::string& part : stored.parts) {
      places.emplace(part, Place{stored.name, first, rows.at(part)});
      first += rows.at(part);
    }
  }
  return places;
}

BlockType block_type(DType type) {
  if (type == DType::bf16) return BlockType::bf16;
  return type == DType::f16 ? BlockType::f16 : BlockType::f32;
}

// Rows as they lie in the files.
StoredMatrix matrix_of(const StoredTensor& tensor, size_t first, size_t count) {
  const BlockType type = block_type(*tensor.type);
  const size_t cols = tensor.shape.back();
  return {type, count, cols, tensor.bytes.data() + first * block_row_bytes(type, cols)};
}

}  // namespace

DecoderWeights open_gguf_weights(const Path& path) {
  auto archive = std::make_shared<const GgufArchive>(path);
  const ModelConfig config = read_gguf_config(*archive);
  check_gguf_tensors(*archive, config);
  const std::map<std::string, Place> places = places_of(config);
  const std::vector<GgufName> names = gguf_names(config);
  std::map<std::string, GgufName> by_hf;  // experts' tensors have several; those are not asked for
  for (const GgufName& name : names) by_hf.emplace(name.hf, name);
  Finder find;
  find.matrix = [&](const std::string& parameter) {
    const Place& place = places.at(parameter);
    const GgufName& name = by_hf.at(place.tensor);
    const GgufTensor tensor = archive->tensor(name.gguf);
    const size_t cols = tensor.shape.back();
    return StoredMatrix{tensor.type, place.rows, cols,
                        tensor.bytes.data() + place.first * block_row_bytes(tensor.type, cols),
                        name.order.rotary_head};
  };
  find.rows = [&](const std::string& parameter, size_t first, size_t count) {
    const auto holds = [&](const GgufName& name) {
      const RowOrder& order = name.order;
      return name.hf == parameter && (order.group == 0 || first % order.stride == order.first);
    };
    const GgufName& name = *std::find_if(names.begin(), names.end(), holds);
    const RowOrder& order = name.order;
    const size_t row = order.group == 0 ? first : first / order.stride * order.group;
    const GgufTensor tensor = archive->tensor(name.gguf);
    const size_t cols = tensor.shape.back();
    return StoredMatrix{tensor.type, count, cols,
                        tensor.bytes.data() + row * block_row_bytes(tensor.type, cols)};
  };
  find.vector = [&](const std::string& parameter) {
    const GgufName& name = by_hf.at(places.at(parameter).tensor);
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

DecoderWeights open_folder_weights(const Path& folder) {
  auto opened = std::make_shared<const ModelFolder>(open_model_folder(folder));
  const std::map<std::string, Place> places = places_of(opened->config);
  const auto tensor_of = [&](const Place& place) -> const StoredTensor& {
    return opened->archive.find(place.tensor);
  };
  Finder find;
  find.matrix = [&](const std::string& parameter) {
    const Place& place = places.at(parameter);
    return matrix_of(tensor_of(place), place.first, place.rows);
  };
  find.rows = [&](const std::string& parameter, size_t first, size_t count) {
    return matrix_of(tensor_of(places.at(parameter)), first, count);
  };
  find.vector = [&](const std::string& parameter) {
    const Place& place = places.at(parameter);
    const StoredTensor& tensor = tensor_of(place);
    std::vector<float> all(element_count(tensor.shape));
    decode_blocks(block_type(*tensor.type), tensor.bytes, {all.data(), all.size()});
    const size_t each = all.size() / tensor.shape[0];
    const float* first = all.data() + place.first * each;
    return std::vector<float>(first, first + place.rows * each);
  };
  DecoderWeights weights = find_all(opened->config, find);
  weights.keeper = opened;
  return weights;
}

DecoderWeights open_decoder_weights(const Path& path) {
  return is_gguf(path) ? open_gguf_weights(path) : open_folder_weights(path);
}

}  // namespace cairn
