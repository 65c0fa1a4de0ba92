#include "cairn/model/gguf.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/io/json.h"
#include "cairn/kernels/blocks.h"

namespace cairn {
namespace {

constexpr std::string_view kHead = "output.weight";
constexpr std::string_view kEmbedding = "token_embd.weight";
constexpr double kDefaultRopeTheta = 10000.0;  // where llama.rope.freq_base is absent

struct Pair {
  std::string_view hf, gguf;
};

// Within model.layers.N. and blk.N.
constexpr std::array kLayerNames = {
    Pair{"input_layernorm.weight", "attn_norm.weight"},
    Pair{"self_attn.q_proj.weight", "attn_q.weight"},
    Pair{"self_attn.k_proj.weight", "attn_k.weight"},
    Pair{"self_attn.v_proj.weight", "attn_v.weight"},
    Pair{"self_attn.o_proj.weight", "attn_output.weight"},
    Pair{"post_attention_layernorm.weight", "ffn_norm.weight"},
    Pair{"mlp.gate_proj.weight", "ffn_gate.weight"},
    Pair{"mlp.up_proj.weight", "ffn_up.weight"},
    Pair{"mlp.down_proj.weight", "ffn_down.weight"},
};
constexpr std::array kOuterNames = {
    Pair{"model.embed_tokens.weight", kEmbedding},
    Pair{"model.norm.weight", "output_norm.weight"},
    Pair{"lm_head.weight", kHead},
};

// Empty for a name that GGUF's "llama" does not have.
std::string gguf_name(std::string_view hf) {
  for (const Pair& pair : kOuterNames)
    if (pair.hf == hf) return std::string(pair.gguf);
  constexpr std::string_view kPrefix = "model.layers.";
  if (hf.substr(0, kPrefix.size()) != kPrefix) return "";
  hf.remove_prefix(kPrefix.size());
  const size_t dot = std::min(hf.find('.'), hf.size());
  const std::string_view number = hf.substr(0, dot);
  for (const Pair& pair : kLayerNames)
    if (dot < hf.size() && hf.substr(dot + 1) == pair.hf)
      return fmt::format("blk.{}.{}", number, pair.gguf);
  return "";
}

[[noreturn]] void refuse(const GgufArchive& archive, const std::string& subject,
                         const std::string& expected, const std::string& found,
                         const std::string& hint = "") {
  throw Error({.kind = ErrorKind::data,
               .doing = "loading " + archive.path().string(),
               .subject = subject,
               .expected = expected,
               .found = found,
               .hint = hint});
}

// Keys under "llama.".
std::optional<GgufValue> find(const GgufArchive& archive, std::string_view key) {
  return archive.find("llama." + std::string(key));
}

size_t read_size(const GgufValue& value) {
  if (!value.is_array()) return static_cast<size_t>(value.as_integer(1, int64_t{1} << 40));
  // One number a layer, where layers may differ; here they may not.
  const std::vector<int64_t> numbers = value.as_integers();
  if (numbers.empty() || numbers[0] < 1 ||
      std::any_of(numbers.begin(), numbers.end(), [&](int64_t n) { return n != numbers[0]; }))
    value.fail("one positive number for all layers", "layers that differ are not supported");
  return static_cast<size_t>(numbers[0]);
}

size_t read_size(const GgufArchive& archive, const char* key) {
  return read_size(archive.at(std::string("llama.") + key));
}

size_t read_size(const GgufArchive& archive, const char* key, size_t otherwise) {
  const auto value = find(archive, key);
  return value ? read_size(*value) : otherwise;
}

void expect_size(const GgufArchive& archive, const char* key, size_t expected) {
  if (const auto value = find(archive, key); value && read_size(*value) != expected)
    value->fail(fmt::format("{} (head_dim)", expected), "other sizes are not supported");
}

// Features of the architecture that Cairn does not have must be off.
void refuse_unsupported(const GgufArchive& archive) {
  const GgufValue architecture = archive.at("general.architecture");
  if (architecture.as_string() != "llama")
    architecture.fail("\"llama\"", "other architectures are not supported yet");
  if (const auto type = archive.find("general.type"); type && type->as_string() != "model")
    type->fail("\"model\"");
  if (const auto experts = find(archive, "expert_count"); experts && experts->as_integer() != 0)
    experts->fail("0", "mixtures of experts are not supported");
  if (const auto window = find(archive, "attention.sliding_window");
      window && window->as_integer() != 0)
    window->fail("0", "sliding windows are not supported");
  for (const char* key : {"attention.scale", "logit_scale", "residual_scale", "embedding_scale"})
    if (const auto scale = find(archive, key); scale && scale->as_number() != 0)
      scale->fail("no such scale", "it is not supported");
  if (const auto type = find(archive, "rope.scaling.type"); type && type->as_string() != "none")
    for (const char* key : {"rope.scaling.factor", "rope.scale_linear"})
      if (const auto factor = find(archive, key); factor && factor->as_number() != 1)
        factor->fail("1", "scaled rotary positions are not supported");
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

// Decodes a tensor row by row into the order of Hugging Face files.
void decode_tensor(const GgufTensor& tensor, const GgufName& name, size_t head_dim,
                   View1<float> target) {
  if (!name.rotary) return decode_blocks(tensor.type, tensor.bytes, target);
  const size_t rows = name.shape[0], cols = name.shape[1];
  const size_t row_bytes = block_row_bytes(tensor.type, cols);
  for (size_t row = 0; row < rows; ++row)
    decode_blocks(tensor.type, tensor.bytes.subspan(gguf_row(row, head_dim) * row_bytes, row_bytes),
                  target.slice(row * cols, cols));
}

}  // namespace

std::vector<GgufName> gguf_names(const ModelConfig& config) {
  const ModelConfig c = normalized(config);
  const bool plain = c.architecture == "llama" && c.attention.mechanism == "softmax" &&
                     c.attention.values.size() == 1 && c.attention.values.count("rope_theta") == 1;
  if (!plain || c.head_dim % 2 != 0)
    throw Error(
        {.kind = ErrorKind::usage,
         .doing = "naming tensors for GGUF",
         .expected = "a Llama model with softmax attention and plain rotary positions",
         .found = fmt::format("{} with {} attention", c.architecture, c.attention.mechanism),
         .hint = "GGUF has no word for it; keep the Hugging Face folder"});
  std::vector<GgufName> names;
  for (const ParameterSpec& spec : parameter_specs(c)) {
    std::string gguf = gguf_name(spec.name);
    const bool rotary =
        gguf.find(".attn_q.") != std::string::npos || gguf.find(".attn_k.") != std::string::npos;
    names.push_back({spec.name, std::move(gguf), spec.shape, rotary});
  }
  return names;
}

ModelConfig read_gguf_config(const GgufArchive& archive) {
  refuse_unsupported(archive);
  ModelConfig c;
  c.architecture = "llama";
  const GgufTensor embedding = archive.tensor(kEmbedding);
  c.vocab_size = embedding.shape[0];
  if (const auto vocab = find(archive, "vocab_size"); vocab && read_size(*vocab) != c.vocab_size)
    vocab->fail(fmt::format("{} (rows of token_embd.weight)", c.vocab_size));
  c.hidden_size = read_size(archive, "embedding_length");
  c.intermediate_size = read_size(archive, "feed_forward_length");
  c.layers = read_size(archive, "block_count");
  c.heads = read_size(archive, "attention.head_count");
  c.kv_heads = read_size(archive, "attention.head_count_kv", c.heads);
  c.head_dim = read_size(archive, "attention.key_length", c.hidden_size / c.heads);
  if (!find(archive, "attention.key_length") && c.hidden_size % c.heads != 0)
    archive.at("llama.attention.head_count")
        .fail(fmt::format("a divisor of embedding_length {}", c.hidden_size));
  expect_size(archive, "attention.value_length", c.head_dim);
  expect_size(archive, "rope.dimension_count", c.head_dim);
  if (c.head_dim % 2 != 0)
    refuse(archive, "head_dim", "an even number", std::to_string(c.head_dim));
  c.context_length = read_size(archive, "context_length");
  // An f32 in the file; the shortest decimal that names it is the number that was meant.
  const auto decimal = [](const GgufValue& value) {
    return value.kind() == GgufKind::f32
               ? std::stod(fmt::format("{}", static_cast<float>(value.as_number())))
               : value.as_number();
  };
  c.rms_norm_eps = decimal(archive.at("llama.attention.layer_norm_rms_epsilon"));
  const auto theta = find(archive, "rope.freq_base");
  if (theta && !(theta->as_number() > 0)) theta->fail("a positive number");
  c.attention.values["rope_theta"] = theta ? decimal(*theta) : kDefaultRopeTheta;
  c.tie_embeddings = !archive.find_tensor(kHead);
  read_ids(archive, c);
  c = normalized(std::move(c));
  try {
    check_config(c);
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
  const auto size = [&](const char* key, size_t value) {
    metadata.set_u32(std::string("llama.") + key, static_cast<uint32_t>(value));
  };
  metadata.set_string("general.architecture", "llama");
  size("block_count", c.layers);
  size("context_length", c.context_length);
  size("embedding_length", c.hidden_size);
  size("feed_forward_length", c.intermediate_size);
  size("attention.head_count", c.heads);
  size("attention.head_count_kv", c.kv_heads);
  metadata.set_f32("llama.rope.freq_base",
                   static_cast<float>(std::get<double>(c.attention.values.at("rope_theta"))));
  metadata.set_f32("llama.attention.layer_norm_rms_epsilon", static_cast<float>(c.rms_norm_eps));
  size("attention.key_length", c.head_dim);
  size("attention.value_length", c.head_dim);
  size("vocab_size", c.vocab_size);
  size("rope.dimension_count", c.head_dim);
  const auto id = [&](const char* name, int32_t value) {
    metadata.set_u32(fmt::format("tokenizer.ggml.{}_token_id", name), static_cast<uint32_t>(value));
  };
  if (!c.bos_ids.empty()) id("bos", c.bos_ids[0]);
  if (!c.eos_ids.empty()) id("eos", c.eos_ids[0]);
  if (c.eos_ids.size() > 1) id("eot", c.eos_ids[1]);
  if (c.pad_id) id("padding", *c.pad_id);
}

void check_gguf_tensors(const GgufArchive& archive, const ModelConfig& config) {
  std::set<std::string, std::less<>> known;
  for (const GgufName& name : gguf_names(config)) {
    const GgufTensor tensor = archive.tensor(name.gguf);
    const std::string label = "tensor " + in_quotes(name.gguf);
    if (tensor.shape != name.shape)
      refuse(archive, label, to_string(name.shape) + " (by the file's metadata)",
             to_string(tensor.shape));
    if (!can_decode(tensor.type))
      refuse(archive, label, "a type that can be decoded",
             std::string(block_type_name(tensor.type)));
    known.insert(name.gguf);
  }
  for (size_t i = 0; i < archive.tensor_count(); ++i) {
    const GgufTensor tensor = archive.tensor(i);
    if (known.count(tensor.name) == 0)
      refuse(archive, "tensor " + in_quotes(tensor.name), "only tensors of plain Llama models",
             to_string(tensor.shape),
             tensor.name == "rope_freqs.weight" ? "scaled rotary positions are not supported"
                                                : "a feature that is not supported");
  }
}

Model load_gguf_model(const Path& path) {
  const GgufArchive archive(path);
  ModelConfig config = read_gguf_config(archive);
  check_gguf_tensors(archive, config);
  const std::vector<GgufName> names = gguf_names(config);
  Model model(std::move(config));
  for (size_t i = 0; i < names.size(); ++i)
    decode_tensor(archive.tensor(names[i].gguf), names[i], model.config().head_dim,
                  model.values(model.parameters()[i]));
  return model;
}

}  // namespace cairn
