// Packing reads a block of the file into plain codes and scales, and scatters those into the planes
// of its row.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "cairn/base/error.h"
#include "cairn/kernels/tile_layout.h"
#include "cairn/kernels/tile_unit.h"
#include "cairn/kernels/tiles.h"

namespace cairn {
namespace {

[[noreturn]] void refuse_size(TileKind kind, const char* doing, size_t expected, size_t found) {
  throw Error({.kind = ErrorKind::usage,
               .doing = doing + (" " + std::string(block_type_name(block_type_of(kind)))),
               .expected = std::to_string(expected) + " bytes of tiles",
               .found = std::to_string(found)});
}

[[noreturn]] void refuse_value(TileKind kind, size_t row, size_t col) {
  throw Error({.kind = ErrorKind::data,
               .doing = "packing " + std::string(block_type_name(block_type_of(kind))),
               .subject = "row " + std::to_string(row) + ", column " + std::to_string(col),
               .expected = "finite scales and weights",
               .found = "NaN or infinity"});
}

bool finite_half(uint16_t bits) {
  return (bits & 0x7c00U) != 0x7c00U;
}

void copy_nibbles(const uint8_t (&qs)[16], uint8_t* codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = qs[i] & 15;
    codes[i + 16] = qs[i] >> 4;
  }
}

void add_high_bits(const uint8_t (&qh)[4], uint8_t* codes) {
  for (int i = 0; i < 32; ++i)
    codes[i] = static_cast<uint8_t>(codes[i] | (qh[i / 8] >> i % 8 & 1) << 4);
}

uint16_t half_bits(const HalfBytes& bytes) {
  return static_cast<uint16_t>(bytes[0] | bytes[1] << 8);
}

// The fields of a block, element by element. For the packing of each see block_decode.cpp.
void read(const BlockQ4_0& b, TileUnit& u) {
  u.scale = half_bits(b.d);
  copy_nibbles(b.qs, u.codes);
}

void read(const BlockQ4_1& b, TileUnit& u) {
  u.scale = half_bits(b.d);
  u.offset = half_bits(b.m);
  copy_nibbles(b.qs, u.codes);
}

void read(const BlockQ5_0& b, TileUnit& u) {
  u.scale = half_bits(b.d);
  copy_nibbles(b.qs, u.codes);
  add_high_bits(b.qh, u.codes);
}

void read(const BlockQ5_1& b, TileUnit& u) {
  u.scale = half_bits(b.d);
  u.offset = half_bits(b.m);
  copy_nibbles(b.qs, u.codes);
  add_high_bits(b.qh, u.codes);
}

void read(const BlockQ8_0& b, TileUnit& u) {
  u.scale = half_bits(b.d);
  for (int i = 0; i < 32; ++i) u.codes[i] = b.qs[i] ^ 0x80;
}

// Pairs of bits: each byte holds four elements that lie 32 apart in a half block.
void copy_pairs(const uint8_t (&qs)[64], uint8_t* codes) {
  for (int e = 0; e < 256; ++e) codes[e] = qs[32 * (e / 128) + e % 32] >> 2 * (e % 128 / 32) & 3;
}

void read(const BlockQ2K& b, TileUnit& u) {
  u.scale = half_bits(b.d);
  u.offset = half_bits(b.dmin);
  std::memcpy(u.scales, b.scales, 16);
  copy_pairs(b.qs, u.codes);
}

void read(const BlockQ3K& b, TileUnit& u) {
  u.scale = half_bits(b.d);
  for (int sub = 0; sub < 16; ++sub) {
    const int low = sub < 8 ? b.scales[sub] & 15 : b.scales[sub - 8] >> 4;
    const int high = b.scales[8 + sub % 4] >> 2 * (sub / 4) & 3;
    u.scales[sub] = static_cast<uint8_t>((low | high << 4) - 32);
  }
  copy_pairs(b.qs, u.codes);
  for (int e = 0; e < 256; ++e)
    u.codes[e] = static_cast<uint8_t>(u.codes[e] | (b.hmask[e % 32] >> e / 32 & 1) << 2);
}

// Eight 6-bit scales and eight 6-bit offsets in 12 bytes; scale and offset by turns in u.scales.
void copy_scales(const uint8_t (&s)[12], uint8_t* scales) {
  for (int sub = 0; sub < 4; ++sub) {
    scales[2 * sub] = s[sub] & 63;
    scales[2 * sub + 1] = s[sub + 4] & 63;
    scales[2 * sub + 8] = static_cast<uint8_t>((s[sub + 8] & 15) | s[sub] >> 6 << 4);
    scales[2 * sub + 9] = static_cast<uint8_t>(s[sub + 8] >> 4 | s[sub + 4] >> 6 << 4);
  }
}

void read(const BlockQ4K& b, TileUnit& u) {
  u.scale = half_bits(b.d);
  u.offset = half_bits(b.dmin);
  copy_scales(b.scales, u.scales);
  for (int e = 0; e < 256; ++e) u.codes[e] = b.qs[32 * (e / 64) + e % 32] >> 4 * (e / 32 % 2) & 15;
}

void read(const BlockQ5K& b, TileUnit& u) {
  u.scale = half_bits(b.d);
  u.offset = half_bits(b.dmin);
  copy_scales(b.scales, u.scales);
  for (int e = 0; e < 256; ++e) {
    const int low = b.qs[32 * (e / 64) + e % 32] >> 4 * (e / 32 % 2) & 15;
    u.codes[e] = static_cast<uint8_t>(low | (b.qh[e % 32] >> e / 32 & 1) << 4);
  }
}

void read(const BlockQ6K& b, TileUnit& u) {
  u.scale = half_bits(b.d);
  std::memcpy(u.scales, b.scales, 16);
  for (int e = 0; e < 256; ++e) {
    const int half = e / 128, group = e % 128 / 32, at = e % 32;
    const int low = b.ql[64 * half + 32 * (group % 2) + at] >> 4 * (group / 2) & 15;
    const int high = b.qh[32 * half + at] >> 2 * group & 3;
    u.codes[e] = static_cast<uint8_t>(low | high << 4);
  }
}

// Adds the codes of 32 inputs of row r to the zeroed planes of a block.
void scatter_block(const TileLayout& layout, const uint8_t* codes, size_t r, uint8_t* block) {
  if (layout.zero == 128) {  // t8
    for (size_t v = 0; v < 8; ++v) std::memcpy(block + 64 * v + 4 * r, codes + 4 * v, 4);
    return;
  }
  const auto field = [&](size_t k, int shift, int mask) { return codes[k] >> shift & mask; };
  for (size_t k = 0; layout.nibbles != 0 && k < 32; ++k) {
    uint8_t& byte = block[64 * (k / 8) + 4 * r + k % 4];
    byte = static_cast<uint8_t>(byte | field(k, 0, 15) << 4 * (k / 4 % 2));
  }
  for (size_t k = 0; layout.pair_shift >= 0 && k < 32; ++k) {
    uint8_t& byte = block[layout.pairs_at() + 64 * (k / 16) + 4 * r + k % 4];
    byte = static_cast<uint8_t>(byte | field(k, layout.pair_shift, 3) << 2 * (k / 4 % 4));
  }
  for (size_t k = 0; layout.bit_shift >= 0 && k < 32; ++k) {
    uint8_t& byte = block[layout.bits_at() + 8 * (k / 4) + r / 2];
    byte = static_cast<uint8_t>(byte | field(k, layout.bit_shift, 1) << (4 * (r % 2) + k % 4));
  }
}

void scatter_unit(const TileLayout& layout, const TileUnit& unit, size_t u, size_t r,
                  uint8_t* group) {
  uint8_t* header = group + layout.header_at(u);
  uint8_t* body = group + layout.body_at(u);
  std::memcpy(header + 2 * r, &unit.scale, 2);
  if (layout.header_bytes == 64) std::memcpy(header + 32 + 2 * r, &unit.offset, 2);
  for (size_t i = 0; i < layout.scale_bytes / kTileRows; ++i) body[16 * i + r] = unit.scales[i];
  for (size_t b = 0; b < layout.unit_inputs / kTileInputs; ++b)
    scatter_block(layout, unit.codes + 32 * b, r,
                  body + layout.scale_bytes + b * layout.block_bytes);
}

template <class Block>
void pack_row(TileKind kind, const std::byte* row, size_t r, size_t cols, uint8_t* group) {
  const TileLayout layout = tile_layout(kind);
  const auto* blocks = reinterpret_cast<const Block*>(row);  // bytes alone: any address will do
  TileUnit unit;
  for (size_t u = 0; u < cols / layout.unit_inputs; ++u) {
    read(blocks[u], unit);
    if (!finite_half(unit.scale) || (layout.header_bytes == 64 && !finite_half(unit.offset)))
      refuse_value(kind, r, u * layout.unit_inputs);
    scatter_unit(layout, unit, u, r, group);
  }
}

void pack_plain_row(TileKind kind, const std::byte* row, size_t r, size_t cols, uint8_t* group) {
  for (size_t k = 0; k < cols; ++k) {
    if (kind == TileKind::tf32) {
      uint32_t bits = 0;
      std::memcpy(&bits, row + 4 * k, 4);
      if ((bits & 0x7f800000U) == 0x7f800000U) refuse_value(kind, r, k);
      std::memcpy(group + plain_weight_at(kind, r, k), &bits, 4);
      continue;
    }
    uint16_t bits = 0;
    std::memcpy(&bits, row + 2 * k, 2);
    const uint16_t exponent = kind == TileKind::tf16 ? 0x7c00 : 0x7f80;
    if ((bits & exponent) == exponent) refuse_value(kind, r, k);
    std::memcpy(group + plain_weight_at(kind, r, k), &bits, 2);
  }
}

using PackRow = void (*)(TileKind, const std::byte*, size_t, size_t, uint8_t*);

PackRow pack_row_of(TileKind kind) {
  switch (kind) {
    case TileKind::t4s:
      return pack_row<BlockQ4_0>;
    case TileKind::t4a:
      return pack_row<BlockQ4_1>;
    case TileKind::t5s:
      return pack_row<BlockQ5_0>;
    case TileKind::t5a:
      return pack_row<BlockQ5_1>;
    case TileKind::t8:
      return pack_row<BlockQ8_0>;
    case TileKind::t2k:
      return pack_row<BlockQ2K>;
    case TileKind::t3k:
      return pack_row<BlockQ3K>;
    case TileKind::t4k:
      return pack_row<BlockQ4K>;
    case TileKind::t5k:
      return pack_row<BlockQ5K>;
    case TileKind::t6k:
      return pack_row<BlockQ6K>;
    default:
      return pack_plain_row;
  }
}

}  // namespace

