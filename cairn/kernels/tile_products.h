// Products of weight tiles (kernels/tiles.h) and activations: all that decoding and prompts compute
// with stored weights.
//   y[t, r] = sum over k of w[r, k] * x[t, k]
//
// Activations are rounded once to what the tile's instructions read: bytes for quantised weights
// (int8 with one f32 scale for 32 inputs, round to nearest even), bf16 for bf16, f32 for f16 and
// f32. Weights and bytes meet in exact 32-bit integer sums; each block of 32 inputs is then scaled
// and added in f32, in rising order of k.
//
// Promises. A y[t, r] depends on its row and its token alone: the same bits in a call for one token
// or for many, for any cut of the rows into calls, any number of threads. For quantised weights
// also the same bits on every instruction set; for plain ones equal to rounding.
//
// Everything borrows memory and allocates none. Threads may take disjoint rows of w, or columns of
// an activation buffer.
#pragma once

#include <cstddef>

#include "cairn/base/cpu.h"
#include "cairn/kernels/tiles.h"

namespace cairn {

enum class ActivationKind : uint8_t { int8, bf16, f32 };

// What products of a tile read. Matrices of the same kind of activation share one buffer.
ActivationKind activation_kind_of(TileKind kind);

// Activations of `tokens` vectors, as products read them, in the owner's memory. The layout is this
// file's secret: tokens stand together in groups of kTileTokens, block by block.
struct Activations {
  ActivationKind kind = ActivationKind::int8;
  size_t tokens = 0;
  size_t cols = 0;
  std::byte* data = nullptr;  // activation_bytes, at a multiple of 64
};

// Tokens that share one read of the weights: a call for more reads them again from the first-level
// or second-level cache.
inline constexpr size_t kTileTokens = 8;

// Bytes of a buffer, a multiple of 64. It grows with tokens and with cols. Throws Error (data) on
// overflow.
size_t activation_bytes(ActivationKind kind, size_t tokens, size_t cols);

// What becomes activations: x[t, k], or (x[t, k] * token_scale[t]) * weight[k] in f32, which is a
// row normalisation without a pass of its own.
struct ActivationSource {
  View2<const float> x;            // [tokens, cols of a part]
  View1<const float> token_scale;  // [tokens] or empty
  View1<const float> weight;       // [cols of the part] or empty
};

// Rounds columns [first, first + x.cols) of all tokens; first is a multiple of 32, and so is
// first + x.cols unless it is to.cols. Inputs beyond to.cols count as zero. Blocks smaller than
// 1e-30 become zero. Returns false, with the buffer's columns undefined, when a value is NaN or
// infinite. Throws Error (usage) when shapes disagree.
bool store_activations(const ActivationSource& from, size_t first, const Activations& to,
                       Isa isa = usable_isa());

// Rows of a matrix in tiles: tile_groups(rows) groups.
struct TileRows {
  TileKind kind = TileKind::t4s;
  size_t rows = 0;
  size_t cols = 0;
  const std::byte* tiles = nullptr;
  bool constant_cols = false;  // has_constant_cols(kind, cols), asked once: the same bits, quicker
};

// Whether one token's products with such weights have been compiled for exactly this width.
bool has_constant_cols(TileKind kind, size_t cols, Isa isa = usable_isa());

// Memory that will be read next. Its first bytes are asked for while the end of a product's weights
// is being read, so that the stream from memory never stops.
struct NextStream {
  const std::byte* data = nullptr;
  size_t bytes = 0;
};

// y [tokens, rows] = x * w^T; rows of y may be strided. `next` defaults to what lies behind w.
// Throws Error (usage) when shapes or kinds disagree, allocating only to complain.
void multiply_tiles(const TileRows& w, const Activations& x, View2<float> y,
                    const NextStream& next = {}, Isa isa = usable_isa());

}  // namespace cairn
