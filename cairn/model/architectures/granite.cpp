// GraniteForCausalLM: Llama with the multipliers of maximal-update parametrisation on embeddings,
// scores, branches and logits.
#include <array>
#include <nlohmann/json.hpp>

#include "cairn/model/architectures/cairn_json.h"
#include "cairn/model/architectures/decoder_json.h"
#include "cairn/model/decoder_layout.h"

namespace cairn {
namespace {

constexpr std::array<std::string_view, 1> kClasses = {"GraniteForCausalLM"};

ModelConfig read_granite(const JsonField& config) {
  ModelConfig c = read_decoder(config, {});
  c.architecture = "granite";
  c.gate = read_gate(config, Gate::silu);
  c.qkv_bias = c.output_bias = read_flag(config, "attention_bias", false);
  c.mlp_bias = read_flag(config, "mlp_bias", false);
  c.embedding_multiplier = read_number(config, "embedding_multiplier", 1);
  c.attention_scale = read_number(config, "attention_multiplier", 1);
  c.residual_multiplier = read_number(config, "residual_multiplier", 1);
  c.logits_divisor = read_number(config, "logits_scaling", 1);
  c.attention = read_rope(config, 10000);
  return c;
}

Json write_granite(const ModelConfig& c, DType dtype) {
  Json config = write_decoder(c, kClasses[0], "granite", dtype);
  config["attention_bias"] = c.qkv_bias;
  config["mlp_bias"] = c.mlp_bias;
  config["embedding_multiplier"] = c.embedding_multiplier;
  config["attention_multiplier"] = c.attention_scale;
  config["residual_multiplier"] = c.residual_multiplier;
  config["logits_scaling"] = c.logits_divisor;
  const bool fits = c.norm_offset == 0 && !c.post_norms && c.qkv_bias == c.output_bias &&
                    c.local_layers.empty() && c.attention_scale > 0;
  if (fits && write_rope(c.attention, config)) return config;
  return write_cairn(c, dtype);
}

}  // namespace

const Architecture kGraniteArchitecture{.name = "granite",
                                        .classes = kClasses,
                                        .model_type = "granite",
                                        .parameters = decoder_parameters,
                                        .read = read_granite,
                                        .write = write_granite};

}  // namespace cairn
