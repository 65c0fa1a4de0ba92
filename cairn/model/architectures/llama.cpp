// LlamaForCausalLM, and CairnForCausalLM: the same decoder around another attention mechanism,
// which config.json holds as "attention": {"mechanism": name, option: value, ...}.
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/model/architecture.h"

namespace cairn {
namespace {

constexpr std::string_view kLlamaClass = "LlamaForCausalLM";
constexpr std::string_view kCairnClass = "CairnForCausalLM";
constexpr std::array kClasses = {kLlamaClass, kCairnClass};
constexpr double kDefaultRopeTheta = 10000.0;  // of transformers' LlamaConfig, as the next three
constexpr double kDefaultEps = 1e-6;
constexpr size_t kDefaultContext = 2048;
constexpr double kDefaultInitStd = 0.02;

std::vector<ParameterSpec> llama_parameters(const ModelConfig& c,
                                            std::span<const ParameterSpec> extras,
                                            double init_std) {
  const double std = init_std == 0 ? kDefaultInitStd : init_std;
  const Initializer inner{Initializer::Kind::normal, std};
  const Initializer branch_end{Initializer::Kind::normal,
                               std / std::sqrt(2.0 * static_cast<double>(c.layers))};
  const Initializer one{Initializer::Kind::constant, 1.0};
  const size_t q = c.heads * c.head_dim;
  const size_t kv = c.kv_heads * c.head_dim;

  std::vector<ParameterSpec> specs;
  const auto matrix = [&](const std::string& name, size_t out, size_t in, Initializer start) {
    specs.push_back({name, {out, in}, start, ParameterGroup::matrix});
  };
  const auto norm = [&](const std::string& name) {
    specs.push_back({name, {c.hidden_size}, one, ParameterGroup::vector});
  };
  const auto embedding = [&](const std::string& name) {
    specs.push_back({name, {c.vocab_size, c.hidden_size}, inner, ParameterGroup::embedding});
  };

  embedding("model.embed_tokens.weight");
  for (size_t layer = 0; layer < c.layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    norm(prefix + "input_layernorm.weight");
    matrix(prefix + "self_attn.q_proj.weight", q, c.hidden_size, inner);
    matrix(prefix + "self_attn.k_proj.weight", kv, c.hidden_size, inner);
    matrix(prefix + "self_attn.v_proj.weight", kv, c.hidden_size, inner);
    for (ParameterSpec extra : extras) {
      extra.name = prefix + "self_attn." + extra.name;
      specs.push_back(std::move(extra));
    }
    matrix(prefix + "self_attn.o_proj.weight", c.hidden_size, q, branch_end);
    norm(prefix + "post_attention_layernorm.weight");
    matrix(prefix + "mlp.gate_proj.weight", c.intermediate_size, c.hidden_size, inner);
    matrix(prefix + "mlp.up_proj.weight", c.intermediate_size, c.hidden_size, inner);
    matrix(prefix + "mlp.down_proj.weight", c.hidden_size, c.intermediate_size, branch_end);
  }
  norm("model.norm.weight");
  if (!c.tie_embeddings) embedding("lm_head.weight");
  return specs;
}

// Features of the class that Cairn does not have must be off.
void refuse_unsupported(const JsonField& config) {
  if (config.has("text_config"))
    config.member("text_config").fail("a text model", "multimodal models are not supported");
  for (const char* key : {"attention_bias", "mlp_bias"})
    if (const auto field = config.find(key); field && field->as_bool())
      field->fail("false", std::string(key) + " is not supported");
  for (const char* key : {"quantization_config", "sliding_window"})
    if (const auto field = config.find(key))
      field->fail("null", std::string(key) + " is not supported");
  for (const char* key : {"hidden_act", "hidden_activation"})
    if (const auto field = config.find(key); field && field->as_string() != "silu")
      field->fail("\"silu\"", "other activations are not supported");
  if (const auto field = config.find("partial_rotary_factor"); field && field->as_number() != 1.0)
    field->fail("1", "partial rotary positions are not supported");
}

// A "rope_scaling" or "rope_parameters" object must describe plain rotary positions.
void refuse_scaling(const JsonField& rope) {
  for (const char* key : {"rope_type", "type"})
    if (const auto type = rope.find(key); type && type->as_string() != "default")
      type->fail("\"default\"", "scaled rotary positions are not supported");
  if (!rope.has("rope_type") && !rope.has("type") && rope.has("factor"))
    rope.fail("no scaling", "scaled rotary positions are not supported");
  if (const auto part = rope.find("partial_rotary_factor"); part && part->as_number() != 1.0)
    part->fail("1", "partial rotary positions are not supported");
}

double read_rope_theta(const JsonField& config) {
  if (const auto scaling = config.find("rope_scaling")) refuse_scaling(*scaling);
  std::optional<JsonField> theta = config.find("rope_theta");
  if (const auto parameters = config.find("rope_parameters")) {
    for (const char* kind : {"full_attention", "sliding_attention"})
      if (parameters->has(kind))
        parameters->member(kind).fail("one set of rotary positions for all layers");
    refuse_scaling(*parameters);
    if (const auto inner = parameters->find("rope_theta")) theta = inner;
  }
  if (!theta) return kDefaultRopeTheta;
  const double value = theta->as_number();
  if (!(value > 0)) theta->fail("a positive number");
  return value;
}

OptionValue read_option(const JsonField& field) {
  const Json& value = field.value();
  if (value.is_boolean()) return field.as_bool();
  if (value.is_number_integer()) return field.as_integer();
  if (value.is_number_float()) return field.as_number();
  if (value.is_string()) return field.as_string();
  if (!value.is_array()) field.fail("a boolean, a number, a string or an array of numbers");
  std::vector<double> numbers;
  for (const JsonField& element : field.elements()) numbers.push_back(element.as_number());
  return numbers;
}

AttentionOptions read_attention(const JsonField& config) {
  AttentionOptions options;
  if (const auto attention = config.find("attention")) {
    options.mechanism = attention->member("mechanism").as_string();
    for (const std::string& key : attention->keys())
      if (key != "mechanism") options.values[key] = read_option(attention->member(key));
    return options;
  }
  options.values["rope_theta"] = read_rope_theta(config);
  return options;
}

int32_t read_id(const JsonField& field) {
  return static_cast<int32_t>(field.as_integer(0, INT32_MAX));
}

std::vector<int32_t> read_ids(const JsonField& config, const char* key) {
  const auto field = config.find(key);
  if (!field) return {};
  if (!field->value().is_array()) return {read_id(*field)};
  std::vector<int32_t> result;
  for (const JsonField& element : field->elements()) result.push_back(read_id(element));
  return result;
}

size_t read_size(const JsonField& config, const char* key, size_t otherwise) {
  const auto field = config.find(key);
  return field ? field->as_positive() : otherwise;
}

ModelConfig read_llama(const JsonField& config) {
  refuse_unsupported(config);
  ModelConfig c;
  c.architecture = "llama";
  c.vocab_size = config.member("vocab_size").as_positive();
  c.hidden_size = config.member("hidden_size").as_positive();
  c.intermediate_size = config.member("intermediate_size").as_positive();
  c.layers = config.member("num_hidden_layers").as_positive();
  c.heads = config.member("num_attention_heads").as_positive();
  c.kv_heads = read_size(config, "num_key_value_heads", c.heads);
  if (!config.has("head_dim") && c.hidden_size % c.heads != 0)
    config.member("num_attention_heads")
        .fail("a divisor of hidden_size " + std::to_string(c.hidden_size) +
              ", as head_dim is not given");
  c.head_dim = read_size(config, "head_dim", c.hidden_size / c.heads);
  c.context_length = read_size(config, "max_position_embeddings", kDefaultContext);
  const auto eps = config.find("rms_norm_eps");
  c.rms_norm_eps = eps ? eps->as_number() : kDefaultEps;
  const auto tied = config.find("tie_word_embeddings");
  c.tie_embeddings = tied && tied->as_bool();
  c.attention = read_attention(config);
  c.bos_ids = read_ids(config, "bos_token_id");
  c.eos_ids = read_ids(config, "eos_token_id");
  if (const auto pad = config.find("pad_token_id"); pad && pad->value() != -1)
    c.pad_id = read_id(*pad);  // -1 is what some old files write for "none"
  return c;
}

// The rope_theta of a config that plain LlamaForCausalLM can say; empty for any other.
std::optional<double> plain_rope_theta(const AttentionOptions& options) {
  if (options.mechanism != "softmax" || options.values.size() != 1) return std::nullopt;
  const auto theta = options.values.find("rope_theta");
  if (theta == options.values.end() || !std::holds_alternative<double>(theta->second))
    return std::nullopt;
  return std::get<double>(theta->second);
}

Json write_attention(const AttentionOptions& options) {
  Json result = {{"mechanism", options.mechanism}};
  for (const auto& [key, value] : options.values) {
    Json& target = result[key];
    std::visit([&](const auto& held) { target = held; }, value);
    if (const auto* number = std::get_if<double>(&value); number && !std::isfinite(*number))
      throw Error({.kind = ErrorKind::usage,
                   .doing = "writing config.json",
                   .subject = "attention." + key,
                   .expected = "a finite number"});
  }
  return result;
}

Json one_or_list(const std::vector<int32_t>& ids) {
  if (ids.empty()) return nullptr;
  if (ids.size() == 1) return ids[0];
  return ids;
}

Json write_llama(const ModelConfig& c, DType dtype) {
  const char* torch = dtype == DType::bf16  ? "bfloat16"
                      : dtype == DType::f16 ? "float16"
                                            : "float32";
  Json config = {{"architectures", Json::array({kLlamaClass})},
                 {"model_type", "llama"},
                 {"vocab_size", c.vocab_size},
                 {"hidden_size", c.hidden_size},
                 {"intermediate_size", c.intermediate_size},
                 {"num_hidden_layers", c.layers},
                 {"num_attention_heads", c.heads},
                 {"num_key_value_heads", c.kv_heads},
                 {"head_dim", c.head_dim},
                 {"hidden_act", "silu"},
                 {"rms_norm_eps", c.rms_norm_eps},
                 {"max_position_embeddings", c.context_length},
                 {"tie_word_embeddings", c.tie_embeddings},
                 {"attention_bias", false},
                 {"mlp_bias", false},
                 {"bos_token_id", one_or_list(c.bos_ids)},
                 {"eos_token_id", one_or_list(c.eos_ids)},
                 {"pad_token_id", nullptr},
                 {"torch_dtype", torch}};
  if (c.pad_id) config["pad_token_id"] = *c.pad_id;
  if (const auto theta = plain_rope_theta(c.attention)) {
    config["rope_theta"] = *theta;
    return config;
  }
  config["architectures"] = Json::array({kCairnClass});
  config["model_type"] = "cairn";
  config["attention"] = write_attention(c.attention);
  return config;
}

}  // namespace

const Architecture kLlamaArchitecture{.name = "llama",
                                      .classes = kClasses,
                                      .model_type = "llama",
                                      .parameters = llama_parameters,
                                      .read = read_llama,
                                      .write = write_llama};

}  // namespace cairn
