#include "cairn/kernels/tile_unit.h"

#include <cstring>

#include "cairn/base/error.h"

namespace cairn {
namespace {

float half_of(uint16_t bits) {
  return f16{bits}.to_float();
}

// What decode_blocks computes from a block, in its order of operations.
void decode_unit(TileKind kind, const TileUnit& unit, float* y) {
  const TileLayout layout = tile_layout(kind);
  const float d = half_of(unit.scale), offset = half_of(unit.offset);
  for (size_t e = 0; e < layout.unit_inputs; ++e) {
    const auto q = static_cast<float>(unit.codes[e] - layout.zero);
    const uint8_t fine = unit.scales[e / 16];
    switch (kind) {
      case TileKind::t4a:
      case TileKind::t5a:
        y[e] = d * q + offset;
        break;
      case TileKind::t2k:
        y[e] = d * static_cast<float>(fine & 15) * q - offset * static_cast<float>(fine >> 4);
        break;
      case TileKind::t3k:
      case TileKind::t6k:
        y[e] = d * static_cast<float>(static_cast<int8_t>(fine)) * q;
        break;
      case TileKind::t4k:
      case TileKind::t5k:
        y[e] = d * static_cast<float>(unit.scales[e / 32 * 2]) * q -
               offset * static_cast<float>(unit.scales[e / 32 * 2 + 1]);
        break;
      default:
        y[e] = d * q;
    }
  }
}

void decode_plain_row(TileKind kind, const uint8_t* group, size_t r, View1<float> y) {
  for (size_t k = 0; k < y.size; ++k) {
    const uint8_t* at = group + plain_weight_at(kind, r, k);
    uint16_t half = 0;
    std::memcpy(&half, at, 2);
    if (kind == TileKind::tf32)
      std::memcpy(&y[k], at, 4);
    else
      y[k] = kind == TileKind::tf16 ? half_of(half) : bf16{half}.to_float();
  }
}

}  // namespace

void gather_block(const TileLayout& layout, const uint8_t* block, size_t r, uint8_t* codes) {
  for (size_t k = 0; k < kTileInputs; ++k) {
    const size_t at = 4 * r + k % 4;
    unsigned code = 0;
    if (layout.zero == 128) code = block[64 * (k / 4) + at];  // t8
    if (layout.nibbles != 0) code = block[64 * (k / 8) + at] >> 4 * (k / 4 % 2) & 15U;
    if (layout.pair_shift >= 0)
      code |= (block[layout.pairs_at() + 64 * (k / 16) + at] >> 2 * (k / 4 % 4) & 3U)
              << layout.pair_shift;
    if (layout.bit_shift >= 0)
      code |= (block[layout.bits_at() + 8 * (k / 4) + at / 8] >> at % 8 & 1U) << layout.bit_shift;
    codes[k] = static_cast<uint8_t>(code);
  }
}

void gather_unit(const TileLayout& layout, const uint8_t* group, size_t u, size_t r,
                 TileUnit& unit) {
  const uint8_t* header = group + layout.header_at(u);
  const uint8_t* body = group + layout.body_at(u);
  std::memcpy(&unit.scale, header + 2 * r, 2);
  unit.offset = 0;
  if (layout.header_bytes == 64) std::memcpy(&unit.offset, header + 32 + 2 * r, 2);
  for (size_t i = 0; i < 16; ++i)
    unit.scales[i] = layout.scale_bytes != 0 ? body[16 * i + r] : uint8_t{0};
  for (size_t b = 0; b < layout.unit_inputs / kTileInputs; ++b)
    gather_block(layout, body + layout.scale_bytes + b * layout.block_bytes, r,
                 unit.codes + kTileInputs * b);
}

void decode_tile_group(TileKind kind, std::span<const std::byte> tiles, View2<float> y) {
  const size_t bytes = tile_group_bytes(kind, y.cols);
  if (tiles.size() != bytes || y.rows > kTileRows)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "decoding a row group",
                 .expected = std::to_string(bytes) + " bytes and at most 16 rows",
                 .found = std::to_string(tiles.size()) + ", " + std::to_string(y.rows)});
  const TileLayout layout = tile_layout(kind);
  const auto* group = reinterpret_cast<const uint8_t*>(tiles.data());
  TileUnit unit;
  for (size_t r = 0; r < y.rows; ++r) {
    if (layout.header_bytes == 0) {
      decode_plain_row(kind, group, r, y[r]);
      continue;
    }
    for (size_t u = 0; u < y.cols / layout.unit_inputs; ++u) {
      gather_unit(layout, group, u, r, unit);
      decode_unit(kind, unit, y[r].data + u * layout.unit_inputs);
    }
  }
}

}  // namespace cairn
