// Weight tiles: the layout in which decoding reads weights. Sixteen output rows stand side by side,
// one in each 32-bit lane of a 512-bit register, so that a product of matrix and vector needs no
// horizontal sums and reads one contiguous stream.
//
// A row group is 16 rows over all `cols` inputs: blocks of 32 inputs one after another, their
// scales beside them. Groups of a matrix follow each other. Repacking is lossless: a tile decodes
// to the floats of the file's blocks, bit for bit. The last group is filled up with rows of zeros,
// and plain types whose cols are not a multiple of 32 with inputs of zero.
//
// Source: the row-interleaved layouts of github.com/ggml-org/llama.cpp (ggml-cpu/repack), taken to
// 16 rows and to all formats; tensor/block_type.h has the blocks of the file.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

#include "cairn/tensor/block_type.h"
#include "cairn/tensor/view.h"

namespace cairn {

// Named after the bits of a weight; s: symmetric, a: with an offset, k: of a 256-input block.
enum class TileKind : uint8_t {
  t4s,   // q4_0
  t4a,   // q4_1
  t5s,   // q5_0
  t5a,   // q5_1
  t8,    // q8_0
  t2k,   // q2_k
  t3k,   // q3_k
  t4k,   // q4_k
  t5k,   // q5_k
  t6k,   // q6_k
  tb16,  // bf16
  tf16,  // f16
  tf32,  // f32
};

inline constexpr size_t kTileRows = 16;
// Every tile begins at a multiple of this.
inline constexpr size_t kTileAlignment = 64;

// The tile of a stored type; empty when there is none (iq4_nl, mxfp4, types without a decoder).
std::optional<TileKind> tile_kind_of(BlockType type);
BlockType block_type_of(TileKind kind);
// "t4s".
std::string_view tile_kind_name(TileKind kind);

// Groups that hold `rows` rows.
constexpr size_t tile_groups(size_t rows) {
  return (rows + kTileRows - 1) / kTileRows;
}
// Bytes of one group, a multiple of 64. Throws Error: usage when cols are not whole blocks of the
// type, data when the size overflows.
size_t tile_group_bytes(TileKind kind, size_t cols);
// Bytes of tile_groups(rows) groups. Throws as above.
size_t tile_bytes(TileKind kind, size_t rows, size_t cols);

// Packs one group.
//   rows   1 to 16 rows of the file, anywhere and at any address, each block_row_bytes(type, cols)
//          long: rows of one matrix, of several, in any order, or whole blocks out of longer rows
//   tiles  tile_group_bytes, written whole
// Allocates nothing; threads may take disjoint groups. Throws Error: usage when sizes disagree,
// data when a scale or a plain weight is not finite (a damaged file).
void pack_tile_group(TileKind kind, std::span<const std::byte* const> rows, size_t cols,
                     std::span<std::byte> tiles);

// Packs `rows` rows that lie `row_bytes` apart.
//   blocks  the first row; tiles  tile_bytes(kind, rows, cols), written whole
// Otherwise as pack_tile_group.
void pack_tiles(TileKind kind, const std::byte* blocks, size_t row_bytes, size_t rows, size_t cols,
                std::span<std::byte> tiles);

// The weights of a group, as decode_blocks (kernels/blocks.h) gives them for the file's blocks.
//   y [1 to 16, cols]  its first y.rows rows
void decode_tile_group(TileKind kind, std::span<const std::byte> tiles, View2<float> y);

}  // namespace cairn
