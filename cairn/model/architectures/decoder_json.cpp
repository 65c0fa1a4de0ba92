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
