#include "cairn/model/architectures/decoder_json.h"

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

namespace cairn {
namespace {

constexpr const char* kSliding = "sliding_attention";
constexpr const char* kFull = "full_attention";

// A number of a "rope_scaling" object and the option that keeps it.
struct RopeNumber {
  const char* key;
  const char* option;
};
// The kinds of scaled rotary positions, with the numbers of each.
struct RopeKind {
  const char* name;
  std::vector<RopeNumber> required, optional;
};

const std::vector<RopeKind>& rope_kinds() {
  static const std::vector<RopeKind> kinds = {
      {"linear", {{"factor", "rope_factor"}}, {}},
      {"llama3",
       {{"factor", "rope_factor"},
        {"low_freq_factor", "rope_low_freq_factor"},
        {"high_freq_factor", "rope_high_freq_factor"},
        {"original_max_position_embeddings", "rope_original_context"}},
       {}},
      {"yarn",
       {{"factor", "rope_factor"}, {"original_max_position_embeddings", "rope_original_context"}},
       {{"beta_fast", "rope_beta_fast"},
        {"beta_slow", "rope_beta_slow"},
        {"attention_factor", "rope_attention_factor"}}},
  };
  return kinds;
}

void read_scaling(const JsonField& rope, AttentionOptions& options) {
  const auto type = rope.find("rope_type") ? rope.find("rope_type") : rope.find("type");
  if (!type) {
    if (rope.has("factor")) rope.fail("a \"rope_type\" beside \"factor\"");
    return;
  }
  const std::string name = type->as_string();
  if (name == "default") return;
  std::string known = "default";
  for (const RopeKind& kind : rope_kinds()) {
    known += std::string(", ") + kind.name;
    if (name != kind.name) continue;
    options.values["rope_scaling"] = name;
    for (const RopeNumber& number : kind.required)
      options.values[number.option] = rope.member(number.key).as_number();
    for (const RopeNumber& number : kind.optional)
      if (const auto field = rope.find(number.key))
        options.values[number.option] = field->as_number();
    return;
  }
  type->fail("one of " + known, "other scaled rotary positions are not supported");
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

Json one_or_list(const std::vector<int32_t>& ids) {
  if (ids.empty()) return nullptr;
  if (ids.size() == 1) return ids[0];
  return ids;
}

// A number that a file wrote as an integer is written as one again.
Json number_of(const OptionValue& value) {
  Json result;
  std::visit([&](const auto& held) { result = held; }, value);
  if (result.is_number_float() && std::trunc(result.get<double>()) == result.get<double>() &&
      std::abs(result.get<double>()) < 1e15)
    return static_cast<int64_t>(result.get<double>());
  return result;
}

bool is_number(const OptionValue& value) {
  return std::holds_alternative<double>(value) || std::holds_alternative<int64_t>(value);
}

// The "rope_scaling" object of options whose keys beyond rope_theta are `rest`.
bool write_scaling(const AttentionOptions& options, std::set<std::string> rest, Json& config) {
  const auto scaling = options.values.find("rope_scaling");
  const auto* name =
      scaling == options.values.end() ? nullptr : std::get_if<std::string>(&scaling->second);
  if (name == nullptr) return false;
  for (const RopeKind& kind : rope_kinds()) {
    if (*name != kind.name) continue;
    Json object = {{"rope_type", *name}};
    rest.erase("rope_scaling");
    for (const auto* numbers : {&kind.required, &kind.optional})
      for (const RopeNumber& number : *numbers) {
        const auto value = options.values.find(number.option);
        if (value == options.values.end()) continue;
        if (!is_number(value->second)) return false;
        object[number.key] = number_of(value->second);
        rest.erase(number.option);
      }
    if (!rest.empty()) return false;
    config["rope_scaling"] = std::move(object);
    return true;
  }
  return false;
}

}  // namespace

AttentionOptions read_rope(const JsonField& config, double default_theta) {
  AttentionOptions options;
  if (const auto scaling = config.find("rope_scaling")) read_scaling(*scaling, options);
  std::optional<JsonField> theta = config.find("rope_theta");
  if (const auto parameters = config.find("rope_parameters")) {
    for (const char* kind : {kFull, kSliding})
      if (parameters->has(kind))
        parameters->member(kind).fail("one set of rotary positions for all layers");
    read_scaling(*parameters, options);
    if (const auto part = parameters->find("partial_rotary_factor"); part && part->as_number() != 1)
      part->fail("1", "partial rotary positions are not supported");
    if (const auto inner = parameters->find("rope_theta")) theta = inner;
  }
  const double value = theta ? theta->as_number() : default_theta;
  if (!(value > 0)) theta->fail("a positive number");
  options.values["rope_theta"] = value;
  return options;
}

bool write_rope(const AttentionOptions& options, Json& config) {
  if (options.mechanism != "softmax") return false;
  const auto theta = options.values.find("rope_theta");
  if (theta == options.values.end() || !std::holds_alternative<double>(theta->second)) return false;
  config["rope_theta"] = std::get<double>(theta->second);
  std::set<std::string> rest;
  for (const auto& [key, value] : options.values)
    if (key != "rope_theta") rest.insert(key);
  return rest.empty() || write_scaling(options, std::move(rest), config);
}

void require_absent(const JsonField& config, const char* key) {
  if (const auto field = config.find(key))
    field->fail("null", std::string(key) + " is not supported");
}

void require_false(const JsonField& config, const char* key) {
  if (const auto field = config.find(key); field && field->as_bool())
    field->fail("false", std::string(key) + " is not supported");
}

bool read_flag(const JsonField& config, const char* key, bool otherwise) {
  const auto field = config.find(key);
  return field ? field->as_bool() : otherwise;
}

double read_number(const JsonField& config, const char* key, double otherwise) {
  const auto field = config.find(key);
  return field ? field->as_number() : otherwise;
}

size_t read_size(const JsonField& config, const char* key, size_t otherwise) {
  const auto field = config.find(key);
  return field ? field->as_positive() : otherwise;
}

Gate read_gate(const JsonField& config, Gate otherwise) {
  for (const char* key : {"hidden_activation", "hidden_act"}) {
    const auto field = config.find(key);
    if (!field) continue;
    const std::string name = field->as_string();
    if (name == "silu" || name == "swish") return Gate::silu;
    if (name == "gelu_pytorch_tanh") return Gate::gelu_tanh;
    field->fail("\"silu\" or \"gelu_pytorch_tanh\"", "other activations are not supported");
  }
  return otherwise;
}

std::vector<uint8_t> read_layer_types(const JsonField& config, size_t layers) {
  const auto field = config.find("layer_types");
  if (!field) return {};
  const std::vector<JsonField> types = field->elements();
  if (types.size() != layers)
    field->fail(std::to_string(layers) + " entries, one a layer (num_hidden_layers)");
  std::vector<uint8_t> local;
  for (const JsonField& type : types) {
    const std::string name = type.as_string();
    if (name != kSliding && name != kFull)
      type.fail(std::string("\"") + kSliding + "\" or \"" + kFull + "\"");
    local.push_back(name == kSliding ? 1 : 0);
  }
  return local;
}

Json write_layer_types(const ModelConfig& config) {
  Json types = Json::array();
  for (size_t layer = 0; layer < config.layers; ++layer)
    types.push_back(config.is_local(layer) ? kSliding : kFull);
  return types;
}

ModelConfig read_decoder(const JsonField& config, const DecoderDefaults& defaults) {
  if (config.has("text_config"))
    config.member("text_config").fail("a text model", "multimodal models are not supported");
  require_absent(config, "quantization_config");
  if (const auto part = config.find("partial_rotary_factor"); part && part->as_number() != 1)
    part->fail("1", "partial rotary positions are not supported");
  ModelConfig c;
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
  c.context_length = read_size(config, "max_position_embeddings", defaults.context_length);
  c.rms_norm_eps = read_number(config, "rms_norm_eps", defaults.rms_norm_eps);
  c.tie_embeddings = read_flag(config, "tie_word_embeddings", defaults.tie_embeddings);
  c.bos_ids = read_ids(config, "bos_token_id");
  c.eos_ids = read_ids(config, "eos_token_id");
  if (const auto pad = config.find("pad_token_id"); pad && pad->value() != -1)
    c.pad_id = read_id(*pad);  // -1 is what some old files write for "none"
  return c;
}

Json write_decoder(const ModelConfig& c, std::string_view class_name, std::string_view type,
                   DType dtype) {
  const char* torch = dtype == DType::bf16  ? "bfloat16"
                      : dtype == DType::f16 ? "float16"
                                            : "float32";
  Json config = {{"architectures", Json::array({class_name})},
                 {"model_type", type},
                 {"vocab_size", c.vocab_size},
                 {"hidden_size", c.hidden_size},
                 {"intermediate_size", c.intermediate_size},
                 {"num_hidden_layers", c.layers},
                 {"num_attention_heads", c.heads},
                 {"num_key_value_heads", c.kv_heads},
                 {"head_dim", c.head_dim},
                 {"hidden_act", c.gate == Gate::silu ? "silu" : "gelu_pytorch_tanh"},
                 {"rms_norm_eps", c.rms_norm_eps},
                 {"max_position_embeddings", c.context_length},
                 {"tie_word_embeddings", c.tie_embeddings},
                 {"bos_token_id", one_or_list(c.bos_ids)},
                 {"eos_token_id", one_or_list(c.eos_ids)},
                 {"pad_token_id", nullptr},
                 {"torch_dtype", torch}};
  if (c.pad_id) config["pad_token_id"] = *c.pad_id;
  return config;
}

}  // namespace cairn
