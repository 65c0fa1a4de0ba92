#include "cairn/infer/quantization_mix.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

#include "cairn/base/error.h"
#include "cairn/base/suggest.h"
#include "cairn/io/json.h"

namespace cairn {
namespace {

enum FileTypeId : uint32_t {
  kQ4_0 = 2,
  kQ8_0 = 7,
  kQ5_0 = 8,
  kQ2K = 10,
  kQ3KS = 11,
  kQ3KM = 12,
  kQ3KL = 13,
  kQ4KS = 14,
  kQ4KM = 15,
  kQ5KM = 17,
};

constexpr std::array kFileTypes = {
    FileType{"f32", 0, BlockType::f32},         FileType{"f16", 1, BlockType::f16},
    FileType{"bf16", 32, BlockType::bf16},      FileType{"q8_0", kQ8_0, BlockType::q8_0},
    FileType{"q6_k", 18, BlockType::q6_k},      FileType{"q5_k_m", kQ5KM, BlockType::q5_k},
    FileType{"q5_k_s", 16, BlockType::q5_k},    FileType{"q5_1", 9, BlockType::q5_1},
    FileType{"q5_0", kQ5_0, BlockType::q5_0},   FileType{"q4_k_m", kQ4KM, BlockType::q4_k},
    FileType{"q4_k_s", kQ4KS, BlockType::q4_k}, FileType{"q4_1", 3, BlockType::q4_1},
    FileType{"q4_0", kQ4_0, BlockType::q4_0},   FileType{"q3_k_l", kQ3KL, BlockType::q3_k},
    FileType{"q3_k_m", kQ3KM, BlockType::q3_k}, FileType{"q3_k_s", kQ3KS, BlockType::q3_k},
    FileType{"q2_k", kQ2K, BlockType::q2_k},
};

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// N of "blk.N.attn_v.weight"; 0 where there is none.
size_t layer_of(std::string_view name) {
  const size_t at = name.find("blk.");
  size_t layer = 0;
  if (at != std::string_view::npos)
    std::from_chars(name.data() + at + 4, name.data() + name.size(), layer);
  return layer;
}

// The first and the last eighth of the layers and every third between them.
bool gets_more_bits(size_t layer, size_t layers) {
  const size_t eighth = layers / 8;
  return layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
}

// Of eight experts the attention is so small a part that it costs little to keep it whole.
constexpr size_t kFewExperts = 8;

BlockType attention_value_type(const FileType& type, size_t layer, const MixModel& model) {
  if (model.experts == kFewExperts) return BlockType::q8_0;
  switch (type.id) {
    case kQ2K:
      return model.heads / std::max<size_t>(1, model.kv_heads) >= 4 ? BlockType::q4_k
                                                                    : BlockType::q3_k;
    case kQ3KM:
      return layer < 2 ? BlockType::q5_k : BlockType::q4_k;
    case kQ3KL:
      return BlockType::q5_k;
    case kQ4KS:
      return layer < 4 ? BlockType::q5_k : type.base;
    case kQ4KM:
    case kQ5KM:
      return gets_more_bits(layer, model.layers) ? BlockType::q6_k : type.base;
    default:
      return type.base;
  }
}

BlockType down_projection_type(const FileType& type, size_t layer, const MixModel& model) {
  switch (type.id) {
    // Weighted errors of a few columns grow large in the first layers where blocks have no minimum.
    case kQ4_0:
      return model.weighted && layer < model.layers / 8 ? BlockType::q4_1 : type.base;
    case kQ5_0:
      return model.weighted && layer < model.layers / 8 ? BlockType::q5_1 : type.base;
    case kQ2K:
      return BlockType::q3_k;
    case kQ3KM:
      return layer < model.layers / 16 ? BlockType::q5_k : BlockType::q4_k;
    case kQ3KL:
      return BlockType::q5_k;
    case kQ4KS:
      return layer < model.layers / 8 ? BlockType::q5_k : type.base;
    case kQ4KM:
    case kQ5KM:
      return gets_more_bits(layer, model.layers) ? BlockType::q6_k : type.base;
    default:
      return type.base;
  }
}

BlockType attention_output_type(const FileType& type, const MixModel& model) {
  if (model.experts == kFewExperts) {
    const bool below = type.id == kQ2K || type.id == kQ3KS || type.id == kQ3KM ||
                       type.id == kQ4KS || type.id == kQ4KM;
    return below ? BlockType::q5_k : type.base;
  }
  if (type.id == kQ2K) return BlockType::q3_k;
  if (type.id == kQ3KM) return BlockType::q4_k;
  if (type.id == kQ3KL) return BlockType::q5_k;
  return type.base;
}

BlockType fused_attention_type(const FileType& type) {
  if (type.id == kQ3KM || type.id == kQ3KL) return BlockType::q4_k;
  if (type.id == kQ4KM) return BlockType::q5_k;
  if (type.id == kQ5KM) return BlockType::q6_k;
  return type.base;
}

// What holds rows that K types cannot cut into blocks of 256.
BlockType that_fits(BlockType type, size_t cols) {
  if (cols % block_type_info(type).block_size == 0) return type;
  BlockType other = BlockType::f16;
  if (type == BlockType::q2_k || type == BlockType::q3_k) other = BlockType::q4_0;
  if (type == BlockType::q4_k) other = BlockType::q5_0;
  if (type == BlockType::q5_k) other = BlockType::q5_1;
  if (type == BlockType::q6_k) other = BlockType::q8_0;
  return cols % block_type_info(other).block_size == 0 ? other : BlockType::f16;
}

// Whether a tensor is a matrix of weights that products read.
bool is_mixed(std::string_view name, const Shape& shape) {
  if (!ends_with(name, "weight") || (shape.size() != 2 && shape.size() != 3)) return false;
  for (const std::string_view kept : {"_norm.weight", "ffn_gate_inp.weight", "attn_rel_b.weight",
                                      "position_embd.weight", "token_types.weight"})
    if (ends_with(name, kept)) return false;
  return !contains(name, "ssm_conv1d") && !contains(name, "shortconv");
}

}  // namespace

std::span<const FileType> file_types() {
  return kFileTypes;
}

const FileType& find_file_type(std::string_view name) {
  std::string wanted(name);
  std::transform(wanted.begin(), wanted.end(), wanted.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (wanted == "q3_k" || wanted == "q4_k" || wanted == "q5_k") wanted += "_m";
  std::vector<std::string> names;
  std::string list;
  for (const FileType& type : kFileTypes) {
    if (type.name == wanted) return type;
    names.emplace_back(type.name);
    list += (list.empty() ? "" : ", ") + names.back();
  }
  throw Error({.kind = ErrorKind::usage,
               .doing = "choosing a type to write",
               .expected = "one of " + list,
               .found = in_quotes(name),
               .hint = did_you_mean(wanted, names)});
}

const FileType* find_file_type(uint32_t id) {
  for (const FileType& type : kFileTypes)
    if (type.id == id) return &type;
  return nullptr;
}

std::optional<BlockType> mixed_type(const FileType& file_type, std::string_view name,
                                    const Shape& shape, const MixModel& model) {
  if (!is_mixed(name, shape)) return std::nullopt;
  const BlockTypeInfo& base = block_type_info(file_type.base);
  if (!base.quantized) return file_type.base;
  const size_t cols = shape.back(), layer = layer_of(name);
  BlockType type = file_type.base;
  if (name == "output.weight" || (model.tied_head && name == "token_embd.weight")) {
    const bool whole = cols % base.block_size == 0;
    type = whole && file_type.base != BlockType::q8_0 ? BlockType::q6_k : BlockType::q8_0;
  } else if (contains(name, "attn_v.weight")) {
    type = attention_value_type(file_type, layer, model);
  } else if (contains(name, "ffn_down")) {
    type = down_projection_type(file_type, layer, model);
  } else if (contains(name, "attn_output.weight")) {
    type = attention_output_type(file_type, model);
  } else if (contains(name, "attn_k.weight") && model.experts == kFewExperts) {
    type = BlockType::q8_0;
  } else if (contains(name, "attn_qkv.weight")) {
    type = fused_attention_type(file_type);
  }
  return that_fits(type, cols);
}

}  // namespace cairn
