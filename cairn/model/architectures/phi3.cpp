// Phi3ForCausalLM: Llama whose files keep queries, keys and values in one tensor, gates and ups in
// another. Rows are put apart when a file is read and together when one is written.
#include <array>
#include <nlohmann/json.hpp>

#include "cairn/model/architectures/cairn_json.h"
#include "cairn/model/architectures/decoder_json.h"
#include "cairn/model/decoder_layout.h"

namespace cairn {
namespace {

constexpr std::array<std::string_view, 1> kClasses = {"Phi3ForCausalLM"};

ModelConfig read_phi3(const JsonField& config) {
  require_false(config, "attention_bias");
  ModelConfig c = read_decoder(
      config, {.sizes = {.vocab_size = 32064, .hidden_size = 3072, .intermediate_size = 8192},
               .rms_norm_eps = 1e-5,
               .context_length = 4096});
  c.architecture = "phi3";
  c.gate = read_gate(config, Gate::silu);
  c.attention = read_rope(config, c, 10000);
  // transformers masks keys that lie sliding_window or more back.
  if (const auto window = config.find("sliding_window");
      window && window->as_positive() < c.context_length)
    c.attention.values["window"] = static_cast<int64_t>(window->as_positive());
  return c;
}

Json write_phi3(const ModelConfig& c, DType dtype) {
  Json config = write_decoder(c, kClasses[0], "phi3", dtype);
  AttentionOptions rope = c.attention;
  config["sliding_window"] = take_window(rope);
  config["attention_bias"] = false;
  const bool fits =
      is_plain_decoder(c) && !c.qkv_bias && !c.output_bias && !c.mlp_bias && c.local_layers.empty();
  if (fits && write_rope(rope, c, config)) return config;
  return write_cairn(c, dtype);
}

std::vector<StoredRows> stored_phi3(const ModelConfig& c) {
  std::vector<StoredRows> fused;
  for (size_t layer = 0; layer < c.layers; ++layer) {
    const LayerNames names = layer_names(c, layer);
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    fused.push_back({prefix + "self_attn.qkv_proj.weight", {names.q, names.k, names.v}});
    fused.push_back({prefix + "mlp.gate_up_proj.weight", {names.gate, names.up}});
  }
  return fused;
}

}  // namespace

const Architecture kPhi3Architecture{.name = "phi3",
                                     .classes = kClasses,
                                     .model_type = "phi3",
                                     .parameters = decoder_parameters,
                                     .read = read_phi3,
                                     .write = write_phi3,
                                     .fused = stored_phi3};

}  // namespace cairn
