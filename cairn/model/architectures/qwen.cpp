// Qwen2ForCausalLM (biases on queries, keys and values) and Qwen3ForCausalLM (normalised queries
// and keys instead). Both may let layers from max_window_layers on see a window only.
#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "cairn/model/architectures/cairn_json.h"
#include "cairn/model/architectures/decoder_json.h"
#include "cairn/model/decoder_layout.h"

namespace cairn {
namespace {

constexpr DecoderDefaults kDefaults = {.sizes = {.vocab_size = 151936, .intermediate_size = 22016},
                                       .context_length = 32768};

constexpr std::array<std::string_view, 1> kQwen2Classes = {"Qwen2ForCausalLM"};
constexpr std::array<std::string_view, 1> kQwen3Classes = {"Qwen3ForCausalLM"};

void read_windows(const JsonField& config, ModelConfig& c) {
  if (!read_flag(config, "use_sliding_window", false)) return;
  const auto window = config.find("sliding_window");
  if (!window) return;
  c.local_layers = read_layer_types(config, c.layers);
  if (c.local_layers.empty()) {
    const size_t from = read_size(config, "max_window_layers", c.layers);
    for (size_t layer = 0; layer < c.layers; ++layer) c.local_layers.push_back(layer >= from);
  }
  if (std::count(c.local_layers.begin(), c.local_layers.end(), 1) == 0) c.local_layers.clear();
  if (c.local_layers.empty()) return;
  c.local_attention = c.attention;
  c.local_attention.values["window"] = static_cast<int64_t>(window->as_positive());
}

// False when layers differ in more than the window.
bool write_windows(const ModelConfig& c, Json& config) {
  config["use_sliding_window"] = !c.local_layers.empty();
  config["sliding_window"] = nullptr;
  if (c.local_layers.empty()) return true;
  AttentionOptions local = c.local_attention;
  config["sliding_window"] = take_window(local);
  config["layer_types"] = write_layer_types(c);
  return local == c.attention && !config["sliding_window"].is_null();
}

ModelConfig read_qwen2(const JsonField& config) {
  ModelConfig c = read_decoder(config, kDefaults);
  c.architecture = "qwen2";
  c.gate = read_gate(config, Gate::silu);
  c.qkv_bias = true;
  c.attention = read_rope(config, c, 10000);
  read_windows(config, c);
  return c;
}

Json write_qwen2(const ModelConfig& c, DType dtype) {
  Json config = write_decoder(c, kQwen2Classes[0], "qwen2", dtype);
  const bool fits = is_plain_decoder(c) && c.qkv_bias && !c.output_bias && !c.mlp_bias;
  if (fits && write_windows(c, config) && write_rope(c.attention, c, config)) return config;
  return write_cairn(c, dtype);
}

ModelConfig read_qwen3(const JsonField& config) {
  ModelConfig c = read_decoder(config, kDefaults);
  c.architecture = "qwen3";
  if (!config.has("head_dim")) c.head_dim = 128;  // whatever hidden_size / heads would be
  c.gate = read_gate(config, Gate::silu);
  c.qkv_bias = c.output_bias = read_flag(config, "attention_bias", false);
  c.attention = read_rope(config, c, 10000);
  c.attention.values["qk_norm"] = true;
  c.attention.values["qk_norm_eps"] = c.rms_norm_eps;
  read_windows(config, c);
  return c;
}

Json write_qwen3(const ModelConfig& c, DType dtype) {
  Json config = write_decoder(c, kQwen3Classes[0], "qwen3", dtype);
  config["attention_bias"] = c.qkv_bias;
  AttentionOptions rope = c.attention;
  const bool normed = rope.values.erase("qk_norm") == 1 && rope.values.erase("qk_norm_eps") == 1;
  const bool fits = normed && is_plain_decoder(c) && c.qkv_bias == c.output_bias && !c.mlp_bias;
  if (fits && write_windows(c, config) && write_rope(rope, c, config)) return config;
  return write_cairn(c, dtype);
}

}  // namespace

const Architecture kQwen2Architecture{.name = "qwen2",
                                      .classes = kQwen2Classes,
                                      .model_type = "qwen2",
                                      .parameters = decoder_parameters,
                                      .read = read_qwen2,
                                      .write = write_qwen2};

const Architecture kQwen3Architecture{.name = "qwen3",
                                      .classes = kQwen3Classes,
                                      .model_type = "qwen3",
                                      .parameters = decoder_parameters,
                                      .read = read_qwen3,
                                      .write = write_qwen3};

}  // namespace cairn
