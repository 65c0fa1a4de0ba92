// LlamaForCausalLM (Touvron et al. 2023, arXiv:2302.13971) and MistralForCausalLM, which adds a
// sliding window.
#include <array>
#include <nlohmann/json.hpp>

#include "cairn/model/architectures/cairn_json.h"
#include "cairn/model/architectures/decoder_json.h"
#include "cairn/model/decoder_layout.h"

namespace cairn {
namespace {

constexpr std::array<std::string_view, 1> kLlamaClasses = {"LlamaForCausalLM"};
constexpr std::array<std::string_view, 1> kMistralClasses = {"MistralForCausalLM"};

ModelConfig read_llama(const JsonField& config) {
  require_absent(config, "sliding_window");
  ModelConfig c = read_decoder(config, {});
  c.architecture = "llama";
  c.gate = read_gate(config, Gate::silu);
  c.qkv_bias = c.output_bias = read_flag(config, "attention_bias", false);
  c.mlp_bias = read_flag(config, "mlp_bias", false);
  c.attention = read_rope(config, c, 10000);
  return c;
}

// Whether the class can say all that `c` says, rotary positions aside.
bool is_plain(const ModelConfig& c) {
  return is_plain_decoder(c) && c.qkv_bias == c.output_bias && c.local_layers.empty();
}

Json write_llama(const ModelConfig& c, DType dtype) {
  Json config = write_decoder(c, kLlamaClasses[0], "llama", dtype);
  config["attention_bias"] = c.qkv_bias;
  config["mlp_bias"] = c.mlp_bias;
  if (is_plain(c) && write_rope(c.attention, c, config)) return config;
  return write_cairn(c, dtype);
}

ModelConfig read_mistral(const JsonField& config) {
  ModelConfig c = read_decoder(
      config, {.sizes = {.intermediate_size = 14336, .kv_heads = 8}, .context_length = 131072});
  c.architecture = "mistral";
  c.gate = read_gate(config, Gate::silu);
  c.attention = read_rope(config, c, 10000);
  if (!config.value().contains("sliding_window"))
    c.attention.values["window"] = int64_t{4096};  // as transformers has it; null means none
  else if (const auto window = config.find("sliding_window"))
    c.attention.values["window"] = static_cast<int64_t>(window->as_positive());
  return c;
}

Json write_mistral(const ModelConfig& c, DType dtype) {
  Json config = write_decoder(c, kMistralClasses[0], "mistral", dtype);
  AttentionOptions rope = c.attention;
  config["sliding_window"] = take_window(rope);
  if (is_plain(c) && !c.qkv_bias && !c.mlp_bias && write_rope(rope, c, config)) return config;
  return write_cairn(c, dtype);
}

}  // namespace

const Architecture kLlamaArchitecture{.name = "llama",
                                      .classes = kLlamaClasses,
                                      .model_type = "llama",
                                      .parameters = decoder_parameters,
                                      .read = read_llama,
                                      .write = write_llama};

const Architecture kMistralArchitecture{.name = "mistral",
                                        .classes = kMistralClasses,
                                        .model_type = "mistral",
                                        .parameters = decoder_parameters,
                                        .read = read_mistral,
                                        .write = write_mistral};

}  // namespace cairn
