#include "cairn/model/decoder_layout.h"

#include <cmath>

namespace cairn {
namespace {

// Collects specifications; an empty name is a tensor that the model does not have.
class Specs {
 public:
  void add(const std::string& name, Shape shape, Initializer start, ParameterGroup group) {
    if (!name.empty()) list.push_back({name, std::move(shape), start, group});
  }
  void matrix(const std::string& name, size_t out, size_t in, double std) {
    add(name, {out, in}, {Initializer::Kind::normal, std}, ParameterGroup::matrix);
  }
  void embedding(const std::string& name, size_t vocab_size, size_t width, double std) {
    add(name, {vocab_size, width}, {Initializer::Kind::normal, std}, ParameterGroup::embedding);
  }
  void vector(const std::string& name, size_t size, double start) {
    add(name, {size}, {Initializer::Kind::constant, start}, ParameterGroup::vector);
  }

  std::vector<ParameterSpec> list;
};

void add_attention(Specs& specs, const ModelConfig& c, const LayerNames& names,
                   std::span<const ParameterSpec> extras, double std, double end_std) {
  const size_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  specs.vector(names.attention_norm, c.hidden_size, 1 - c.norm_offset);
  specs.matrix(names.q, q, c.hidden_size, std);
  specs.matrix(names.k, kv, c.hidden_size, std);
  specs.matrix(names.v, kv, c.hidden_size, std);
  specs.vector(names.q_bias, q, 0);
  specs.vector(names.k_bias, kv, 0);
  specs.vector(names.v_bias, kv, 0);
  for (ParameterSpec extra : extras) {
    extra.name = names.attention + extra.name;
    specs.list.push_back(std::move(extra));
  }
  specs.matrix(names.o, c.hidden_size, q, end_std);
  specs.vector(names.o_bias, c.hidden_size, 0);
  specs.vector(names.attention_post_norm, c.hidden_size, 1 - c.norm_offset);
}

void add_experts(Specs& specs, const ModelConfig& c, const LayerNames& names, double std,
                 double end_std) {
  const auto stack = [&](const std::string& name, size_t out, size_t in, double start) {
    specs.add(name, {c.experts, out, in}, {Initializer::Kind::normal, start},
              ParameterGroup::matrix);
  };
  specs.vector(names.mlp_norm, c.hidden_size, 1 - c.norm_offset);
  specs.matrix(names.router, c.experts, c.hidden_size, std);
  stack(names.experts_gate_up, 2 * c.intermediate_size, c.hidden_size, std);
  stack(names.experts_down, c.hidden_size, c.intermediate_size, end_std);
  specs.matrix(names.shared_gate_up, 2 * c.shared_intermediate_size, c.hidden_size, std);
  specs.matrix(names.shared_down, c.hidden_size, c.shared_intermediate_size, end_std);
  specs.vector(names.mlp_post_norm, c.hidden_size, 1 - c.norm_offset);
}

void add_mlp(Specs& specs, const ModelConfig& c, const LayerNames& names, double std,
             double end_std) {
  specs.vector(names.mlp_norm, c.hidden_size, 1 - c.norm_offset);
  specs.matrix(names.gate, c.intermediate_size, c.hidden_size, std);
  specs.matrix(names.up, c.intermediate_size, c.hidden_size, std);
  specs.vector(names.gate_bias, c.intermediate_size, 0);
  specs.vector(names.up_bias, c.intermediate_size, 0);
  specs.matrix(names.down, c.hidden_size, c.intermediate_size, end_std);
  specs.vector(names.down_bias, c.hidden_size, 0);
  specs.vector(names.mlp_post_norm, c.hidden_size, 1 - c.norm_offset);
}

}  // namespace

LayerNames layer_names(const ModelConfig& config, size_t layer) {
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  LayerNames names;
  names.attention = prefix + "self_attn.";
  names.attention_norm = prefix + "input_layernorm.weight";
  if (config.post_norms) {
    names.attention_post_norm = prefix + "post_attention_layernorm.weight";
    names.mlp_norm = prefix + "pre_feedforward_layernorm.weight";
    names.mlp_post_norm = prefix + "post_feedforward_layernorm.weight";
  } else {
    names.mlp_norm = prefix + "post_attention_layernorm.weight";
  }
  const auto projection = [](const std::string& module, bool bias, std::string& weight,
                             std::string& bias_name) {
    weight = module + ".weight";
    if (bias) bias_name = module + ".bias";
  };
  projection(names.attention + "q_proj", config.qkv_bias, names.q, names.q_bias);
  projection(names.attention + "k_proj", config.qkv_bias, names.k, names.k_bias);
  projection(names.attention + "v_proj", config.qkv_bias, names.v, names.v_bias);
  projection(names.attention + "o_proj", config.output_bias, names.o, names.o_bias);
  if (config.experts > 0) {
    names.router = prefix + "block_sparse_moe.router.layer.weight";
    names.experts_gate_up = prefix + "block_sparse_moe.input_linear.weight";
    names.experts_down = prefix + "block_sparse_moe.output_linear.weight";
    if (config.shared_intermediate_size == 0) return names;
    names.shared_gate_up = prefix + "shared_mlp.input_linear.weight";
    names.shared_down = prefix + "shared_mlp.output_linear.weight";
    return names;
  }
  projection(prefix + "mlp.gate_proj", config.mlp_bias, names.gate, names.gate_bias);
  projection(prefix + "mlp.up_proj", config.mlp_bias, names.up, names.up_bias);
  projection(prefix + "mlp.down_proj", config.mlp_bias, names.down, names.down_bias);
  return names;
}

std::vector<ParameterSpec> decoder_parameters(const ModelConfig& c,
                                              std::span<const ParameterSpec> extras,
                                              double init_std) {
  constexpr double kDefaultInitStd = 0.02;  // of transformers
  const double std = init_std == 0 ? kDefaultInitStd : init_std;
  const double end_std = std / std::sqrt(2.0 * static_cast<double>(c.layers));
  Specs specs;
  specs.embedding(kEmbeddingName, c.vocab_size, c.hidden_size, std);
  for (size_t layer = 0; layer < c.layers; ++layer) {
    const LayerNames names = layer_names(c, layer);
    add_attention(specs, c, names, extras, std, end_std);
    if (c.experts > 0)
      add_experts(specs, c, names, std, end_std);
    else
      add_mlp(specs, c, names, std, end_std);
  }
  specs.vector(kFinalNormName, c.hidden_size, 1 - c.norm_offset);
  if (!c.tie_embeddings) specs.embedding(kHeadName, c.vocab_size, c.hidden_size, std);
  return std::move(specs.list);
}

}  // namespace cairn