void pack_tile_group(TileKind kind, std::span<const std::byte* const> rows, size_t cols,
                     std::span<std::byte> tiles) {
  const size_t bytes = tile_group_bytes(kind, cols);
  if (tiles.size() != bytes) refuse_size(kind, "packing", bytes, tiles.size());
  if (rows.empty() || rows.size() > kTileRows)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "packing a row group",
                 .expected = "1 to 16 rows",
                 .found = std::to_string(rows.size())});
  std::memset(tiles.data(), 0, tiles.size());
  const PackRow pack = pack_row_of(kind);
  for (size_t r = 0; r < rows.size(); ++r)
    pack(kind, rows[r], r, cols, reinterpret_cast<uint8_t*>(tiles.data()));
}

void pack_tiles(TileKind kind, const std::byte* blocks, size_t row_bytes, size_t rows, size_t cols,
                std::span<std::byte> tiles) {
  const size_t bytes = tile_bytes(kind, rows, cols);
  if (tiles.size() != bytes) refuse_size(kind, "packing", bytes, tiles.size());
  const size_t group_bytes = tile_group_bytes(kind, cols);
  for (size_t first = 0; first < rows; first += kTileRows) {
    const std::byte* pointers[kTileRows];
    const size_t count = std::min(kTileRows, rows - first);
    for (size_t r = 0; r < count; ++r) pointers[r] = blocks + (first + r) * row_bytes;
    pack_tile_group(kind, {pointers, count}, cols,
                    tiles.subspan(first / kTileRows * group_bytes, group_bytes));
  }
}

}  // namespace cairn
