// Gemma3ForCausalLM, the text model (Gemma Team 2025, arXiv:2503.19786): gains stored less one,
// norms before and after each branch, normalised queries and keys, GELU gates, and five layers with
// a window and rotary positions of their own to one that sees everything.
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cairn/model/architectures/cairn_json.h"
#include "cairn/model/architectures/decoder_json.h"
#include "cairn/model/decoder_layout.h"

namespace cairn {
namespace {

constexpr std::array<std::string_view, 1> kClasses = {"Gemma3ForCausalLM"};
constexpr double kGlobalTheta = 1e6, kLocalTheta = 1e4;
constexpr size_t kPattern = 6;

void normalise_heads(AttentionOptions& options, double eps) {
  options.values["qk_norm"] = true;
  options.values["qk_norm_eps"] = eps;
  options.values["qk_norm_offset"] = 1.0;
}

// Rotary positions of global and local layers: in one object a kind since transformers 5, in keys
// of their own before.
void read_positions(const JsonField& config, ModelConfig& c) {
  const auto parameters = config.find("rope_parameters");
  if (parameters && parameters->has("full_attention")) {
    const auto read = [&](const char* kind, double theta) {
      return read_rope_parameters(parameters->member(kind), config, c, theta);
    };
    c.attention = read("full_attention", kGlobalTheta);
    c.local_attention = read("sliding_attention", kLocalTheta);
    return;
  }
  c.attention = read_rope(config, c, kGlobalTheta);
  c.local_attention.values["rope_theta"] = read_number(config, "rope_local_base_freq", kLocalTheta);
}

ModelConfig read_gemma3(const JsonField& config) {
  for (const char* key : {"final_logit_softcapping", "attn_logit_softcapping"})
    require_absent(config, key);
  require_false(config, "attention_bias");
  require_false(config, "use_bidirectional_attention");
  ModelConfig c = read_decoder(config, {.sizes = {.vocab_size = 262208,
                                                  .hidden_size = 2304,
                                                  .intermediate_size = 9216,
                                                  .layers = 26,
                                                  .heads = 8,
                                                  .kv_heads = 4},
                                        .context_length = 131072,
                                        .tie_embeddings = true});
  c.architecture = "gemma3";
  if (!config.has("head_dim")) c.head_dim = 256;  // whatever hidden_size / heads would be
  c.gate = read_gate(config, Gate::gelu_tanh);
  c.norm_offset = 1;
  c.post_norms = true;
  c.embedding_multiplier = std::sqrt(static_cast<double>(c.hidden_size));
  c.attention_scale = 1 / std::sqrt(read_number(config, "query_pre_attn_scalar", 256));
  read_positions(config, c);
  c.local_attention.values["window"] =
      static_cast<int64_t>(read_size(config, "sliding_window", 4096));
  normalise_heads(c.attention, c.rms_norm_eps);
  normalise_heads(c.local_attention, c.rms_norm_eps);
  c.local_layers = read_layer_types(config, c.layers);
  const size_t pattern = read_size(config, "sliding_window_pattern",
                                   read_size(config, "_sliding_window_pattern", kPattern));
  if (c.local_layers.empty())
    for (size_t layer = 0; layer < c.layers; ++layer)
      c.local_layers.push_back((layer + 1) % pattern != 0);
  return c;
}

// Takes out what every Gemma has; false where it is missing.
bool take_norms(AttentionOptions& options) {
  return options.values.erase("qk_norm") + options.values.erase("qk_norm_eps") +
             options.values.erase("qk_norm_offset") ==
         3;
}

Json write_gemma3(const ModelConfig& c, DType dtype) {
  Json config = write_decoder(c, kClasses[0], "gemma3_text", dtype);
  config.erase("hidden_act");
  config["hidden_activation"] = gate_name(c.gate);
  config["query_pre_attn_scalar"] = 1 / (c.attention_scale * c.attention_scale);
  config["attention_bias"] = false;
  config["final_logit_softcapping"] = nullptr;
  config["attn_logit_softcapping"] = nullptr;
  AttentionOptions global = c.attention, local = c.local_attention;
  config["sliding_window"] = take_window(local);
  config["layer_types"] = write_layer_types(c);
  const bool normed = take_norms(global) && take_norms(local);
  Json local_rope;
  const bool fits = normed && c.norm_offset == 1 && c.post_norms && c.residual_multiplier == 1 &&
                    c.logits_divisor == 1 && c.experts == 0 && !c.qkv_bias && !c.output_bias &&
                    !c.mlp_bias &&
                    c.embedding_multiplier == std::sqrt(static_cast<double>(c.hidden_size));
  if (!fits || !write_rope(global, c, config) || !write_rope(local, c, local_rope) ||
      local_rope.size() != 1)
    return write_cairn(c, dtype);
  config["rope_local_base_freq"] = local_rope["rope_theta"];
  return config;
}

}  // namespace

const Architecture kGemma3Architecture{.name = "gemma3",
                                       .classes = kClasses,
                                       .model_type = "gemma3_text",
                                       .parameters = decoder_parameters,
                                       .read = read_gemma3,
                                       .write = write_gemma3};

}  // namespace cairn
