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
#include "cairn/kernels/activations.h"
#include "cairn/tensor/parameter.h"

namespace cairn {

// A pre-norm decoder over tokens, in the words of its families:
//   x = embedding_multiplier * E[token]
//   x += residual_multiplier * post(Wo attention(norm(x)))
//   x += residual_multiplier * post(mlp(norm(x))),  mlp(h) = Wdown(act(Wgate h) * Wup h)
//   logits = (E or head) norm(x) / logits_divisor
// where post is RMSNorm when post_norms is set and nothing otherwise, a norm multiplies by
// norm_offset + its weight, and projections have biases where the flags say so. With experts, the
// MLP is a mixture (Shazeer et al. 2017, arXiv:1701.06538): of E of them, a router r takes the k of
// the highest r_e . h for each token, and
//   mlp(h) = sum over them of softmax_e(r . h) mlp_e(h)  [+ mlp_shared(h)]
// Without a gate, mlp(h) = Wdown act(Wup h).
//
// An encoder-decoder (Raffel et al. 2020, arXiv:1910.10683) reads a source first, by encoder_layers
// layers of the same shape with an embedding and a last norm like the decoder's. Each layer of the
// decoder then has a branch between its other two, whose keys and values are those of the source:
//   x += Wo cross_attention(norm(x), encoder(source))
// and what it writes begins behind decoder_start_id.
struct ModelConfig {
  std::string architecture = "llama";
  size_t vocab_size = 0;
  size_t hidden_size = 0;
  size_t intermediate_size = 0;  // of the MLP, or of each expert
  size_t layers = 0;             // of the decoder
  size_t heads = 0;
  size_t kv_heads = 0;
  size_t head_dim = 0;
  size_t context_length = 0;
  double rms_norm_eps = 1e-5;
  bool tie_embeddings = true;
  // Of every layer; of the others where local_layers names some. See attention/ for the options.
  AttentionOptions attention;
  AttentionOptions local_attention;
  std::vector<uint8_t> local_layers;  // [layers], 1 where local_attention holds; empty: nowhere

  size_t encoder_layers = 0;  // 0: a decoder alone
  AttentionOptions encoder_attention, cross_attention;
  std::optional<int32_t> decoder_start_id;

  Gate gate = Gate::silu;
  bool gated_mlp = true;
  double attention_scale = 0;  // of the scores; 0: 1/sqrt(head_dim)
  double embedding_multiplier = 1;
  double residual_multiplier = 1;
  double logits_divisor = 1;
  double norm_offset = 0;
  bool post_norms = false;
  bool qkv_bias = false;
  bool output_bias = false;  // of Wo
  bool mlp_bias = false;

  size_t experts = 0;                   // of each layer; 0: a plain MLP
  size_t experts_per_token = 0;         // chosen by the router
  size_t shared_intermediate_size = 0;  // of one more expert that every token takes; 0: none
  // Weight of the load-balancing loss in training, see nn/moe.h.
  double router_loss = 0;

  std::vector<int32_t> bos_ids;  // at most one is used
  std::vector<int32_t> eos_ids;
  std::optional<int32_t> pad_id;

  bool has_encoder() const { return encoder_layers != 0; }
  bool is_local(size_t layer) const { return layer < local_layers.size() && local_layers[layer]; }
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

// The mechanism that `config` names for all layers, sized for it.
std::unique_ptr<AttentionMechanism> make_attention(const ModelConfig& config);

// The tokens that a text may have unless someone asks for more: the model's context, or the
// original one where rotary positions change once texts are longer.
size_t usual_context(const ModelConfig& config);

// The mechanism of each layer: one, or two where some layers are local, and those of an encoder and
// of the attention to it; for texts of at most `context` tokens, 0: the model's context length.
class LayerAttention {
 public:
  explicit LayerAttention(const ModelConfig& config, size_t context = 0);
  const AttentionMechanism& operator[](size_t layer) const;
  // Of models with an encoder.
  const AttentionMechanism& encoder() const { return *encoder_; }
  const AttentionMechanism& cross() const { return *cross_; }

 private:
  std::unique_ptr<AttentionMechanism> everywhere_, local_, encoder_, cross_;
  std::vector<uint8_t> local_layers_;
};

// Training FLOPs a token: 6 N_mm + 3 x attention forward at causal length (training.md 2.6), N_mm
// the parameters used in matrix products, the head included.
double training_flops_per_token(const ModelConfig& config, size_t sequence_length);

}  // namespace cairn
