// The tensors of a decoder: what each is for, what it is called (Hugging Face's names), its shape
// and its start. nn and infer find weights by these roles, so a family of models that calls a
// tensor otherwise, or has one more, says so here only.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "cairn/model/config.h"

namespace cairn {

inline constexpr const char* kEmbeddingName = "model.embed_tokens.weight";
inline constexpr const char* kFinalNormName = "model.norm.weight";
inline constexpr const char* kHeadName = "lm_head.weight";

// Full names of one layer's tensors; empty where the layer has no such tensor.
struct LayerNames {
  std::string attention;  // what the mechanism's own parameters are named within: "...self_attn."
  std::string attention_norm, attention_post_norm;  // [hidden_size]
  std::string q, k, v;                              // [heads * head_dim, hidden_size]
  std::string q_bias, k_bias, v_bias;               // [heads * head_dim]
  std::string o, o_bias;                            // [hidden_size, heads * head_dim]
  std::string mlp_norm, mlp_post_norm;              // [hidden_size]
  std::string gate, up;                             // [intermediate_size, hidden_size]
  std::string gate_bias, up_bias;                   // [intermediate_size]
  std::string down, down_bias;                      // [hidden_size, intermediate_size]
  // In place of the last six, where there are experts.
  std::string router;                       // [experts, hidden_size]
  std::string experts_gate_up;              // [experts, 2 * intermediate_size, hidden_size]
  std::string experts_down;                 // [experts, hidden_size, intermediate_size]
  std::string shared_gate_up, shared_down;  // [2 * shared, hidden_size], [hidden_size, shared]
};
LayerNames layer_names(const ModelConfig& config, size_t layer);

// All trainable tensors in stored order. `extras` are the mechanism's parameters of one layer.
// Matrices start normal with `init_std`, those that end a residual branch with
// init_std / sqrt(2 * layers); norms start so that they multiply by 1, biases at 0.
std::vector<ParameterSpec> decoder_parameters(const ModelConfig& config,
                                              std::span<const ParameterSpec> extras,
                                              double init_std);

// A tensor as files hold it: rows of one or more parameters, one after another.
struct StoredRows {
  std::string name;
  std::vector<std::string> parts;
  Shape shape = {};  // of the whole
};

}  // namespace cairn
