// Random blocks of every type that has tiles: all bits random, scales finite and of the size that
// models have, some of them zero or subnormal.
#pragma once

#include <array>
#include <cstring>
#include <vector>

#include "cairn/base/random.h"
#include "cairn/tensor/block_type.h"

namespace cairn {

inline constexpr std::array kTileTypes = {
    BlockType::q4_0, BlockType::q4_1, BlockType::q5_0, BlockType::q5_1, BlockType::q8_0,
    BlockType::q2_k, BlockType::q3_k, BlockType::q4_k, BlockType::q5_k, BlockType::q6_k,
    BlockType::bf16, BlockType::f16,  BlockType::f32};

// Bytes of a block at which a half-precision scale or offset lies; of plain types, the upper half
// of an element.
inline std::vector<size_t> scale_offsets(BlockType type) {
  switch (type) {
    case BlockType::q4_1:
    case BlockType::q5_1:
    case BlockType::q4_k:
    case BlockType::q5_k:
      return {0, 2};
    case BlockType::q2_k:
      return {80, 82};
    case BlockType::q3_k:
      return {108};
    case BlockType::q6_k:
      return {208};
    case BlockType::f32:
      return {2};
    default:
      return {0};
  }
}

// A scale or weight: mostly about 0.02; one in eight is zero, subnormal or large.
inline float random_scale(const RandomStream& random, uint64_t index) {
  const auto value = static_cast<float>(random.normal(index, 1));
  switch (random.below(24, index, 2)) {
    case 0:
      return 0.0F;
    case 1:
      return 1e-7F * value;  // subnormal in half precision
    case 2:
      return 3.0F * value;
    default:
      return 0.02F * value;
  }
}

// rows * block_row_bytes(type, cols) bytes.
inline std::vector<std::byte> random_blocks(BlockType type, size_t rows, size_t cols,
                                            uint64_t seed = 1) {
  const BlockTypeInfo& info = block_type_info(type);
  const RandomStream random(seed, info.name);
  std::vector<std::byte> bytes(rows * block_row_bytes(type, cols));
  for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
    const uint64_t word = random.bits(i);
    std::memcpy(bytes.data() + i, &word, 8);
  }
  for (size_t at = 0; at < bytes.size(); at += info.block_bytes) {
    if (type == BlockType::f32) {
      const float value = random_scale(random, at);
      std::memcpy(bytes.data() + at, &value, 4);
      continue;
    }
    for (const size_t field : scale_offsets(type)) {
      const float value = random_scale(random, at + field);
      const uint16_t bits =
          type == BlockType::bf16 ? bf16::from_float(value).bits : f16::from_float(value).bits;
      std::memcpy(bytes.data() + at + field, &bits, 2);
    }
  }
  return bytes;
}

}  // namespace cairn
