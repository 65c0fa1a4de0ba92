// One description of an architecture: nn builds it for training and infer compiles it for decoding
// from the same ModelConfig and the same tensor names (Hugging Face's).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cairn/attention/mechanism.h"
#include "cairn/tensor/parameter.h"

namespace cairn {

// A pre-norm decoder: x = E[token]; x += Wo attention(norm(x)); x += Wdown(silu(Wgate h) * Wup h)
// with h = norm(x); logits = E or head of norm(x).
struct ModelConfig {
  std::string architecture = "llama";
  size_t vocab_size = 0;
  size_t hidden_size = 0;
  size_t intermediate_size = 0;
  size_t layers = 0;
  size_t heads = 0;
  size_t kv_heads = 0;
  size_t head_dim = 0;
  size_t context_length = 0;
  double rms_norm_eps = 1e-5;
  bool tie_embeddings = true;
  AttentionOptions attention;  // softmax: position "rope" (default) or "none", rope_theta

  std::vector<int32_t> bos_ids;  // at most one is used
  std::vector<int32_t> eos_ids;
  std::optional<int32_t> pad_id;

  bool operator==(const ModelConfig&) const = default;
};

// Spells out defaults that can be said in several ways (softmax attention becomes
// {"rope_theta": number}), so that equal models have equal configs. What Model keeps and what
// reading config.json gives.
ModelConfig normalized(ModelConfig config);

// Throws Error (usage) naming the first field that cannot be (0 heads, heads not divisible by
// kv_heads, an unknown architecture, ...).
void check_config(const ModelConfig& config);

// Every trainable tensor, in the order in which the model stores them. `init_std` 0 means 0.02;
// outputs of residual branches start at init_std / sqrt(2 * layers).
std::vector<ParameterSpec> parameter_specs(const ModelConfig& config, double init_std = 0);

size_t parameter_count(const ModelConfig& config);

// The mechanism that `config` names, sized for it.
std::unique_ptr<AttentionMechanism> make_attention(const ModelConfig& config);

// Training FLOPs a token: 6 N_mm + 3 x attention forward at causal length (training.md 2.6), N_mm
// the parameters used in matrix products, the head included.
double training_flops_per_token(const ModelConfig& config, size_t sequence_length);

}  // namespace cairn
