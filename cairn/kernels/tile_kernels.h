// The products and the rounding of activations for each instruction set, behind the two functions
// of kernels/tile_products.h.
#pragma once

#include "cairn/kernels/tile_layout.h"
#include "cairn/kernels/tile_products.h"

namespace cairn {

// Products of whole groups with one group of at most kTileTokens tokens.
struct TileCall {
  TileKind kind;
  size_t rows, cols;  // rows of the matrix: the last group may have fewer than 16
  const uint8_t* tiles;
  const uint8_t* records;  // of the token group
  size_t tokens;           // 1 to kTileTokens
  float* y;                // [tokens, rows]
  size_t y_stride;
  const uint8_t* fetch;  // where to read ahead; not beyond fetch_end, then from next
  const uint8_t* fetch_end;
  const uint8_t* next;
};

void multiply_portable(const TileCall& call);

// One record of bytes from 32 floats; false when one of them is NaN or infinite.
bool store_bytes_portable(const float* x, ByteRecord& record);

}  // namespace cairn
