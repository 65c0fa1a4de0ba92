#include "cairn/kernels/tiles.h"

#include <array>
#include <cstring>

#include "cairn/base/error.h"
#include "cairn/kernels/tile_layout.h"

namespace cairn {
namespace {

struct KindInfo {
  TileKind kind;
  BlockType type;
  std::string_view name;
};

constexpr std::array<KindInfo, 13> kKinds = {{{TileKind::t4s, BlockType::q4_0, "t4s"},
                                              {TileKind::t4a, BlockType::q4_1, "t4a"},
                                              {TileKind::t5s, BlockType::q5_0, "t5s"},
                                              {TileKind::t5a, BlockType::q5_1, "t5a"},
                                              {TileKind::t8, BlockType::q8_0, "t8"},
                                              {TileKind::t2k, BlockType::q2_k, "t2k"},
                                              {TileKind::t3k, BlockType::q3_k, "t3k"},
                                              {TileKind::t4k, BlockType::q4_k, "t4k"},
                                              {TileKind::t5k, BlockType::q5_k, "t5k"},
                                              {TileKind::t6k, BlockType::q6_k, "t6k"},
                                              {TileKind::tb16, BlockType::bf16, "tb16"},
                                              {TileKind::tf16, BlockType::f16, "tf16"},
                                              {TileKind::tf32, BlockType::f32, "tf32"}}};

const KindInfo& info_of(TileKind kind) {
  return kKinds.at(static_cast<size_t>(kind));  // in the order of the enumeration
}

}  // namespace

std::optional<TileKind> tile_kind_of(BlockType type) {
  for (const KindInfo& info : kKinds)
    if (info.type == type) return info.kind;
  return std::nullopt;
}

BlockType block_type_of(TileKind kind) {
  return info_of(kind).type;
}

std::string_view tile_kind_name(TileKind kind) {
  return info_of(kind).name;
}

size_t tile_group_bytes(TileKind kind, size_t cols) {
  return tile_bytes(kind, 1, cols);
}

size_t tile_bytes(TileKind kind, size_t rows, size_t cols) {
  // Also checks that cols are whole blocks and that a row has less than 2^64 bytes.
  static_cast<void>(block_row_bytes(block_type_of(kind), cols));
  const TileLayout layout = tile_layout(kind);
  const size_t units = cols / layout.unit_inputs + (cols % layout.unit_inputs != 0 ? 1 : 0);
  constexpr size_t kMost = size_t{1} << 47;  // bytes; more than any machine addresses
  size_t bytes = 0;
  if (units > kMost / layout.group_bytes(2) || rows > kMost ||
      __builtin_mul_overflow(tile_groups(rows), layout.group_bytes(units), &bytes))
    throw Error(
        {.kind = ErrorKind::data,
         .doing = "laying out tiles of " + std::string(block_type_name(block_type_of(kind))),
         .expected = "fewer than 2^47 bytes",
         .found = std::to_string(rows) + " rows of " + std::to_string(cols)});
  return bytes;
}

}  // namespace cairn
