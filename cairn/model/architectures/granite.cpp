// GraniteForCausalLM: Llama with the multipliers of maximal-update parametrisation on embeddings,
// scores, branches and logits. GraniteMoeForCausalLM and GraniteMoeSharedForCausalLM: the same with
// a mixture of experts (Shen et al. 2024, arXiv:2408.13359), the latter with one that is always
// taken.
#include <array>
#include <nlohmann/json.hpp>

#include "cairn/model/architectures/cairn_json.h"
#include "cairn/model/architectures/decoder_json.h"
#include "cairn/model/decoder_layout.h"

namespace cairn {
namespace {

constexpr std::array<std::string_view, 1> kClasses = {"GraniteForCausalLM"};
constexpr std::array<std::string_view, 1> kMoeClasses = {"GraniteMoeForCausalLM"};
constexpr std::array<std::string_view, 1> kSharedClasses = {"GraniteMoeSharedForCausalLM"};

// What all three have.
ModelConfig read_common(const JsonField& config, const char* architecture) {
  ModelConfig c = read_decoder(config, {});
  c.architecture = architecture;
  c.gate = read_gate(config, Gate::silu);
  c.qkv_bias = c.output_bias = read_flag(config, "attention_bias", false);
  c.embedding_multiplier = read_number(config, "embedding_multiplier", 1);
  c.attention_scale = read_number(config, "attention_multiplier", 1);
  c.residual_multiplier = read_number(config, "residual_multiplier", 1);
  c.logits_divisor = read_number(config, "logits_scaling", 1);
  c.attention = read_rope(config, c, 10000);
  return c;
}

Json write_common(const ModelConfig& c, std::string_view class_name, std::string_view type,
                  DType dtype) {
  Json config = write_decoder(c, class_name, type, dtype);
  config["attention_bias"] = c.qkv_bias;
  config["embedding_multiplier"] = c.embedding_multiplier;
  config["attention_multiplier"] = c.attention_scale;
  config["residual_multiplier"] = c.residual_multiplier;
  config["logits_scaling"] = c.logits_divisor;
  return config;
}

bool fits_common(const ModelConfig& c, Json& config) {
  return c.norm_offset == 0 && !c.post_norms && c.qkv_bias == c.output_bias &&
         c.local_layers.empty() && c.attention_scale > 0 && write_rope(c.attention, c, config);
}

ModelConfig read_granite(const JsonField& config) {
  ModelConfig c = read_common(config, "granite");
  c.mlp_bias = read_flag(config, "mlp_bias", false);
  return c;
}

Json write_granite(const ModelConfig& c, DType dtype) {
  Json config = write_common(c, kClasses[0], "granite", dtype);
  config["mlp_bias"] = c.mlp_bias;
  if (c.experts == 0 && fits_common(c, config)) return config;
  return write_cairn(c, dtype);
}

ModelConfig read_moe(const JsonField& config, const char* architecture) {
  ModelConfig c = read_common(config, architecture);
  c.experts = read_size(config, "num_local_experts", 8);
  c.experts_per_token = read_size(config, "num_experts_per_tok", 2);
  if (read_flag(config, "output_router_logits", false))
    c.router_loss = read_number(config, "router_aux_loss_coef", 0.001);
  return c;
}

Json write_moe(const ModelConfig& c, Json config, DType dtype) {
  config["num_local_experts"] = c.experts;
  config["num_experts_per_tok"] = c.experts_per_token;
  config["output_router_logits"] = c.router_loss > 0;
  config["router_aux_loss_coef"] = c.router_loss;
  if (c.experts > 0 && fits_common(c, config)) return config;
  return write_cairn(c, dtype);
}

ModelConfig read_granite_moe(const JsonField& config) {
  return read_moe(config, "granitemoe");
}

Json write_granite_moe(const ModelConfig& c, DType dtype) {
  if (c.shared_intermediate_size != 0) return write_cairn(c, dtype);
  return write_moe(c, write_common(c, kMoeClasses[0], "granitemoe", dtype), dtype);
}

ModelConfig read_granite_moe_shared(const JsonField& config) {
  ModelConfig c = read_moe(config, "granitemoeshared");
  if (const auto width = config.find("shared_intermediate_size"))
    c.shared_intermediate_size = static_cast<size_t>(width->as_integer(0, 1 << 22));
  return c;
}

Json write_granite_moe_shared(const ModelConfig& c, DType dtype) {
  Json config = write_common(c, kSharedClasses[0], "granitemoeshared", dtype);
  config["shared_intermediate_size"] = c.shared_intermediate_size;
  return write_moe(c, std::move(config), dtype);
}

}  // namespace

const Architecture kGraniteArchitecture{.name = "granite",
                                        .classes = kClasses,
                                        .model_type = "granite",
                                        .parameters = decoder_parameters,
                                        .read = read_granite,
                                        .write = write_granite};

const Architecture kGraniteMoeArchitecture{.name = "granitemoe",
                                           .classes = kMoeClasses,
                                           .model_type = "granitemoe",
                                           .parameters = decoder_parameters,
                                           .read = read_granite_moe,
                                           .write = write_granite_moe};

const Architecture kGraniteMoeSharedArchitecture{.name = "granitemoeshared",
                                                 .classes = kSharedClasses,
                                                 .model_type = "granitemoeshared",
                                                 .parameters = decoder_parameters,
                                                 .read = read_granite_moe_shared,
                                                 .write = write_granite_moe_shared};

}  // namespace cairn
