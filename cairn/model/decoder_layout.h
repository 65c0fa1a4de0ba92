// The tensors of a decoder: what each is for, what it is called (Hugging Face's names), its shape
// and its start. nn and infer find weights by these roles, so a family of models that calls a
// tensor otherwise, or has one more, says so here only.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "cairn/model/config.h"

namespace cairn {

// Names of the tensors outside of layers; empty where the model has no such tensor.
struct OuterNames {
  std::string embedding;     // [vocab_size, hidden_size]
  std::string final_norm;    // [hidden_size]
  std::string encoder_norm;  // [hidden_size]
  std::string head;          // [vocab_size, hidden_size], of models whose head is not tied
  // Of tensors that files may hold although they are the embedding once more.
  std::vector<std::string> embedding_copies;
};
OuterNames outer_names(const ModelConfig& config);

// Full names of one layer's tensors; empty where the layer has no such tensor.
struct LayerNames {
  // What the mechanism's own parameters are named within: "...self_attn.". Layers may share them.
  std::string attention;
  std::string attention_norm, attention_post_norm;  // [hidden_size]
  std::string q, k, v;                              // [heads * head_dim, hidden_size]
  std::string q_bias, k_bias, v_bias;               // [heads * head_dim]
  std::string o, o_bias;                            // [hidden_size, heads * head_dim]
  // Of the branch that reads the encoder's output.
  std::string cross_norm, cross_q, cross_k, cross_v, cross_o;
  std::string mlp_norm, mlp_post_norm;  // [hidden_size]
  std::string gate, up;                 // [intermediate_size, hidden_size]
  std::string gate_bias, up_bias;       // [intermediate_size]
  std::string down, down_bias;          // [hidden_size, intermediate_size]
  // In place of the last six, where there are experts.
  std::string router;                       // [experts, hidden_size]
  std::string experts_gate_up;              // [experts, 2 * intermediate_size, hidden_size]
  std::string experts_down;                 // [experts, hidden_size, intermediate_size]
  std::string shared_gate_up, shared_down;  // [2 * shared, hidden_size], [hidden_size, shared]
};
enum class Stack { decoder, encoder };
LayerNames layer_names(const ModelConfig& config, size_t layer, Stack stack = Stack::decoder);

// All trainable tensors in stored order. `extras` are the mechanism's parameters of one layer, or
// of all layers that name them alike.
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
