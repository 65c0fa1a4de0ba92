// One row of a unit of a tile (kernels/tile_layout.h), taken apart: between the blocks of the file
// and the planes of the tile when packing, and what the portable products read.
#pragma once

#include <cstdint>

#include "cairn/kernels/tile_layout.h"

namespace cairn {

struct TileUnit {
  uint16_t scale = 0;   // f16 bits
  uint16_t offset = 0;  // f16 bits; where the header has 64 bytes
  uint8_t scales[16];   // as the tile stores them for this row: 16 of k kinds
  uint8_t codes[256];   // unit_inputs of them
};

// Where input k of row r lies in a group of plain weights.
constexpr size_t plain_weight_at(TileKind kind, size_t r, size_t k) {
  switch (kind) {
    case TileKind::tb16:
      return k / 2 * 64 + 4 * r + 2 * (k % 2);
    case TileKind::tf16:
      return k * 32 + 2 * r;
    default:
      return k * 64 + 4 * r;
  }
}

// The codes of 32 inputs of row r in a block.
void gather_block(const TileLayout& layout, const uint8_t* block, size_t r, uint8_t* codes);
// Row r of unit u.
void gather_unit(const TileLayout& layout, const uint8_t* group, size_t u, size_t r,
                 TileUnit& unit);

}  // namespace cairn
