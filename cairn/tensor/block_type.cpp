#include "cairn/tensor/block_type.h"

#include <algorithm>
#include <array>

#include "cairn/base/error.h"

namespace cairn {
namespace {

constexpr BlockTypeInfo plain(BlockType type, std::string_view name, size_t bytes, DType dtype) {
  return {type, name, 1, bytes, false, dtype};
}
constexpr BlockTypeInfo packed(BlockType type, std::string_view name, size_t size, size_t bytes) {
  return {type, name, size, bytes, true, {}};
}

constexpr std::array kTypes = {
    plain(BlockType::f32, "f32", 4, DType::f32),    plain(BlockType::f16, "f16", 2, DType::f16),
    packed(BlockType::q4_0, "q4_0", 32, 18),        packed(BlockType::q4_1, "q4_1", 32, 20),
    packed(BlockType::q5_0, "q5_0", 32, 22),        packed(BlockType::q5_1, "q5_1", 32, 24),
    packed(BlockType::q8_0, "q8_0", 32, 34),        packed(BlockType::q8_1, "q8_1", 32, 36),
    packed(BlockType::q2_k, "q2_k", 256, 84),       packed(BlockType::q3_k, "q3_k", 256, 110),
    packed(BlockType::q4_k, "q4_k", 256, 144),      packed(BlockType::q5_k, "q5_k", 256, 176),
    packed(BlockType::q6_k, "q6_k", 256, 210),      packed(BlockType::q8_k, "q8_k", 256, 292),
    packed(BlockType::iq2_xxs, "iq2_xxs", 256, 66), packed(BlockType::iq2_xs, "iq2_xs", 256, 74),
    packed(BlockType::iq3_xxs, "iq3_xxs", 256, 98), packed(BlockType::iq1_s, "iq1_s", 256, 50),
    packed(BlockType::iq4_nl, "iq4_nl", 32, 18),    packed(BlockType::iq3_s, "iq3_s", 256, 110),
    packed(BlockType::iq2_s, "iq2_s", 256, 82),     packed(BlockType::iq4_xs, "iq4_xs", 256, 136),
    plain(BlockType::i8, "i8", 1, DType::i8),       plain(BlockType::i16, "i16", 2, DType::i16),
    plain(BlockType::i32, "i32", 4, DType::i32),    plain(BlockType::i64, "i64", 8, DType::i64),
    plain(BlockType::f64, "f64", 8, DType::f64),    packed(BlockType::iq1_m, "iq1_m", 256, 56),
    plain(BlockType::bf16, "bf16", 2, DType::bf16), packed(BlockType::tq1_0, "tq1_0", 256, 54),
    packed(BlockType::tq2_0, "tq2_0", 256, 66),     packed(BlockType::mxfp4, "mxfp4", 32, 17),
    packed(BlockType::nvfp4, "nvfp4", 64, 36),      packed(BlockType::q1_0, "q1_0", 128, 18),
    packed(BlockType::q2_0, "q2_0", 64, 18),
};

constexpr char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

}  // namespace

const BlockTypeInfo* find_block_type(uint32_t id) {
  for (const BlockTypeInfo& info : kTypes)
    if (static_cast<uint32_t>(info.type) == id) return &info;
  return nullptr;
}

const BlockTypeInfo* find_block_type(std::string_view name) {
  for (const BlockTypeInfo& info : kTypes)
    if (std::equal(name.begin(), name.end(), info.name.begin(), info.name.end(),
                   [](char a, char b) { return lower(a) == b; }))
      return &info;
  return nullptr;
}

std::string describe_unknown_block_type(uint32_t id) {
  constexpr std::array<std::string_view, 39> kRetired = [] {
    std::array<std::string_view, 39> names{};
    names[4] = "Q4_2", names[5] = "Q4_3";
    names[31] = "Q4_0_4_4", names[32] = "Q4_0_4_8", names[33] = "Q4_0_8_8";
    names[36] = "IQ4_NL_4_4", names[37] = "IQ4_NL_4_8", names[38] = "IQ4_NL_8_8";
    return names;
  }();
  if (id < kRetired.size() && !kRetired[id].empty())
    return std::string(kRetired[id]) + " (type " + std::to_string(id) + "), which is retired";
  return "type " + std::to_string(id) + (id >= 97 && id < 1000 ? ", of ik_llama.cpp alone" : "");
}

const BlockTypeInfo& block_type_info(BlockType type) {
  const BlockTypeInfo* info = find_block_type(static_cast<uint32_t>(type));
  if (info == nullptr)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "looking for a block type",
                 .found = describe_unknown_block_type(static_cast<uint32_t>(type))});
  return *info;
}

std::string_view block_type_name(BlockType type) {
  return block_type_info(type).name;
}

std::optional<BlockType> block_type_of(DType dtype) {
  for (const BlockTypeInfo& info : kTypes)
    if (info.dtype == dtype) return info.type;
  return std::nullopt;
}

size_t block_row_bytes(BlockType type, size_t elements) {
  const BlockTypeInfo& info = block_type_info(type);
  if (elements % info.block_size != 0)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "laying out a row of " + std::string(info.name),
                 .expected = "a multiple of " + std::to_string(info.block_size) + " elements",
                 .found = std::to_string(elements)});
  size_t bytes = 0;
  if (__builtin_mul_overflow(elements / info.block_size, info.block_bytes, &bytes))
    throw Error({.kind = ErrorKind::data,
                 .doing = "laying out a row of " + std::string(info.name),
                 .expected = "fewer than 2^64 bytes"});
  return bytes;
}

size_t block_bytes(BlockType type, const Shape& shape) {
  const size_t row = block_row_bytes(type, shape.empty() ? 1 : shape.back());
  size_t bytes = row;
  for (size_t i = 0; i + 1 < shape.size(); ++i)
    if (__builtin_mul_overflow(bytes, shape[i], &bytes))
      throw Error({.kind = ErrorKind::data,
                   .doing = "laying out a tensor of " + std::string(block_type_name(type)),
                   .expected = "fewer than 2^64 bytes",
                   .found = to_string(shape)});
  return bytes;
}

}  // namespace cairn
