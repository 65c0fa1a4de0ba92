// Names and row order of tensors.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/io/json.h"
#include "cairn/model/architecture.h"
#include "cairn/model/gguf.h"
#include "cairn/model/gguf_family.h"

namespace cairn {
namespace {

struct Pair {
  std::string_view hf, gguf;
};

// Within model.layers.N. and blk.N.
constexpr std::array kLayerNames = {
    Pair{"input_layernorm", "attn_norm"},
    Pair{"self_attn.q_proj", "attn_q"},
    Pair{"self_attn.k_proj", "attn_k"},
    Pair{"self_attn.v_proj", "attn_v"},
    Pair{"self_attn.qkv_proj", "attn_qkv"},
    Pair{"self_attn.o_proj", "attn_output"},
    Pair{"self_attn.q_norm", "attn_q_norm"},
    Pair{"self_attn.k_norm", "attn_k_norm"},
    Pair{"post_attention_layernorm", "ffn_norm"},
    Pair{"mlp.gate_proj", "ffn_gate"},
    Pair{"mlp.up_proj", "ffn_up"},
    Pair{"mlp.gate_up_proj", "ffn_up"},
    Pair{"mlp.down_proj", "ffn_down"},
    Pair{"block_sparse_moe.router.layer", "ffn_gate_inp"},
    Pair{"block_sparse_moe.output_linear", "ffn_down_exps"},
    Pair{"shared_mlp.output_linear", "ffn_down_shexp"},
};
// Where each branch has a norm behind it too.
constexpr std::array kPostNormNames = {
    Pair{"post_attention_layernorm", "post_attention_norm"},
    Pair{"pre_feedforward_layernorm", "ffn_norm"},
    Pair{"post_feedforward_layernorm", "post_ffw_norm"},
};
// Tensors whose first half of rows, of each expert, is the gate and whose second is the up.
struct Halves {
  std::string_view hf, gate, up;
};
constexpr std::array kHalves = {
    Halves{"block_sparse_moe.input_linear", "ffn_gate_exps", "ffn_up_exps"},
    Halves{"shared_mlp.input_linear", "ffn_gate_shexp", "ffn_up_shexp"},
};
constexpr std::array kOuterNames = {
    Pair{"model.embed_tokens", "token_embd"},
    Pair{"model.norm", "output_norm"},
    Pair{"lm_head", "output"},
};

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

template <class Names>
std::string_view look_up(const Names& names, std::string_view hf) {
  for (const Pair& pair : names)
    if (pair.hf == hf) return pair.gguf;
  return {};
}

// A Hugging Face name in pieces: "model.layers." 3 ". self_attn.q_proj" ".weight".
struct NameParts {
  std::string layer;  // "blk.3.", empty outside layers
  std::string_view module, kind;
};

NameParts split(std::string_view hf) {
  constexpr std::string_view kPrefix = "model.layers.";
  NameParts parts;
  if (hf.substr(0, kPrefix.size()) == kPrefix) {
    hf.remove_prefix(kPrefix.size());
    const size_t dot = std::min(hf.find('.'), hf.size() - 1);
    parts.layer = fmt::format("blk.{}.", hf.substr(0, dot));
    hf.remove_prefix(dot + 1);
  }
  const size_t dot = hf.rfind('.');
  parts.module = hf.substr(0, dot);
  parts.kind = dot == std::string_view::npos ? std::string_view() : hf.substr(dot);
  return parts;
}

std::string_view gguf_module(const NameParts& parts, const ModelConfig& c) {
  if (parts.layer.empty()) return look_up(kOuterNames, parts.module);
  const auto post = c.post_norms ? look_up(kPostNormNames, parts.module) : std::string_view();
  return post.empty() ? look_up(kLayerNames, parts.module) : post;
}

[[noreturn]] void refuse(const std::string& subject, const std::string& expected,
                         const std::string& found) {
  throw Error({.kind = ErrorKind::usage,
               .doing = "naming tensors for GGUF",
               .subject = subject,
               .expected = expected,
               .found = found,
               .hint = "GGUF has no word for it; keep the Hugging Face folder"});
}

// One tensor of the file, or two where it is halves.
void add_names(const StoredRows& stored, const Shape& shape, const ModelConfig& c, bool adjacent,
               std::vector<GgufName>& names) {
  GgufName name{.hf = stored.name, .hf_shape = shape, .shape = shape};
  if (c.has_encoder()) {
    name.gguf = gguf_t5_name(stored.name);
    names.push_back(std::move(name));
    return;
  }
  const NameParts parts = split(stored.name);
  for (const Halves& halves : kHalves) {
    if (parts.module != halves.hf) continue;
    const size_t rows = shape[shape.size() - 2];
    name.shape[shape.size() - 2] = rows / 2;
    for (const bool up : {false, true}) {
      name.gguf = parts.layer + std::string(up ? halves.up : halves.gate) + ".weight";
      name.order = {.group = rows / 2, .stride = rows, .first = up ? rows / 2 : 0};
      names.push_back(name);
    }
    return;
  }
  const std::string_view module = gguf_module(parts, c);
  if (module.empty()) refuse("tensor " + in_quotes(stored.name), "one that GGUF names", "none");
  name.gguf = parts.layer + std::string(module) + std::string(parts.kind);
  if (adjacent && (module == "attn_q" || module == "attn_k")) name.order.rotary_head = c.head_dim;
  if (ends_with(stored.name, "norm.weight")) name.offset = c.norm_offset;
  names.push_back(std::move(name));
}

}  // namespace

size_t RowOrder::hf_row(size_t gguf_row) const {
  size_t row = gguf_row;
  if (rotary_head != 0) {
    const size_t at = row % rotary_head;
    row = row - at + at / 2 + (at % 2) * (rotary_head / 2);
  }
  return group == 0 ? row : row / group * stride + first + row % group;
}

std::vector<GgufName> gguf_names(const ModelConfig& config) {
  const ModelConfig c = normalized(config);
  const GgufFamily& family = gguf_family(c);
  if (c.attention.mechanism != "softmax" && !c.has_encoder())
    refuse("attention", "softmax", c.attention.mechanism);
  std::map<std::string, Shape> shapes;
  for (ParameterSpec& spec : parameter_specs(c)) shapes.emplace(spec.name, std::move(spec.shape));
  const bool rotates =
      !c.has_encoder() && gguf_softmax_options(c.attention, c).position == PositionKind::rope;
  std::vector<GgufName> names;
  for (const StoredRows& stored : stored_tensors(c)) {
    Shape shape = shapes.at(stored.parts[0]);
    for (size_t i = 1; i < stored.parts.size(); ++i) shape[0] += shapes.at(stored.parts[i])[0];
    add_names(stored, shape, c, family.adjacent && rotates, names);
  }
  return names;
}

}  // namespace cairn
