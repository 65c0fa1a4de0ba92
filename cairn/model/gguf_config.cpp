// The description of a model as GGUF keys.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/io/json.h"
#include "cairn/model/architecture.h"
#include "cairn/model/gguf.h"
#include "cairn/model/gguf_family.h"

namespace cairn {
namespace {

constexpr std::string_view kHead = "output.weight";
constexpr std::string_view kEmbedding = "token_embd.weight";
constexpr size_t kGemmaPattern = 6;         // one layer in so many sees everything
constexpr double kGemmaLocalTheta = 10000;  // of the others
constexpr size_t kGemma27BLayers = 62;      // whose scores have another scale

constexpr std::array kFamilies = {
    GgufFamily{"llama", "llama", true},
    GgufFamily{"mistral", "llama", true},
    GgufFamily{"granite", "granite", true},
    GgufFamily{"granitemoe", "granitemoe", true},
    GgufFamily{"granitemoeshared", "granitemoe", true},
    GgufFamily{"qwen2", "qwen2", false},
    GgufFamily{"qwen3", "qwen3", false},
    GgufFamily{"phi3", "phi3", false},
    GgufFamily{"gemma3", "gemma3", false},
    GgufFamily{"t5", "t5", false},
};

bool is_granite(const ModelConfig& c) {
  return c.architecture.compare(0, 7, "granite") == 0;
}

// Features of some architecture that Cairn does not have, or not in this one, must be off.
void refuse_unsupported(const GgufKeys& keys, const ModelConfig& c) {
  if (const auto type = keys.archive().find("general.type"); type && type->as_string() != "model")
    type->fail("\"model\"");
  const auto off = [&](const char* key, const char* hint) {
    if (const auto value = keys.find(key); value && value->as_number() != 0)
      value->fail("0, or no such key", hint);
  };
  if (c.architecture != "granitemoe")
    off("expert_count", "mixtures of experts are not supported in this architecture");
  for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping"})
    off(key, "soft caps are not supported");
  if (is_granite(c)) {
    off("attention.sliding_window", "sliding windows are not supported in this architecture");
    return;
  }
  for (const char* key : {"logit_scale", "residual_scale", "embedding_scale"})
    off(key, "it is not supported in this architecture");
  if (c.architecture != "gemma3")
    off("attention.scale", "it is not supported in this architecture");
}

bool is_end_spelling(std::string_view token) {
  constexpr std::array<std::string_view, 12> kEnds = {
      "<|eot_id|>",    "<|im_end|>", "<|end|>",  "<end_of_turn>",
      "<|endoftext|>", "<|eom_id|>", "</s>",     "<|end_of_text|>",
      "<EOT>",         "<|return|>", "<|call|>", "<end_of_utterance>"};
  return std::find(kEnds.begin(), kEnds.end(), token) != kEnds.end();
}

std::optional<int32_t> read_id(const GgufArchive& archive, const std::string& name, size_t vocab) {
  const auto value = archive.find("tokenizer.ggml." + name + "_token_id");
  if (!value) return std::nullopt;
  return static_cast<int32_t>(value->as_integer(0, static_cast<int64_t>(vocab) - 1));
}

void read_ids(const GgufArchive& archive, ModelConfig& c) {
  constexpr int64_t kControl = 3;  // of tokenizer.ggml.token_type
  if (const auto id = read_id(archive, "bos", c.vocab_size)) c.bos_ids = {*id};
  c.pad_id = read_id(archive, "padding", c.vocab_size);
  const auto end = [&](int32_t id) {
    if (std::find(c.eos_ids.begin(), c.eos_ids.end(), id) == c.eos_ids.end())
      c.eos_ids.push_back(id);
  };
  for (const char* name : {"eos", "eot", "eom"})
    if (const auto id = read_id(archive, name, c.vocab_size)) end(*id);
  const auto tokens = archive.find("tokenizer.ggml.tokens");
  const auto types = archive.find("tokenizer.ggml.token_type");
  if (!tokens || !types) return;
  const std::vector<std::string_view> spellings = tokens->as_strings();
  const std::vector<int64_t> kinds = types->as_integers();
  if (spellings.size() != kinds.size())
    types->fail(fmt::format("{} elements, as many as tokens", spellings.size()));
  if (spellings.size() > c.vocab_size)
    tokens->fail(fmt::format("at most {} tokens (rows of token_embd.weight)", c.vocab_size));
  for (size_t i = 0; i < kinds.size(); ++i)
    if (kinds[i] == kControl && is_end_spelling(spellings[i])) end(static_cast<int32_t>(i));
}

void read_sizes(const GgufKeys& keys, ModelConfig& c) {
  const GgufArchive& archive = keys.archive();
  c.vocab_size = archive.tensor(kEmbedding).shape[0];
  if (keys.size("vocab_size", c.vocab_size) != c.vocab_size)
    keys.at("vocab_size").fail(fmt::format("{} (rows of token_embd.weight)", c.vocab_size));
  c.hidden_size = keys.size("embedding_length");
  c.intermediate_size = keys.size("feed_forward_length");
  c.layers = keys.size("block_count");
  c.heads = keys.size("attention.head_count");
  c.kv_heads = keys.size("attention.head_count_kv", c.heads);
  if (!keys.find("attention.key_length") && c.hidden_size % c.heads != 0)
    keys.at("attention.head_count")
        .fail(fmt::format("a divisor of embedding_length {}", c.hidden_size));
  c.head_dim = keys.size("attention.key_length", c.hidden_size / c.heads);
  if (keys.size("attention.value_length", c.head_dim) != c.head_dim)
    keys.at("attention.value_length")
        .fail(fmt::format("{} (head_dim)", c.head_dim), "other sizes are not supported");
  c.context_length = keys.size("context_length");
  c.rms_norm_eps = gguf_decimal(keys.at("attention.layer_norm_rms_epsilon"));
  c.tie_embeddings = !archive.find_tensor(kHead);
  c.qkv_bias = archive.find_tensor("blk.0.attn_q.bias").has_value();
  c.output_bias = archive.find_tensor("blk.0.attn_output.bias").has_value();
  c.mlp_bias = archive.find_tensor("blk.0.ffn_gate.bias").has_value();
}

void read_granite(const GgufKeys& keys, ModelConfig& c) {
  c.logits_divisor = keys.number("logit_scale", 1);
  const auto or_one = [&](const char* key) {
    const double value = keys.number(key, 1);
    return value == 0 ? 1 : value;
  };
  c.residual_multiplier = or_one("residual_scale");
  c.embedding_multiplier = or_one("embedding_scale");
  c.attention_scale = keys.number("attention.scale", 0);
  // Of Granite models only, this key says whether positions turn at all.
  if (const auto turns = keys.find("rope.scaling.finetuned"); turns && !turns->as_bool())
    c.attention.values = {{"position", std::string("none")}};
  if (c.architecture != "granitemoe") return;
  c.experts = keys.size("expert_count");
  c.experts_per_token = keys.size("expert_used_count");
  if (const auto width = keys.find("expert_shared_feed_forward_length"))
    c.shared_intermediate_size = static_cast<size_t>(width->as_integer(0, int64_t{1} << 40));
  if (c.shared_intermediate_size != 0) c.architecture = "granitemoeshared";
}

std::vector<uint8_t> read_pattern(const GgufValue& value, size_t layers) {
  std::vector<uint8_t> local(layers);
  if (!value.is_array()) {
    const auto every = static_cast<size_t>(value.as_integer(1, 1 << 20));
    for (size_t layer = 0; layer < layers; ++layer) local[layer] = (layer + 1) % every != 0;
    return local;
  }
  if (value.count() != layers || value.element_kind() != GgufKind::boolean)
    value.fail(fmt::format("{} truth values, one a layer", layers));
  for (size_t layer = 0; layer < layers; ++layer)
    local[layer] = value.bytes()[layer] != std::byte{0};
  return local;
}

void read_windows(const GgufKeys& keys, ModelConfig& c) {
  const auto window = keys.find("attention.sliding_window");
  const auto pattern = keys.find("attention.sliding_window_pattern");
  const int64_t tokens = window ? window->as_integer(0, 1 << 24) : 0;
  if (tokens == 0) return;
  if (c.architecture == "llama") c.architecture = "mistral";
  if (c.architecture == "mistral" || c.architecture == "phi3") {
    if (c.architecture == "mistral" || static_cast<size_t>(tokens) < c.context_length)
      c.attention.values["window"] = tokens;
    return;
  }
  c.local_attention = c.attention;
  if (c.architecture == "gemma3")
    c.local_attention.values = {
        {"rope_theta", keys.number("rope.freq_base_swa", kGemmaLocalTheta)}};
  c.local_attention.values["window"] = tokens;
  if (pattern || c.architecture != "gemma3") {
    c.local_layers = read_pattern(keys.at("attention.sliding_window_pattern"), c.layers);
    return;
  }
  for (size_t layer = 0; layer < c.layers; ++layer)
    c.local_layers.push_back((layer + 1) % kGemmaPattern != 0);
}

// Gemma's scale of scores where no key names it.
double gemma_scale(const ModelConfig& c) {
  const size_t dim = c.layers == kGemma27BLayers ? c.hidden_size / c.heads : c.head_dim;
  return 1 / std::sqrt(static_cast<double>(dim));
}

void normalise_heads(ModelConfig& c) {
  for (AttentionOptions* options : {&c.attention, &c.local_attention}) {
    options->values["qk_norm"] = true;
    options->values["qk_norm_eps"] = c.rms_norm_eps;
    if (c.norm_offset != 0) options->values["qk_norm_offset"] = c.norm_offset;
  }
}

void read_family(const GgufKeys& keys, ModelConfig& c) {
  if (is_granite(c)) read_granite(keys, c);
  if (c.architecture == "gemma3") {
    c.gate = Gate::gelu_tanh;
    c.norm_offset = 1;
    c.post_norms = true;
    c.embedding_multiplier = std::sqrt(static_cast<double>(c.hidden_size));
    c.attention_scale = keys.number("attention.scale", gemma_scale(c));
  }
  read_windows(keys, c);
  if (c.architecture == "gemma3" || c.architecture == "qwen3") normalise_heads(c);
  if (c.local_layers.empty()) c.local_attention = {};
}

void write_granite(const ModelConfig& c, const std::string& prefix, GgufMetadata& metadata) {
  const auto number = [&](const char* key, double value) {
    metadata.set_f32(prefix + key, static_cast<float>(value));
  };
  number("logit_scale", c.logits_divisor);
  number("residual_scale", c.residual_multiplier);
  number("embedding_scale", c.embedding_multiplier);
  number("attention.scale", c.attention_scale);
  if (c.experts == 0) return;
  metadata.set_u32(prefix + "expert_count", static_cast<uint32_t>(c.experts));
  metadata.set_u32(prefix + "expert_used_count", static_cast<uint32_t>(c.experts_per_token));
  if (c.shared_intermediate_size != 0)
    metadata.set_u32(prefix + "expert_shared_feed_forward_length",
                     static_cast<uint32_t>(c.shared_intermediate_size));
}

void write_windows(const ModelConfig& c, const std::string& prefix, GgufMetadata& metadata) {
  const AttentionOptions& options = c.local_layers.empty() ? c.attention : c.local_attention;
  const SoftmaxOptions local = gguf_softmax_options(options, c);
  if (local.window == 0) return;
  metadata.set_u32(prefix + "attention.sliding_window", static_cast<uint32_t>(local.window));
  if (c.local_layers.empty()) return;
  if (c.architecture == "gemma3")
    metadata.set_f32(prefix + "rope.freq_base_swa", static_cast<float>(local.rope_theta));
  const std::vector<bool> pattern(c.local_layers.begin(), c.local_layers.end());
  metadata.set_bools(prefix + "attention.sliding_window_pattern", pattern);
}

void write_ids(const ModelConfig& c, GgufMetadata& metadata) {
  const auto id = [&](const char* name, int32_t value) {
    metadata.set_u32(fmt::format("tokenizer.ggml.{}_token_id", name), static_cast<uint32_t>(value));
  };
  if (!c.bos_ids.empty()) id("bos", c.bos_ids[0]);
  if (!c.eos_ids.empty()) id("eos", c.eos_ids[0]);
  if (c.eos_ids.size() > 1) id("eot", c.eos_ids[1]);
  if (c.pad_id) id("padding", *c.pad_id);
}

// What no key says must be what readers assume: just what the family's own config.json can say.
void check_sayable(const ModelConfig& c) {
  const Json document = write_model_config(c, DType::f32);
  if (c.has_encoder()) return;
  const std::string type = document.at("model_type").get<std::string>();
  const Gate gate = c.architecture == "gemma3" ? Gate::gelu_tanh : Gate::silu;
  if (type == "cairn" || c.gate != gate)
    refuse_for_gguf("the model", "what models of the family " + in_quotes(c.architecture) + " have",
                    "further features");
  const RotaryScaling::Kind kind = gguf_softmax_options(c.attention, c).rope_scaling.kind;
  if (kind == RotaryScaling::Kind::dynamic || kind == RotaryScaling::Kind::ntk)
    refuse_for_gguf("rope_scaling", "linear, llama3, yarn or longrope", "dynamic or ntk");
}

}  // namespace

void refuse_for_gguf(const std::string& subject, const std::string& expected,
                     const std::string& found) {
  throw Error({.kind = ErrorKind::usage,
               .doing = "writing a model's description for GGUF",
               .subject = subject,
               .expected = expected,
               .found = found,
               .hint = "GGUF has no word for it; keep the Hugging Face folder"});
}

const GgufFamily& gguf_family(const ModelConfig& config) {
  for (const GgufFamily& family : kFamilies)
    if (family.architecture == config.architecture) return family;
  refuse_for_gguf("architecture", "a family of Llama, Granite, Qwen, Phi3, Gemma3 or T5",
                  in_quotes(config.architecture));
}

const GgufFamily& gguf_family(const GgufArchive& archive) {
  const GgufValue name = archive.at("general.architecture");
  std::string known;
  for (const GgufFamily& family : kFamilies) {
    if (family.name == name.as_string()) return family;
    const std::string quoted = in_quotes(family.name);
    if (known.find(quoted) == std::string::npos) known += (known.empty() ? "" : ", ") + quoted;
  }
  name.fail("one of " + known, "other architectures are not supported yet");
}

size_t GgufKeys::size(std::string_view key) const {
  const GgufValue value = at(key);
  if (!value.is_array()) return static_cast<size_t>(value.as_integer(1, int64_t{1} << 40));
  const std::vector<int64_t> numbers = value.as_integers();
  if (numbers.empty() || numbers[0] < 1 ||
      std::any_of(numbers.begin(), numbers.end(), [&](int64_t n) { return n != numbers[0]; }))
    value.fail("one positive number for all layers", "layers that differ are not supported");
  return static_cast<size_t>(numbers[0]);
}

size_t GgufKeys::size(std::string_view key, size_t otherwise) const {
  return find(key) ? size(key) : otherwise;
}

double GgufKeys::number(std::string_view key, double otherwise) const {
  const auto value = find(key);
  return value ? gguf_decimal(*value) : otherwise;
}

double gguf_decimal(const GgufValue& value) {
  return value.kind() == GgufKind::f32
             ? std::stod(fmt::format("{}", static_cast<float>(value.as_number())))
             : value.as_number();
}

ModelConfig read_gguf_config(const GgufArchive& archive) {
  const GgufFamily& family = gguf_family(archive);
  const GgufKeys keys(archive, family.name);
  ModelConfig c;
  c.architecture = family.architecture;
  refuse_unsupported(keys, c);
  read_sizes(keys, c);
  if (c.architecture == "t5") {
    read_gguf_t5(keys, c);
  } else {
    c.attention = read_gguf_rope(keys, c.head_dim, c.context_length);
    read_family(keys, c);
  }
  read_ids(archive, c);
  c = normalized(std::move(c));
  try {
    check_config(c);
    static_cast<void>(make_attention(c));
  } catch (const Error& error) {  // the same mistake, but in a file rather than in a call
    Problem problem = error.problem();
    problem.kind = ErrorKind::data;
    problem.doing = "reading " + archive.path().string();
    throw Error(std::move(problem));
  }
  return c;
}

void write_gguf_config(const ModelConfig& config, GgufMetadata& metadata) {
  const ModelConfig c = normalized(config);
  const GgufFamily& family = gguf_family(c);
  check_sayable(c);
  const std::string prefix = std::string(family.name) + ".";
  const auto size = [&](const char* key, size_t value) {
    metadata.set_u32(prefix + key, static_cast<uint32_t>(value));
  };
  metadata.set_string("general.architecture", family.name);
  size("block_count", c.layers);
  size("context_length", c.context_length);
  size("embedding_length", c.hidden_size);
  size("feed_forward_length", c.intermediate_size);
  size("attention.head_count", c.heads);
  size("attention.head_count_kv", c.kv_heads);
  metadata.set_f32(prefix + "attention.layer_norm_rms_epsilon", static_cast<float>(c.rms_norm_eps));
  size("attention.key_length", c.head_dim);
  size("attention.value_length", c.head_dim);
  size("vocab_size", c.vocab_size);
  write_ids(c, metadata);
  if (c.has_encoder()) return write_gguf_t5(c, metadata);
  write_gguf_rope(c, family.name, metadata);
  if (is_granite(c)) write_granite(c, prefix, metadata);
  if (c.architecture == "gemma3" && std::abs(c.attention_scale / gemma_scale(c) - 1) > 1e-6)
    metadata.set_f32(prefix + "attention.scale", static_cast<float>(c.attention_scale));
  write_windows(c, prefix, metadata);
}

}  // namespace cairn
