// Element types of stored weights in blocks: GGUF's type ids, and how each lays out its elements.
// Plain types are blocks of one element. The others hold a run of elements of a row together:
// small integers, and one or more scales that turn them into numbers (kernels/blocks.h does).
//
// All fields are little-endian. Layouts are arrays of bytes, so a block may lie at any address.
// Source: github.com/ggml-org/ggml, docs/gguf.md and its block definitions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "cairn/tensor/dtype.h"
#include "cairn/tensor/shape.h"

namespace cairn {

// The values are the ids that GGUF files store.
enum class BlockType : uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q8_1 = 9,
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  q8_k = 15,
  iq2_xxs = 16,
  iq2_xs = 17,
  iq3_xxs = 18,
  iq1_s = 19,
  iq4_nl = 20,
  iq3_s = 21,
  iq2_s = 22,
  iq4_xs = 23,
  i8 = 24,
  i16 = 25,
  i32 = 26,
  i64 = 27,
  f64 = 28,
  iq1_m = 29,
  bf16 = 30,
  tq1_0 = 34,
  tq2_0 = 35,
  mxfp4 = 39,
  nvfp4 = 40,
  q1_0 = 41,
  q2_0 = 42,
};

struct BlockTypeInfo {
  BlockType type = BlockType::f32;
  std::string_view name;            // "q4_k"; files and people also write it "Q4_K"
  size_t block_size = 1;            // elements
  size_t block_bytes = 4;           // bytes
  bool quantized = false;           // needs general.quantization_version in a file
  std::optional<DType> dtype = {};  // of plain types
};

// The type of an id in a file; null for an id that has no layout.
const BlockTypeInfo* find_block_type(uint32_t id);
// The type of that name, in either case ("q4_k", "Q4_K"); null when there is none.
const BlockTypeInfo* find_block_type(std::string_view name);
// Why an id has no layout: "Q4_2, retired in 2023", "a type of ik_llama.cpp", "unknown".
std::string describe_unknown_block_type(uint32_t id);

const BlockTypeInfo& block_type_info(BlockType type);
std::string_view block_type_name(BlockType type);
// The block type of a plain element type; empty when GGUF has none (u8, bool, ...).
std::optional<BlockType> block_type_of(DType dtype);

// Bytes of a row of `elements`. Throws Error (usage) when they are not whole blocks.
size_t block_row_bytes(BlockType type, size_t elements);
// Bytes of a tensor whose last dimension is the row. Throws Error: usage when rows are not whole
// blocks, data when the size overflows.
size_t block_bytes(BlockType type, const Shape& shape);

// The layouts. qs: integers; d: the scale of a block (half), of its sub-blocks' scales in K types;
// m, dmin: the offset; scales: of sub-blocks, 4, 6 or 8 bits each, packed.
using HalfBytes = uint8_t[2];

struct BlockQ4_0 {  // 32 elements: 4 bits, symmetric
  HalfBytes d;
  uint8_t qs[16];
};
struct BlockQ4_1 {  // 32 elements: 4 bits and an offset
  HalfBytes d, m;
  uint8_t qs[16];
};
struct BlockQ5_0 {  // 32 elements: 5 bits, the highest ones in qh
  HalfBytes d;
  uint8_t qh[4];
  uint8_t qs[16];
};
struct BlockQ5_1 {  // 32 elements
  HalfBytes d, m;
  uint8_t qh[4];
  uint8_t qs[16];
};
struct BlockQ8_0 {  // 32 elements
  HalfBytes d;
  uint8_t qs[32];  // int8
};
struct BlockQ8_1 {  // 32 activations; s = d * sum of qs
  HalfBytes d, s;
  uint8_t qs[32];  // int8
};
struct BlockQ2K {  // 256 elements in 16 sub-blocks: 2 bits and an offset
  uint8_t scales[16];
  uint8_t qs[64];
  HalfBytes d, dmin;
};
struct BlockQ3K {  // 256 elements in 16 sub-blocks: 3 bits, the highest ones in hmask
  uint8_t hmask[32];
  uint8_t qs[64];
  uint8_t scales[12];
  HalfBytes d;
};
struct BlockQ4K {  // 256 elements in 8 sub-blocks: 4 bits and an offset
  HalfBytes d, dmin;
  uint8_t scales[12];
  uint8_t qs[128];
};
struct BlockQ5K {  // 256 elements in 8 sub-blocks: 5 bits and an offset
  HalfBytes d, dmin;
  uint8_t scales[12];
  uint8_t qh[32];
  uint8_t qs[128];
};
struct BlockQ6K {  // 256 elements in 16 sub-blocks: 6 bits, symmetric
  uint8_t ql[128];
  uint8_t qh[64];
  uint8_t scales[16];  // int8
  HalfBytes d;
};
struct BlockQ8K {  // 256 activations; d is an f32; bsums: int16, the sums of 16 elements each
  uint8_t d[4];
  uint8_t qs[256];  // int8
  uint8_t bsums[32];
};
struct BlockIQ4NL {  // 32 elements: 4 bits that choose from kIQ4Values
  HalfBytes d;
  uint8_t qs[16];
};
struct BlockMXFP4 {  // 32 elements: E2M1 under one E8M0 exponent
  uint8_t e;
  uint8_t qs[16];
};

static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20);
static_assert(sizeof(BlockQ5_0) == 22 && sizeof(BlockQ5_1) == 24);
static_assert(sizeof(BlockQ8_0) == 34 && sizeof(BlockQ8_1) == 36 && sizeof(BlockQ8K) == 292);
static_assert(sizeof(BlockQ2K) == 84 && sizeof(BlockQ3K) == 110 && sizeof(BlockQ4K) == 144);
static_assert(sizeof(BlockQ5K) == 176 && sizeof(BlockQ6K) == 210);
static_assert(sizeof(BlockIQ4NL) == 18 && sizeof(BlockMXFP4) == 17);

inline constexpr int8_t kIQ4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};

constexpr float load_half(const HalfBytes& bytes) {
  return f16{static_cast<uint16_t>(bytes[0] | bytes[1] << 8)}.to_float();
}
constexpr void store_half(float value, HalfBytes& bytes) {
  const uint16_t bits = f16::from_float(value).bits;
  bytes[0] = static_cast<uint8_t>(bits & 0xffU);
  bytes[1] = static_cast<uint8_t>(bits >> 8);
}

}  // namespace cairn
