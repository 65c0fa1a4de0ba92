#include "cairn/model/architectures/decoder_json.h"

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

namespace cairn {
namespace {

constexpr const char* kSliding = "sliding_attention";
constexpr const char* kFull = "full_attention";

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

}  // namespace

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
    if (name == "relu") return Gate::relu;
    field->fail("\"silu\", \"gelu_pytorch_tanh\" or \"relu\"",
                "other activations are not supported");
  }
  return otherwise;
}

const char* gate_name(Gate gate) {
  if (gate == Gate::relu) return "relu";
  return gate == Gate::silu ? "silu" : "gelu_pytorch_tanh";
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
  require_absent(config, "quantization_config");
  // Of a nested configuration transformers writes only what is not its default.
  const bool nested = !config.path().empty();
  const auto size = [&](const char* key, size_t otherwise) {
    return nested ? read_size(config, key, otherwise) : config.member(key).as_positive();
  };
  const DecoderSizes& usual = defaults.sizes;
  ModelConfig c;
  c.vocab_size = size("vocab_size", usual.vocab_size);
  c.hidden_size = size("hidden_size", usual.hidden_size);
  c.intermediate_size = size("intermediate_size", usual.intermediate_size);
  c.layers = size("num_hidden_layers", usual.layers);
  c.heads = size("num_attention_heads", usual.heads);
  c.kv_heads = read_size(config, "num_key_value_heads",
                         nested && usual.kv_heads != 0 ? usual.kv_heads : c.heads);
  if (!config.has("head_dim") && c.hidden_size % c.heads != 0)
    config.member(config.has("num_attention_heads") ? "num_attention_heads" : "hidden_size")
        .fail("a divisor of hidden_size " + std::to_string(c.hidden_size) +
              ", as head_dim is not given");
  c.head_dim = read_size(config, "head_dim", c.hidden_size / c.heads);
  c.context_length = read_size(config, "max_position_embeddings", defaults.context_length);
  c.rms_norm_eps = read_number(config, "rms_norm_eps", defaults.rms_norm_eps);
  c.tie_embeddings = read_flag(config, "tie_word_embeddings", defaults.tie_embeddings);
  read_special_ids(config, c);
  return c;
}

void read_special_ids(const JsonField& config, ModelConfig& c) {
  if (config.has("bos_token_id")) c.bos_ids = read_ids(config, "bos_token_id");
  if (config.has("eos_token_id")) c.eos_ids = read_ids(config, "eos_token_id");
  if (const auto pad = config.find("pad_token_id"); pad && pad->value() != -1)
    c.pad_id = read_id(*pad);  // -1 is what some old files write for "none"
}

Json write_ids(const ModelConfig& c, std::string_view class_name, std::string_view type,
               DType dtype) {
  const char* torch = dtype == DType::bf16  ? "bfloat16"
                      : dtype == DType::f16 ? "float16"
                                            : "float32";
  Json config = {{"architectures", Json::array({class_name})},
                 {"model_type", type},
                 {"bos_token_id", one_or_list(c.bos_ids)},
                 {"eos_token_id", one_or_list(c.eos_ids)},
                 {"pad_token_id", nullptr},
                 {"dtype", torch},  // the key since transformers 4.56, and the one before
                 {"torch_dtype", torch}};
  if (c.pad_id) config["pad_token_id"] = *c.pad_id;
  return config;
}

Json write_decoder(const ModelConfig& c, std::string_view class_name, std::string_view type,
                   DType dtype) {
  Json config = write_ids(c, class_name, type, dtype);
  config.update({{"vocab_size", c.vocab_size},
                 {"hidden_size", c.hidden_size},
                 {"intermediate_size", c.intermediate_size},
                 {"num_hidden_layers", c.layers},
                 {"num_attention_heads", c.heads},
                 {"num_key_value_heads", c.kv_heads},
                 {"head_dim", c.head_dim},
                 {"hidden_act", gate_name(c.gate)},
                 {"rms_norm_eps", c.rms_norm_eps},
                 {"max_position_embeddings", c.context_length},
                 {"tie_word_embeddings", c.tie_embeddings}});
  return config;
}

}  // namespace cairn
