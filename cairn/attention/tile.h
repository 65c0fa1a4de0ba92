// Matrix products on small tiles and the packing that feeds them: what all rooms with a blockwise
// attention share. There is one table of functions for f32 and one for bf16 operands.
//
// A tile has kTile tokens. Three packed forms of a [tokens, dim] matrix, in 4-byte words:
//   rows        [token][dim]   left operand, summed over dim
//   columns     [dim][token]   right operand, summed over dim
//   paired      [token][dim]   right operand, summed over tokens
// An f32 word is one element. A bf16 word is two neighbours along the summed axis (VDPBF16PS adds
// both products at once), so the summed axis is half as long. In f32, rows and paired are the same
// array. Widths are padded with zeros to kWidth words, summed axes of bf16 to even length.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cairn/tensor/dtype.h"
#include "cairn/tensor/view.h"

namespace cairn {

class RotaryTable;

inline constexpr size_t kTile = 64;   // tokens of a tile
inline constexpr size_t kWidth = 16;  // widths are multiples: one AVX-512 register of words

constexpr size_t padded_width(size_t dim) {
  return (dim + kWidth - 1) / kWidth * kWidth;
}

// One product C = A * B or C += A * B with C [rows, columns] f32 in memory.
//   A word (i, k) at a + i * a_row + k * a_depth; B word (k, j) at b + k * b_depth + j;
//   C (i, j) at c + i * c_row + j.
// `columns` and b_depth are multiples of kWidth, and b and c are 64-byte aligned.
struct TileProduct {
  size_t rows, columns, depth;  // depth in words
  const void* a;
  size_t a_row, a_depth;
  const void* b;
  size_t b_depth;
  float* c;
  size_t c_row;
  bool accumulate;
};

// Functions for one kind of operands on this processor. All are thread-safe and allocate nothing.
struct TileKernel {
  const char* name;  // "f32 AVX3", "bf16 AVX512_BF16"
  size_t pair;       // elements a word holds along a summed axis: 1 or 2

  void (*product)(const TileProduct&);
  // Packs a tile f32 [kTile][width], width = padded_width(dim), zero beyond its tokens and dim, as
  // a whole tile: [kTile][width / pair], [depth(dim)][kTile], [kTile / pair][width] words.
  void (*to_rows)(const float* from, size_t dim, void* to);
  void (*to_columns)(const float* from, size_t dim, void* to);
  void (*to_paired)(const float* from, size_t dim, void* to);

  // Words of a summed axis of `n` elements.
  size_t depth(size_t n) const { return (n + pair - 1) / pair; }
  // Words from one token to the next in the rows form.
  size_t row_words(size_t dim) const { return padded_width(dim) / pair; }
  size_t rows_words(size_t dim) const { return kTile * row_words(dim); }
  size_t columns_words(size_t dim) const { return kTile * depth(dim); }
  size_t paired_words(size_t dim) const { return kTile / pair * padded_width(dim); }
};

// f32 operands, through Highway: always there. Call apply_isa_limit() (kernels/dispatch.h) before.
const TileKernel& f32_tile_kernel();
// bf16 operands, or null where the processor (or CAIRN_MAX_ISA) has no AVX512-BF16. Then bf16
// tensors go through the f32 kernel, which is the portable twin.
const TileKernel* bf16_tile_kernel();
// The best kernel for tensors of `dtype`.
const TileKernel& tile_kernel_for(DType dtype);

// Rows between tensors (f32 or bf16) and f32 tiles, with the rotary front end on the way.
struct RotaryRows {
  const RotaryTable* table = nullptr;  // null: no rotation
  const int32_t* positions = nullptr;  // of the rows
};
// from [rows, dim] -> to [kTile][padded_width(dim)], rotated forward; the rest is zeroed.
void load_tile(AnyView2 from, RotaryRows rotary, float* to);
// from [rows][padded_width(dim)] -> to [rows, dim], times `scale`, rotated back.
void unload_tile(const float* from, float scale, RotaryRows rotary, AnyView2 to);
// result[row] = sum of a[row] * b[row].
void dot_tile_rows(AnyView2 a, AnyView2 b, float* result);

// Rows [token, token + tokens) of one head.
inline AnyView2 tile_rows(const AnyView3& view, size_t token, size_t tokens, size_t head) {
  const size_t at = token * view.token_stride + head * view.head_stride;
  return {static_cast<std::byte*>(view.data) + at * dtype_size(view.dtype), view.dtype, tokens,
          view.dim, view.token_stride};
}

// The rotation of rows that begin at `row`.
inline RotaryRows rows_from(const RotaryRows& rotary, size_t row) {
  return {rotary.table, rotary.table == nullptr ? nullptr : rotary.positions + row};
}

}  // namespace cairn
