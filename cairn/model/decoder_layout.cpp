#include "cairn/model/decoder_layout.h"

#include <algorithm>
#include <cmath>

#include "cairn/model/architecture.h"

namespace cairn {
namespace {

// Collects specifications; an empty name is a tensor that the model does not have.
class Specs {
 public:
  void add(const std::string& name, Shape shape, Initializer start, ParameterGroup group) {
    if (!name.empty()) list.push_back({name, std::move(shape), start, group});
  }
  bool has(const std::string& name) const {
    return std::any_of(list.begin(), list.end(),
                       [&](const ParameterSpec& spec) { return spec.name == name; });
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
    if (!specs.has(extra.name)) specs.list.push_back(std::move(extra));
  }
  specs.matrix(names.o, c.hidden_size, q, end_std);
  specs.vector(names.o_bias, c.hidden_size, 0);
  specs.vector(names.attention_post_norm, c.hidden_size, 1 - c.norm_offset);
}

// The branch that reads the encoder's output.
void add_cross(Specs& specs, const ModelConfig& c, const LayerNames& names, double std,
               double end_std) {
  if (names.cross_q.empty()) return;
  const size_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  specs.vector(names.cross_norm, c.hidden_size, 1 - c.norm_offset);
  specs.matrix(names.cross_q, q, c.hidden_size, std);
  specs.matrix(names.cross_k, kv, c.hidden_size, std);
  specs.matrix(names.cross_v, kv, c.hidden_size, std);
  specs.matrix(names.cross_o, c.hidden_size, q, end_std);
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

LayerNames usual_names(const ModelConfig& config, size_t layer) {
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
  if (config.gated_mlp)
    projection(prefix + "mlp.gate_proj", config.mlp_bias, names.gate, names.gate_bias);
  projection(prefix + "mlp.up_proj", config.mlp_bias, names.up, names.up_bias);
  projection(prefix + "mlp.down_proj", config.mlp_bias, names.down, names.down_bias);
  return names;
}

}  // namespace

OuterNames outer_names(const ModelConfig& config) {
  const Architecture& architecture = find_architecture(config.architecture);
  if (architecture.outer_names != nullptr) return architecture.outer_names(config);
  OuterNames names;
  names.embedding = "model.embed_tokens.weight";
  names.final_norm = "model.norm.weight";
  names.head = "lm_head.weight";
  return names;
}

LayerNames layer_names(const ModelConfig& config, size_t layer, Stack stack) {
  const Architecture& architecture = find_architecture(config.architecture);
  return architecture.layer_names == nullptr ? usual_names(config, layer)
                                             : architecture.layer_names(config, layer, stack);
}

std::vector<ParameterSpec> decoder_parameters(const ModelConfig& c,
                                              std::span<const ParameterSpec> extras,
                                              double init_std) {
  constexpr double kDefaultInitStd = 0.02;  // of transformers
  const double std = init_std == 0 ? kDefaultInitStd : init_std;
  const OuterNames outer = outer_names(c);
  Specs specs;
  specs.embedding(outer.embedding, c.vocab_size, c.hidden_size, std);
  const auto add_layers = [&](size_t layers, Stack stack) {
    const double end_std = std / std::sqrt(2.0 * static_cast<double>(layers));
    for (size_t layer = 0; layer < layers; ++layer) {
      const LayerNames names = layer_names(c, layer, stack);
      add_attention(specs, c, names, extras, std, end_std);
      add_cross(specs, c, names, std, end_std);
      if (c.experts > 0)
        add_experts(specs, c, names, std, end_std);
      else
        add_mlp(specs, c, names, std, end_std);
    }
  };
  add_layers(c.encoder_layers, Stack::encoder);
  specs.vector(outer.encoder_norm, c.hidden_size, 1 - c.norm_offset);
  add_layers(c.layers, Stack::decoder);
  specs.vector(outer.final_norm, c.hidden_size, 1 - c.norm_offset);
  if (!c.tie_embeddings) specs.embedding(outer.head, c.vocab_size, c.hidden_size, std);
  return std::move(specs.list);
}

}  // namespace cairn
