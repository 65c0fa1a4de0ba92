// How the bytes of a row group lie: shared by packing and by the products, nobody else's business.
//
// A unit is a block of the file, 32 or 256 inputs, times 16 rows:
//   header  f16 scales of the rows, 32 bytes, or scales and offsets, 64 bytes. Two units with short
//           headers share one line for them, and their bodies follow; so bodies begin at lines.
//   scales  256 bytes in k kinds. t4k, t5k: for each 32 inputs 16 scales, then 16 offsets.
//           t6k, t3k (int8), t2k (scale in the low nibble, offset in the high one): for each 16
//           inputs 16 bytes, one a row.
//   blocks  the codes of 32 inputs each, as planes of bits one after another.
//
// Vector v of a block (v < 8) is a register of codes: byte 4r + i belongs to row r and input
// 4v + i. The planes:
//   nibbles  4 lines: line j has vector 2j in its low nibbles and 2j + 1 in its high ones
//   pairs    2 lines: line h has vector 4h + f in bits 2f and 2f + 1
//   bits     8 masks of 64 bits: bit 4r + i of mask v
// t8 has none of these: its line v is vector v.
// Plain kinds are blocks without headers: bf16 in 16 lines, line j with inputs 2j and 2j + 1 of row
// r in bytes 4r to 4r + 3; f16 and f32 input by input, 16 rows each.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cairn/kernels/tile_products.h"
#include "cairn/kernels/tiles.h"

namespace cairn {

inline constexpr size_t kTileInputs = 32;  // of a block

struct TileLayout {
  size_t unit_inputs;   // 32 or 256
  size_t header_bytes;  // 0, 32 or 64
  size_t scale_bytes;   // 0 or 256
  size_t block_bytes;   // of 32 inputs
  int nibbles;          // 1 when there is a plane of bits 0 to 3
  int pair_shift;       // the lowest bit of the plane of pairs, or -1
  int bit_shift;        // the bit of the plane of bits, or -1
  int zero;             // the code of weight 0, where weights are symmetric

  constexpr size_t body_bytes() const {
    return scale_bytes + unit_inputs / kTileInputs * block_bytes;
  }
  // Where unit u of a group lies.
  constexpr size_t header_at(size_t u) const {
    if (header_bytes == 32) return u / 2 * (64 + 2 * body_bytes()) + u % 2 * 32;
    return u * (header_bytes + body_bytes());
  }
  constexpr size_t body_at(size_t u) const {
    if (header_bytes == 32) return u / 2 * (64 + 2 * body_bytes()) + 64 + u % 2 * body_bytes();
    return u * (header_bytes + body_bytes()) + header_bytes;
  }
  constexpr size_t group_bytes(size_t units) const {
    return units * body_bytes() + (units * header_bytes + 63) / 64 * 64;
  }
  // Planes of a block, in this order.
  constexpr size_t pairs_at() const { return nibbles != 0 ? 256 : 0; }
  constexpr size_t bits_at() const { return pairs_at() + (pair_shift >= 0 ? 128 : 0); }
};

constexpr TileLayout tile_layout(TileKind kind) {
  switch (kind) {  // unit, header, scales, block, nibbles, pairs, bits, zero
    case TileKind::t4s:
      return {32, 32, 0, 256, 1, -1, -1, 8};
    case TileKind::t4a:
      return {32, 64, 0, 256, 1, -1, -1, 0};
    case TileKind::t5s:
      return {32, 32, 0, 320, 1, -1, 4, 16};
    case TileKind::t5a:
      return {32, 64, 0, 320, 1, -1, 4, 0};
    case TileKind::t8:
      return {32, 32, 0, 512, 0, -1, -1, 128};
    case TileKind::t2k:
      return {256, 64, 256, 128, 0, 0, -1, 0};
    case TileKind::t3k:
      return {256, 32, 256, 192, 0, 0, 2, 4};
    case TileKind::t4k:
      return {256, 64, 256, 256, 1, -1, -1, 0};
    case TileKind::t5k:
      return {256, 64, 256, 320, 1, -1, 4, 0};
    case TileKind::t6k:
      return {256, 32, 256, 384, 1, 4, -1, 32};
    case TileKind::tb16:
    case TileKind::tf16:
      return {32, 0, 0, 1024, 0, -1, -1, 0};
    case TileKind::tf32:
      break;
  }
  return {32, 0, 0, 2048, 0, -1, -1, 0};
}

// Kinds whose weights are scale * code + offset.
constexpr bool has_offset(TileKind kind) {
  return tile_layout(kind).header_bytes == 64;
}
// Kinds with a scale for each 16 inputs; the others have one for each 32.
constexpr bool has_two_scales(TileKind kind) {
  return kind == TileKind::t2k || kind == TileKind::t3k || kind == TileKind::t6k;
}

// 32 inputs of one token, rounded: what the products read beside a block of quantised weights.
// Sums are of the bytes.
struct ByteRecord {
  int8_t q[32];        // round(x / scale)
  float scale;         // largest |x| / 127
  float scaled_sum;    // scale * sum of all 32
  float scaled_low;    // scale * sum of the first 16
  float scaled_high;   // scale * sum of the last 16
  int32_t minus_low;   // -sum of the first 16
  int32_t minus_high;  // -sum of the last 16
  int32_t minus_8;     // -8 * sum
  int32_t minus_128;   // -128 * sum
};
static_assert(sizeof(ByteRecord) == 64);

// All but the bytes, whose halves add up to low and high.
inline void set_scale_and_sums(float largest, int32_t low, int32_t high, ByteRecord& record) {
  record.scale = largest / 127.0F;
  record.scaled_sum = record.scale * static_cast<float>(low + high);
  record.scaled_low = record.scale * static_cast<float>(low);
  record.scaled_high = record.scale * static_cast<float>(high);
  record.minus_low = -low;
  record.minus_high = -high;
  record.minus_8 = -8 * (low + high);
  record.minus_128 = -128 * (low + high);
}

// The smallest block of activations that is not rounded to zero.
inline constexpr float kSmallestActivation = 1e-30F;

constexpr ActivationKind tile_activation(TileKind kind) {
  if (kind == TileKind::tb16) return ActivationKind::bf16;
  return tile_layout(kind).header_bytes == 0 ? ActivationKind::f32 : ActivationKind::int8;
}

constexpr size_t activation_record_bytes(ActivationKind kind) {
  return kind == ActivationKind::f32 ? 128 : 64;
}

// Where the record of a token and a block lies.
constexpr size_t activation_record_at(const Activations& x, size_t token, size_t block) {
  const size_t blocks = (x.cols + kTileInputs - 1) / kTileInputs;
  const size_t group = token / kTileTokens * kTileTokens;
  const size_t tokens = x.tokens - group < kTileTokens ? x.tokens - group : kTileTokens;
  return (group * blocks + block * tokens + token - group) * activation_record_bytes(x.kind);
}

}  // namespace cairn
