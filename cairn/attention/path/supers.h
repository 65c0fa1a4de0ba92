// Super-blocks: runs of `block_tiles` tiles from the start of each segment on. Keys are carried to
// the end of their super-block and queries to the start of theirs; between a super-block of queries
// i and one of keys j < i - 1 lies the product P_{j+1} ... P_{i-1} of those in between. Internal to
// the room.
//
// All those products are kept, so that pairs of super-blocks are independent of each other: with
// block_tiles about sqrt(tiles / group), their number is at most half of tiles * group, and memory
// stays linear in tokens. Carrying one tile costs 2 * kTile * dim^2; inside a super-block that is
// done (block_tiles - 1) / 2 times a query tile, between super-blocks tiles / (2 block_tiles group)
// times, which that choice makes least.
#pragma once

#include "cairn/attention/plan.h"

namespace cairn {

struct SuperBlock {
  int32_t first_tile = 0, tiles = 0;
  int32_t first = 0;  // super-block of its segment
  int32_t pair = 0;   // index of the product between it and super-block `first`
};

// Tables in a workspace.
struct SuperPlan {
  size_t block_tiles = 1;
  size_t count = 0;
  size_t pairs = 0;             // products between super-blocks
  SuperBlock* super = nullptr;  // [count]
  int32_t* of_tile = nullptr;   // [tiles]

  // Products for the queries of super-block i: keys of `first` .. i - 2.
  size_t products_of(size_t i) const {
    const size_t before = i - super[i].first;
    return before == 0 ? 0 : before - 1;
  }
  size_t pair(size_t i, size_t j) const { return super[i].pair + j - super[i].first; }
};

// Tiles of a super-block for segments of at most `tiles` tiles. dim counts because a product takes
// dim^2 floats.
size_t super_block_tiles(size_t tiles, size_t group, size_t dim);

// Room for any plan of `tiles` tiles whose super-blocks are chosen by super_block_tiles (wanted =
// 0) or given.
struct SuperLimits {
  size_t block_tiles = 0, count = 0, pairs = 0;
};
SuperLimits super_limits(size_t tiles, size_t group, size_t dim, size_t wanted);
SuperPlan take_supers(Arena& arena, size_t tiles);
void fill_supers(SuperPlan& supers, const TilePlan& plan, size_t block_tiles);

}  // namespace cairn
