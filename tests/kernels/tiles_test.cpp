#include "cairn/kernels/tiles.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "cairn/base/error.h"
#include "cairn/base/memory.h"
#include "cairn/kernels/blocks.h"
#include "tests/support/files.h"
#include "tests/support/tile_cases.h"

namespace cairn {
namespace {

// A packed matrix decodes to the bits that the file's blocks decode to.
void expect_lossless(BlockType type, size_t rows, size_t cols) {
  const TileKind kind = *tile_kind_of(type);
  const std::vector<std::byte> blocks = random_blocks(type, rows, cols);
  const size_t row_bytes = block_row_bytes(type, cols);
  AlignedBuffer tiles(tile_bytes(kind, rows, cols));
  pack_tiles(kind, blocks.data(), row_bytes, rows, cols, tiles.as<std::byte>());
  const size_t group = tile_group_bytes(kind, cols);
  std::vector<float> expected(cols), found(kTileRows * cols);
  for (size_t row = 0; row < rows; ++row) {
    if (row % kTileRows == 0)
      decode_tile_group(kind, {tiles.data() + row / kTileRows * group, group},
                        {found.data(), std::min(kTileRows, rows - row), cols});
    decode_blocks(type, {blocks.data() + row * row_bytes, row_bytes}, {expected.data(), cols});
    ASSERT_EQ(0, std::memcmp(expected.data(), found.data() + row % kTileRows * cols, 4 * cols))
        << block_type_name(type) << " row " << row << " of " << rows << " x " << cols;
  }
}

TEST(Tiles, DecodeToTheBitsOfAHundredThousandRandomBlocksOfEachType) {
  for (const BlockType type : kTileTypes) {
    const size_t size = std::max<size_t>(32, block_type_info(type).block_size);
    expect_lossless(type, 1000, 100 * size);
  }
}

TEST(Tiles, AreLosslessForAnyNumberOfRowsAndColumns) {
  for (const BlockType type : kTileTypes) {
    const size_t size = block_type_info(type).block_size;
    for (const size_t rows : {1, 15, 16, 17, 33})
      for (const size_t blocks : {1, 2, 3, 9}) expect_lossless(type, rows, blocks * size);
  }
  for (const BlockType type : {BlockType::f32, BlockType::f16, BlockType::bf16})
    for (const size_t cols : {7, 31, 33, 65, 100}) expect_lossless(type, 18, cols);
}

TEST(Tiles, AreAsLargeAsTheirBlocksToAHundredthAtUsualWidths) {
  for (const BlockType type : kTileTypes) {
    const auto file = static_cast<double>(block_bytes(type, {16, 1536}));
    const auto tile = static_cast<double>(tile_bytes(*tile_kind_of(type), 16, 1536));
    // Scales of 4 and 6 bits become bytes where a product reads them: t4k, t5k, t3k.
    EXPECT_LE(tile / file, tile_kind_name(*tile_kind_of(type)).back() == 'k' ? 1.04 : 1.0)
        << block_type_name(type);
  }
}

TEST(Tiles, TakeRowsFromAnywhereInAnyOrder) {
  const size_t cols = 96, row_bytes = block_row_bytes(BlockType::q4_0, cols);
  const std::vector<std::byte> first = random_blocks(BlockType::q4_0, 4, cols);
  const std::vector<std::byte> second = random_blocks(BlockType::q4_0, 4, cols);
  // The last two blocks of one row, and of another, the other way round.
  const size_t skip = block_row_bytes(BlockType::q4_0, 32);
  const std::byte* rows[] = {second.data() + 3 * row_bytes + skip, first.data() + row_bytes + skip};
  AlignedBuffer tiles(tile_group_bytes(TileKind::t4s, 64));
  pack_tile_group(TileKind::t4s, rows, 64, tiles.as<std::byte>());
  std::vector<float> found(2 * 64), expected(64);
  decode_tile_group(TileKind::t4s, tiles.as<std::byte>(), {found.data(), 2, 64});
  for (size_t r = 0; r < 2; ++r) {
    decode_blocks(BlockType::q4_0, {rows[r], 2 * skip}, {expected.data(), 64});
    EXPECT_EQ(0, std::memcmp(expected.data(), found.data() + r * 64, 64 * sizeof(float)));
  }
}

TEST(Tiles, FillTheLastGroupWithRowsOfZeros) {
  for (const BlockType type : kTileTypes) {
    const TileKind kind = *tile_kind_of(type);
    const size_t cols = std::max<size_t>(32, block_type_info(type).block_size);
    const std::vector<std::byte> blocks = random_blocks(type, 3, cols);
    AlignedBuffer tiles(tile_bytes(kind, 3, cols));
    std::memset(tiles.data(), 0xff, tiles.size());
    pack_tiles(kind, blocks.data(), block_row_bytes(type, cols), 3, cols, tiles.as<std::byte>());
    std::vector<float> y(kTileRows * cols, 1.0F);
    decode_tile_group(kind, tiles.as<std::byte>(), {y.data(), kTileRows, cols});
    for (size_t i = 3 * cols; i < y.size(); ++i) ASSERT_EQ(y[i], 0.0F) << block_type_name(type);
  }
}

TEST(Tiles, RefuseScalesAndWeightsThatAreNotFinite) {
  for (const BlockType type : kTileTypes) {
    const TileKind kind = *tile_kind_of(type);
    const size_t cols = std::max<size_t>(32, block_type_info(type).block_size);
    AlignedBuffer tiles(tile_bytes(kind, 1, cols));
    for (const size_t at : scale_offsets(type)) {
      std::vector<std::byte> blocks = random_blocks(type, 1, cols);
      const uint16_t bad = type == BlockType::bf16 || type == BlockType::f32 ? 0x7f80 : 0xfc00;
      std::memcpy(blocks.data() + at, &bad, 2);
      EXPECT_THROW(pack_tiles(kind, blocks.data(), blocks.size(), 1, cols, tiles.as<std::byte>()),
                   Error)
          << block_type_name(type) << " byte " << at;
    }
  }
}

TEST(Tiles, NameTheRowAndColumnOfADamagedWeight) {
  for (const BlockType type : {BlockType::f32, BlockType::f16, BlockType::bf16}) {
    const size_t cols = 33, row_bytes = block_row_bytes(type, cols), each = row_bytes / cols;
    std::vector<std::byte> rows = random_blocks(type, 3, cols);
    std::memset(rows.data() + 2 * row_bytes + 32 * each, 0xff, each);  // NaN
    AlignedBuffer tiles(tile_bytes(*tile_kind_of(type), 3, cols));
    EXPECT_THAT(message_of([&] {
                  pack_tiles(*tile_kind_of(type), rows.data(), row_bytes, 3, cols,
                             tiles.as<std::byte>());
                }),
                testing::HasSubstr("row 2, column 32"));
  }
}

TEST(Tiles, RefuseSizesThatDisagree) {
  const std::vector<std::byte> blocks = random_blocks(BlockType::q4_0, 17, 64);
  AlignedBuffer tiles(tile_bytes(TileKind::t4s, 17, 64));
  const auto all = tiles.as<std::byte>();
  EXPECT_THROW(pack_tiles(TileKind::t4s, blocks.data(), 36, 16, 64, all), Error);
  EXPECT_THROW(pack_tile_group(TileKind::t4s, {}, 64, all.first(all.size() / 2)), Error);
  EXPECT_THROW(tile_group_bytes(TileKind::t4s, 33), Error);
  EXPECT_THROW(tile_group_bytes(TileKind::t6k, 128), Error);
  EXPECT_THROW(tile_bytes(TileKind::tf32, size_t{1} << 40, size_t{1} << 40), Error);
  EXPECT_THROW(tile_bytes(TileKind::t8, 16, ~size_t{0} - 31), Error);
  std::vector<float> y(64);
  EXPECT_THROW(decode_tile_group(TileKind::t4s, all, {y.data(), 1, 64}), Error);
}

TEST(Tiles, HaveNoKindForTypesWithoutProducts) {
  EXPECT_FALSE(tile_kind_of(BlockType::iq4_nl));
  EXPECT_FALSE(tile_kind_of(BlockType::q8_k));
  for (const BlockType type : kTileTypes) EXPECT_EQ(block_type_of(*tile_kind_of(type)), type);
}

}  // namespace
}  // namespace cairn
