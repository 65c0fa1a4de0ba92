// The products and the rounding of activations for each instruction set, behind the two functions
// of kernels/tile_products.h.
#pragma once

#include "cairn/kernels/tile_layout.h"
#include "cairn/kernels/tile_products.h"

namespace cairn {

// Walks through memory ahead of a product, first behind its own weights, then in what comes next.
struct FetchCursor {
  const uint8_t* at = nullptr;
  const uint8_t* end = nullptr;
  const uint8_t* next = nullptr;
  const uint8_t* next_end = nullptr;
};

// Products of whole groups with one group of at most kTileTokens tokens.
struct TileCall {
  TileKind kind = TileKind::t4s;
  size_t rows = 0, cols = 0;  // the last group may have fewer than 16 rows
  const uint8_t* tiles = nullptr;
  const uint8_t* records = nullptr;  // of the token group
  size_t tokens = 0;                 // 1 to kTileTokens
  float* y = nullptr;                // [tokens, rows]
  size_t y_stride = 0;
  bool constant_cols = false;  // take the instance for `cols`, if there is one
  FetchCursor fetch = {};
};

void multiply_portable(const TileCall& call);
void multiply_avx2(const TileCall& call);
void multiply_avx512(const TileCall& call);  // with VNNI and BF16
bool has_constant_cols_avx512(TileKind kind, size_t cols);

// One token's row of activations: records of 32 inputs each, `stride` bytes apart.
struct StoreCall {
  ActivationKind kind = ActivationKind::int8;
  const float* x = nullptr;  // [cols]
  size_t cols = 0;
  float scale = 1;
  const float* weight = nullptr;  // [cols] or null
  std::byte* records = nullptr;
  size_t stride = 0;
};

// False when a value is NaN or infinite.
bool store_portable(const StoreCall& call);
bool store_avx2(const StoreCall& call);
bool store_avx512(const StoreCall& call);

}  // namespace cairn
