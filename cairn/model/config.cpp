#include "cairn/model/config.h"

#include <algorithm>
#include <cmath>

#include "cairn/attention/checks.h"
#include "cairn/base/error.h"
#include "cairn/io/json.h"
#include "cairn/model/architecture.h"

namespace cairn {
namespace {

constexpr double kDefaultRopeTheta = 10000.0;  // of softmax attention, and of transformers

[[noreturn]] void refuse(const std::string& field, const std::string& expected,
                         const std::string& found) {
  throw Error({.kind = ErrorKind::usage,
               .doing = "model configuration",
               .subject = field,
               .expected = expected,
               .found = found});
}

// Bounds are far above any model, so that products of two of them cannot overflow and a hostile
// config.json cannot make lists without end.
void check_size(const char* field, size_t value, size_t high) {
  if (value == 0 || value > high)
    refuse(field, "an integer from 1 to " + std::to_string(high), std::to_string(value));
}

void check_ids(const char* field, const std::vector<int32_t>& ids, size_t vocab_size) {
  for (const int32_t id : ids)
    if (id < 0 || static_cast<size_t>(id) >= vocab_size)
      refuse(field, "a token below vocab_size " + std::to_string(vocab_size), std::to_string(id));
}

void check_experts(const ModelConfig& c) {
  if (!(c.router_loss >= 0) || c.router_loss > 1e6)
    refuse("router_loss", "a number of 0 or more", std::to_string(c.router_loss));
  if (c.experts == 0) {
    if (c.experts_per_token != 0 || c.shared_intermediate_size != 0)
      refuse("experts", "1 or more, where experts_per_token or a shared one is given", "0");
    return;
  }
  check_size("experts", c.experts, 4096);
  check_size("experts_per_token", c.experts_per_token, c.experts);
  if (c.shared_intermediate_size != 0)
    check_size("shared_intermediate_size", c.shared_intermediate_size, size_t{1} << 22);
  if (c.mlp_bias) refuse("mlp_bias", "false where there are experts", "true");
  if (!c.gated_mlp) refuse("gated_mlp", "true where there are experts", "false");
  if (c.post_norms) refuse("post_norms", "false where there are experts", "true");
}

// What was never built with an encoder is refused rather than left to chance.
void check_encoder(const ModelConfig& c) {
  const bool reads_a_source = find_architecture(c.architecture).reads_a_source;
  if (c.has_encoder() != reads_a_source)
    refuse("encoder_layers",
           reads_a_source ? "1 or more, of " + in_quotes(c.architecture)
                          : "0, of " + in_quotes(c.architecture),
           std::to_string(c.encoder_layers));
  if (!c.has_encoder()) return;
  check_size("encoder_layers", c.encoder_layers, 4096);
  if (!c.decoder_start_id) refuse("decoder_start_id", "a token", "none");
  check_ids("decoder_start_id", {*c.decoder_start_id}, c.vocab_size);
  if (c.experts != 0) refuse("experts", "0 beside an encoder", std::to_string(c.experts));
  if (!c.local_layers.empty()) refuse("local_layers", "none beside an encoder", "some");
  for (const auto& [field, set] :
       {std::pair("post_norms", c.post_norms), std::pair("qkv_bias", c.qkv_bias),
        std::pair("output_bias", c.output_bias), std::pair("mlp_bias", c.mlp_bias)})
    if (set) refuse(field, "false beside an encoder", "true");
}

}  // namespace

ModelConfig normalized(ModelConfig config) {
  if (config.attention.mechanism != "softmax") return config;
  double theta = kDefaultRopeTheta;
  for (const auto& [key, value] : config.attention.values) {
    if (key == "position" && value == OptionValue(std::string("rope"))) continue;
    if (key != "rope_theta") return config;
    if (const auto* integer = std::get_if<int64_t>(&value)) {
      theta = static_cast<double>(*integer);
    } else if (const auto* number = std::get_if<double>(&value)) {
      theta = *number;
    } else {
      return config;  // the mechanism will refuse it by name
    }
  }
  config.attention.values = {{"rope_theta", theta}};
  return config;
}

void check_config(const ModelConfig& c) {
  find_architecture(c.architecture);
  check_size("vocab_size", c.vocab_size, size_t{1} << 26);
  check_size("hidden_size", c.hidden_size, size_t{1} << 20);
  check_size("intermediate_size", c.intermediate_size, size_t{1} << 22);
  check_size("layers", c.layers, 4096);
  check_size("heads", c.heads, size_t{1} << 14);
  check_size("kv_heads", c.kv_heads, c.heads);
  check_size("head_dim", c.head_dim, size_t{1} << 14);
  check_size("context_length", c.context_length, size_t{1} << 24);
  if (c.heads % c.kv_heads != 0)
    refuse("kv_heads", "a divisor of heads " + std::to_string(c.heads), std::to_string(c.kv_heads));
  if (!(c.rms_norm_eps > 0) || !(c.rms_norm_eps < 1))
    refuse("rms_norm_eps", "a number between 0 and 1", std::to_string(c.rms_norm_eps));
  for (const auto& [field, value] : {std::pair("embedding_multiplier", c.embedding_multiplier),
                                     std::pair("residual_multiplier", c.residual_multiplier),
                                     std::pair("logits_divisor", c.logits_divisor)})
    if (!std::isfinite(value) || value == 0)
      refuse(field, "a finite number other than 0", std::to_string(value));
  if (!std::isfinite(c.attention_scale) || c.attention_scale < 0)
    refuse("attention_scale", "a positive number, or 0 for 1/sqrt(head_dim)",
           std::to_string(c.attention_scale));
  check_experts(c);
  check_encoder(c);
  if (!c.local_layers.empty() && c.local_layers.size() != c.layers)
    refuse("local_layers", std::to_string(c.layers) + " entries (layers), or none",
           std::to_string(c.local_layers.size()));
  if (c.bos_ids.size() > 1) refuse("bos_ids", "at most one", std::to_string(c.bos_ids.size()));
  check_ids("bos_ids", c.bos_ids, c.vocab_size);
  check_ids("eos_ids", c.eos_ids, c.vocab_size);
  if (c.pad_id) check_ids("pad_id", {*c.pad_id}, c.vocab_size);
}

std::vector<ParameterSpec> parameter_specs(const ModelConfig& config, double init_std) {
  check_config(config);
  const std::vector<ParameterSpec> extras = make_attention(config)->parameters();
  return find_architecture(config.architecture).parameters(config, extras, init_std);
}

size_t parameter_count(const ModelConfig& config) {
  size_t count = 0;
  for (const ParameterSpec& spec : parameter_specs(config)) count += element_count(spec.shape);
  return count;
}

namespace {

std::unique_ptr<AttentionMechanism> sized(const AttentionOptions& options, const ModelConfig& c,
                                          size_t context) {
  const AttentionGeometry geometry{.hidden_size = c.hidden_size,
                                   .heads = c.heads,
                                   .kv_heads = c.kv_heads,
                                   .head_dim = c.head_dim,
                                   .value_dim = c.head_dim,
                                   .scale = static_cast<float>(c.attention_scale)};
  return make_attention(options, geometry, context);
}

// Of what a decoder does among its own tokens.
std::unique_ptr<AttentionMechanism> sized_causal(const AttentionOptions& options,
                                                 const ModelConfig& c, size_t context) {
  auto mechanism = sized(options, c, context);
  check_causal("describing a model", *mechanism);
  return mechanism;
}

}  // namespace

std::unique_ptr<AttentionMechanism> make_attention(const ModelConfig& config) {
  return sized_causal(config.attention, config, config.context_length);
}

size_t usual_context(const ModelConfig& config) {
  const auto kind = config.attention.values.find("rope_scaling");
  const auto original = config.attention.values.find("rope_original_context");
  if (kind == config.attention.values.end() || original == config.attention.values.end() ||
      (kind->second != OptionValue(std::string("dynamic")) &&
       kind->second != OptionValue(std::string("longrope"))))
    return config.context_length;
  double tokens = 0;
  if (const auto* number = std::get_if<double>(&original->second)) tokens = *number;
  if (const auto* whole = std::get_if<int64_t>(&original->second))
    tokens = static_cast<double>(*whole);
  return std::min(config.context_length, static_cast<size_t>(std::max(tokens, 1.0)));
}

LayerAttention::LayerAttention(const ModelConfig& config, size_t context)
    : local_layers_(config.local_layers) {
  if (context == 0) context = config.context_length;
  everywhere_ = sized_causal(config.attention, config, context);
  if (config.has_encoder()) {
    encoder_ = sized(config.encoder_attention, config, context);
    cross_ = sized(config.cross_attention, config, context);
    if (encoder_->parameters() != everywhere_->parameters())
      refuse("encoder_attention", "the parameters of attention", "others");
    if (!cross_->parameters().empty())
      refuse("cross_attention", "a mechanism without parameters", "some");
  }
  if (local_layers_.empty()) return;
  local_ = sized_causal(config.local_attention, config, context);
  if (local_->parameters() != everywhere_->parameters())
    refuse("local_attention", "the parameters of attention", "others");
}

const AttentionMechanism& LayerAttention::operator[](size_t layer) const {
  return layer < local_layers_.size() && local_layers_[layer] != 0 ? *local_ : *everywhere_;
}

double training_flops_per_token(const ModelConfig& config, size_t sequence_length) {
  // The head multiplies whether it is its own tensor or the tied embedding; looking up an
  // embedding multiplies nothing.
  double multiplied = static_cast<double>(config.vocab_size * config.hidden_size);
  for (const ParameterSpec& spec : parameter_specs(config))
    if (spec.group == ParameterGroup::matrix) {
      // Of a stack of experts, each token passes through its own.
      const bool stack = spec.shape.size() == 3;
      multiplied += static_cast<double>(element_count(spec.shape)) *
                    (stack ? static_cast<double>(config.experts_per_token) /
                                 static_cast<double>(config.experts)
                           : 1.0);
    }
  const double context = static_cast<double>(sequence_length) / 2;
  const LayerAttention mechanisms(config);
  double attention = 0;
  for (size_t layer = 0; layer < config.layers; ++layer)
    attention += mechanisms[layer].forward_flops(context);
  return 6 * multiplied + 3 * attention;
}

}  // namespace cairn
