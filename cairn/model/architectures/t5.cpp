// T5ForConditionalGeneration (Raffel et al. 2020, arXiv:1910.10683): an encoder-decoder whose
// attention knows positions by a learned bias for each bucket of distances and whose scores are not
// scaled. T5 v1.0 has no gate (ReLU) and divides what its tied head reads by sqrt(d_model); v1.1
// and Flan-T5 have GELU gates and a head of their own.
#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/model/architectures/decoder_json.h"
#include "cairn/model/decoder_layout.h"

namespace cairn {
namespace {

constexpr std::array<std::string_view, 1> kClasses = {"T5ForConditionalGeneration"};
constexpr size_t kContext = 512;  // that T5 was trained with, where no key says n_positions
constexpr size_t kBuckets = 32, kMaxDistance = 128;

AttentionOptions relative_bias(const char* mask, size_t buckets, size_t max_distance) {
  AttentionOptions options{.mechanism = "relative_bias", .values = {{"mask", std::string(mask)}}};
  if (options.values["mask"] == OptionValue(std::string("cross"))) return options;
  options.values["buckets"] = static_cast<int64_t>(buckets);
  options.values["max_distance"] = static_cast<int64_t>(max_distance);
  return options;
}

double head_divisor(const ModelConfig& c) {
  return std::sqrt(static_cast<double>(c.hidden_size));
}

// "relu", "gated-gelu" and their like.
struct Projection {
  std::string_view name;
  Gate gate;
  bool gated;
};
constexpr std::array kProjections = {
    Projection{"relu", Gate::relu, false},          Projection{"gated-gelu", Gate::gelu_tanh, true},
    Projection{"silu", Gate::silu, false},          Projection{"gated-silu", Gate::silu, true},
    Projection{"gelu_new", Gate::gelu_tanh, false}, Projection{"gated-relu", Gate::relu, true},
};

void read_projection(const JsonField& config, ModelConfig& c) {
  const auto field = config.find("feed_forward_proj");
  const std::string name = field ? field->as_string() : "relu";
  for (const Projection& known : kProjections) {
    if (known.name != name) continue;
    c.gate = known.gate;
    c.gated_mlp = known.gated;
    return;
  }
  field->fail("relu, silu or gelu_new, or gated-relu, gated-silu or gated-gelu");
}

ModelConfig read_t5(const JsonField& config) {
  require_absent(config, "quantization_config");
  const auto size = [&](const char* key) { return config.member(key).as_positive(); };
  ModelConfig c;
  c.architecture = "t5";
  c.vocab_size = size("vocab_size");
  c.hidden_size = size("d_model");
  c.intermediate_size = size("d_ff");
  c.heads = c.kv_heads = size("num_heads");
  c.head_dim = size("d_kv");
  c.encoder_layers = size("num_layers");
  c.layers = read_size(config, "num_decoder_layers", c.encoder_layers);
  c.context_length = read_size(config, "n_positions", kContext);
  c.rms_norm_eps = read_number(config, "layer_norm_epsilon", 1e-6);
  c.attention_scale = 1;
  const size_t buckets = read_size(config, "relative_attention_num_buckets", kBuckets);
  const size_t distance = read_size(config, "relative_attention_max_distance", kMaxDistance);
  c.attention = relative_bias("causal", buckets, distance);
  c.encoder_attention = relative_bias("bidirectional", buckets, distance);
  c.cross_attention = relative_bias("cross", buckets, distance);
  read_projection(config, c);
  // The first key is how transformers 5 says it, which calls every head tied.
  c.tie_embeddings =
      read_flag(config, "scale_decoder_outputs", read_flag(config, "tie_word_embeddings", true));
  if (c.tie_embeddings) c.logits_divisor = head_divisor(c);
  c.eos_ids = {1};
  c.pad_id = 0;
  read_special_ids(config, c);
  const auto start = config.find("decoder_start_token_id");
  c.decoder_start_id =
      start ? static_cast<int32_t>(start->as_integer(0, INT32_MAX)) : c.pad_id.value_or(0);
  return c;
}

// The options of a stack, when they say nothing else; the key is missing otherwise.
size_t option_size(const AttentionOptions& options, const char* key, size_t otherwise) {
  const auto found = options.values.find(key);
  if (found == options.values.end() || !std::holds_alternative<int64_t>(found->second))
    return otherwise;
  return static_cast<size_t>(std::get<int64_t>(found->second));
}

[[noreturn]] void refuse_to_write(const std::string& subject, const std::string& expected) {
  throw Error({.kind = ErrorKind::usage,
               .doing = "writing config.json of a T5 model",
               .subject = subject,
               .expected = expected,
               .found = "something else"});
}

Json write_t5(const ModelConfig& c, DType dtype) {
  const size_t buckets = option_size(c.attention, "buckets", kBuckets);
  const size_t distance = option_size(c.attention, "max_distance", kMaxDistance);
  if (c.attention != relative_bias("causal", buckets, distance) ||
      c.encoder_attention != relative_bias("bidirectional", buckets, distance) ||
      c.cross_attention != relative_bias("cross", buckets, distance))
    refuse_to_write("attention", "relative_bias with the same buckets and max_distance everywhere");
  if (c.attention_scale != 1 || c.kv_heads != c.heads || c.embedding_multiplier != 1 ||
      c.residual_multiplier != 1 || c.norm_offset != 0)
    refuse_to_write("the model", "no scales, key-value groups or offsets");
  // A folder whose config.json says that the head is not tied, and has none, has a tied one.
  const bool scaled = c.logits_divisor != 1;
  if (scaled && (c.logits_divisor != head_divisor(c) || !c.tie_embeddings))
    refuse_to_write("logits_divisor", "1, or sqrt(hidden_size) where the head is tied");
  const auto projection = std::find_if(
      kProjections.begin(), kProjections.end(),
      [&](const Projection& known) { return known.gate == c.gate && known.gated == c.gated_mlp; });
  Json config = write_ids(c, kClasses[0], "t5", dtype);
  config.update({{"vocab_size", c.vocab_size},
                 {"d_model", c.hidden_size},
                 {"d_kv", c.head_dim},
                 {"d_ff", c.intermediate_size},
                 {"num_layers", c.encoder_layers},
                 {"num_decoder_layers", c.layers},
                 {"num_heads", c.heads},
                 {"n_positions", c.context_length},
                 {"relative_attention_num_buckets", buckets},
                 {"relative_attention_max_distance", distance},
                 {"layer_norm_epsilon", c.rms_norm_eps},
                 {"feed_forward_proj", projection->name},
                 {"is_encoder_decoder", true},
                 {"decoder_start_token_id", *c.decoder_start_id},
                 {"tie_word_embeddings", scaled}});
  return config;
}

OuterNames t5_outer_names(const ModelConfig& c) {
  OuterNames names;
  names.embedding = "shared.weight";
  names.encoder_norm = "encoder.final_layer_norm.weight";
  names.final_norm = "decoder.final_layer_norm.weight";
  names.head = "lm_head.weight";
  names.embedding_copies = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"};
  if (c.tie_embeddings) names.embedding_copies.push_back(names.head);
  return names;
}

LayerNames t5_layer_names(const ModelConfig& c, size_t layer, Stack stack) {
  const bool encoder = stack == Stack::encoder;
  const std::string blocks = encoder ? "encoder.block." : "decoder.block.";
  const auto within = [&](int branch, const char* module) {
    return blocks + std::to_string(layer) + ".layer." + std::to_string(branch) + "." + module +
           ".weight";
  };
  LayerNames names;
  names.attention = blocks + "0.layer.0.SelfAttention.";  // all layers use the first one's table
  names.attention_norm = within(0, "layer_norm");
  names.q = within(0, "SelfAttention.q");
  names.k = within(0, "SelfAttention.k");
  names.v = within(0, "SelfAttention.v");
  names.o = within(0, "SelfAttention.o");
  if (!encoder) {
    names.cross_norm = within(1, "layer_norm");
    names.cross_q = within(1, "EncDecAttention.q");
    names.cross_k = within(1, "EncDecAttention.k");
    names.cross_v = within(1, "EncDecAttention.v");
    names.cross_o = within(1, "EncDecAttention.o");
  }
  const int mlp = encoder ? 1 : 2;
  names.mlp_norm = within(mlp, "layer_norm");
  if (c.gated_mlp) names.gate = within(mlp, "DenseReluDense.wi_0");
  names.up = within(mlp, c.gated_mlp ? "DenseReluDense.wi_1" : "DenseReluDense.wi");
  names.down = within(mlp, "DenseReluDense.wo");
  return names;
}

// Scores are not scaled, so queries start small (as in mesh-tensorflow, and in transformers).
std::vector<ParameterSpec> t5_parameters(const ModelConfig& c,
                                         std::span<const ParameterSpec> extras, double init_std) {
  std::vector<ParameterSpec> specs = decoder_parameters(c, extras, init_std);
  if (init_std != 0) return specs;
  const auto dim = static_cast<double>(c.head_dim);
  for (ParameterSpec& spec : specs) {
    if (spec.initializer.kind != Initializer::Kind::normal) continue;
    const bool table = spec.name.find("relative_attention_bias") != std::string::npos;
    const bool query = spec.name.find("Attention.q.") != std::string::npos;
    const auto inputs =
        table ? static_cast<double>(c.hidden_size) : static_cast<double>(spec.shape.back());
    spec.initializer.value = 1 / std::sqrt(query ? inputs * dim : inputs);
    if (spec.name == "shared.weight") spec.initializer.value = 1;
  }
  return specs;
}

}  // namespace

const Architecture kT5Architecture{.name = "t5",
                                   .classes = kClasses,
                                   .model_type = "t5",
                                   .parameters = t5_parameters,
                                   .read = read_t5,
                                   .write = write_t5,
                                   .outer_names = t5_outer_names,
                                   .layer_names = t5_layer_names,
                                   .reads_a_source = true};

}  // namespace cairn
