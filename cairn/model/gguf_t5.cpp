// Encoder-decoders in GGUF files. Their keys do not say how far apart tokens may be until their
// distance no longer counts, nor whether what the head reads is scaled: it is where the head is
// tied.
#include <cmath>

#include "cairn/model/gguf.h"
#include "cairn/model/gguf_family.h"

namespace cairn {
namespace {

constexpr int64_t kMaxDistance = 128;

int64_t buckets_of(const AttentionOptions& options) {
  const auto found = options.values.find("buckets");
  const bool given =
      found != options.values.end() && std::holds_alternative<int64_t>(found->second);
  return given ? std::get<int64_t>(found->second) : 32;
}

// "layer.1.EncDecAttention.q" as "cross_attn_q".
std::string module_name(std::string_view module, bool encoder) {
  constexpr std::string_view kLayer = "layer.";
  if (module.substr(0, kLayer.size()) != kLayer || module.size() < kLayer.size() + 2) return {};
  const char branch = module[kLayer.size()];
  const std::string_view within = module.substr(kLayer.size() + 2);
  const std::string place = branch == '0'               ? "attn_"
                            : branch == '1' && !encoder ? "cross_attn_"
                                                        : "ffn_";
  if (within == "layer_norm") return place + "norm";
  const size_t dot = within.find('.');
  const std::string_view kind = within.substr(0, dot), part = within.substr(dot + 1);
  if (kind == "SelfAttention" || kind == "EncDecAttention")
    return place + (part == "relative_attention_bias" ? "rel_b" : std::string(part));
  if (part == "wi_0") return place + "gate";
  return place + (part == "wo" ? "down" : "up");
}

}  // namespace

void read_gguf_t5(const GgufKeys& keys, ModelConfig& c) {
  c.encoder_layers = c.layers;  // block_count
  c.layers = keys.size("decoder_block_count", c.encoder_layers);
  c.attention_scale = 1;
  const auto buckets = static_cast<int64_t>(keys.size("attention.relative_buckets_count"));
  const auto options = [&](const char* mask) {
    return AttentionOptions{
        .mechanism = "relative_bias",
        .values = {
            {"mask", std::string(mask)}, {"buckets", buckets}, {"max_distance", kMaxDistance}}};
  };
  c.attention = options("causal");
  c.encoder_attention = options("bidirectional");
  c.cross_attention = {.mechanism = "relative_bias", .values = {{"mask", std::string("cross")}}};
  c.gated_mlp = keys.archive().find_tensor("enc.blk.0.ffn_gate.weight").has_value();
  c.gate = c.gated_mlp ? Gate::gelu_tanh : Gate::relu;
  if (c.tie_embeddings) c.logits_divisor = std::sqrt(static_cast<double>(c.hidden_size));
  const auto start = keys.find("decoder_start_token_id");
  c.decoder_start_id = 0;
  if (start)
    c.decoder_start_id =
        static_cast<int32_t>(start->as_integer(0, static_cast<int64_t>(c.vocab_size) - 1));
}

void write_gguf_t5(const ModelConfig& c, GgufMetadata& metadata) {
  const auto distance = c.attention.values.find("max_distance");
  if (distance != c.attention.values.end() && distance->second != OptionValue(kMaxDistance))
    refuse_for_gguf("relative_attention_max_distance", "128", "another");
  if (c.gate != (c.gated_mlp ? Gate::gelu_tanh : Gate::relu))
    refuse_for_gguf("feed_forward_proj", "relu or gated-gelu", "another");
  if (c.tie_embeddings != (c.logits_divisor != 1))
    refuse_for_gguf("the head", "a tied one that is scaled, or one of its own that is not",
                    "another");
  const auto size = [&](const char* key, size_t value) {
    metadata.set_u32(key, static_cast<uint32_t>(value));
  };
  size("t5.block_count", c.encoder_layers);
  size("t5.decoder_block_count", c.layers);
  size("t5.attention.relative_buckets_count", static_cast<size_t>(buckets_of(c.attention)));
  metadata.set_f32("t5.attention.layer_norm_epsilon", static_cast<float>(c.rms_norm_eps));
  size("t5.decoder_start_token_id", static_cast<size_t>(*c.decoder_start_id));
}

std::string gguf_t5_name(std::string_view hf) {
  constexpr std::string_view kWeight = ".weight", kBlock = ".block.";
  hf.remove_suffix(kWeight.size());
  if (hf == "shared") return "token_embd.weight";
  if (hf == "encoder.final_layer_norm") return "enc.output_norm.weight";
  if (hf == "decoder.final_layer_norm") return "dec.output_norm.weight";
  if (hf == "lm_head") return "output.weight";
  const bool encoder = hf.substr(0, 7) == "encoder";
  const size_t number = hf.find(kBlock) + kBlock.size(), dot = hf.find('.', number);
  const std::string module = module_name(hf.substr(dot + 1), encoder);
  return (encoder ? "enc.blk." : "dec.blk.") + std::string(hf.substr(number, dot - number)) + "." +
         module + ".weight";
}

}  // namespace cairn
