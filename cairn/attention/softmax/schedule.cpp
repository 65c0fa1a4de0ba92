#include "cairn/attention/softmax/schedule.h"

#include <algorithm>

namespace cairn {
namespace {

constexpr size_t kUnits = 64;  // wanted blocks of all heads
constexpr size_t kFewestTiles = 4;

size_t block_count(const Segment& segment, size_t block_tiles) {
  return chunk_count(segment.tiles, block_tiles);
}

// The block that plays seat `seat` of `players` (even) in round `round` of players - 1.
size_t player_at(size_t seat, size_t round, size_t players) {
  return seat == 0 ? players - 1 : (round + seat) % (players - 1);
}

BlockPair make_pair(const Segment& segment, size_t block_tiles, size_t query, size_t key) {
  const auto first = [&](size_t block) {
    return segment.first_tile + static_cast<int32_t>(block * block_tiles);
  };
  const auto count = [&](size_t block) {
    return static_cast<int32_t>(std::min(block_tiles, segment.tiles - block * block_tiles));
  };
  return {first(query), count(query), first(key), count(key)};
}

bool meets(const TilePlan& plan, const BlockPair& pair) {
  const auto key_begin = static_cast<size_t>(pair.key_tile);
  const size_t key_end = key_begin + pair.key_tiles;
  const Tile* tile = plan.tile + pair.query_tile;
  return std::any_of(tile, tile + pair.query_tiles, [&](const Tile& queries) {
    return queries.first_key_tile() < key_end && queries.end_key_tile() > key_begin;
  });
}

}  // namespace

size_t block_tiles(size_t tiles, size_t heads) {
  return std::max(kFewestTiles, chunk_count(tiles * heads, kUnits));
}

size_t round_count(const TilePlan& plan, size_t block_tiles) {
  size_t most = 1;
  for (size_t s = 0; s < plan.segments; ++s)
    most = std::max(most, block_count(plan.segment[s], block_tiles));
  return plan.causal ? align_up(most, 2) : most;
}

size_t pairs_of_round(const TilePlan& plan, size_t block_tiles, size_t round, BlockPair* pairs) {
  size_t count = 0;
  const auto add = [&](const Segment& segment, size_t query, size_t key) {
    const BlockPair pair = make_pair(segment, block_tiles, query, key);
    if (meets(plan, pair)) pairs[count++] = pair;
  };
  for (size_t s = 0; s < plan.segments; ++s) {
    const Segment& segment = plan.segment[s];
    const size_t blocks = block_count(segment, block_tiles), players = align_up(blocks, 2);
    if (!plan.causal) {
      for (size_t i = 0; round < blocks && i < blocks; ++i) add(segment, i, (i + round) % blocks);
    } else if (round == 0) {
      for (size_t block = 0; block < blocks; ++block) add(segment, block, block);
    } else if (round < players) {
      for (size_t seat = 0; seat < players / 2; ++seat) {
        // Seat 0 meets its opposite; the others meet pairwise across the circle.
        const size_t a = player_at(seat, round - 1, players);
        const size_t b = seat == 0 ? round - 1 : player_at(players - 1 - seat, round - 1, players);
        if (std::max(a, b) < blocks) add(segment, std::max(a, b), std::min(a, b));
      }
    }
  }
  return count;
}

}  // namespace cairn
