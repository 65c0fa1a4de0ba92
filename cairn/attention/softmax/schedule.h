// In which order backward visits pairs of query and key blocks.
//
// A unit of work takes a block of queries against a block of keys and adds to the gradients of
// both, so that each score is computed once. Two units that share a block must not run together.
// Every pair of blocks of a segment meets exactly once in a round-robin tournament (the circle
// method): in each round the pairs are disjoint, so they run in parallel without locks, and every
// gradient receives its terms in an order that does not depend on the number of threads. Where
// queries see later keys too, the b blocks of a segment need b rounds: in round r, block i of the
// queries meets block (i + r) mod b of the keys.
#pragma once

#include <cstddef>

#include "cairn/attention/plan.h"

namespace cairn {

struct BlockPair {
  int32_t query_tile, query_tiles;  // first, count
  int32_t key_tile, key_tiles;      // in causal plans the same as the queries', or earlier
};

// Tiles of a block for `tiles` tiles times `heads` heads: enough units for many threads, long
// enough that loading a query tile does not count. Depends on shapes only.
size_t block_tiles(size_t tiles, size_t heads);

// Number of rounds: round 0 meets every block with itself.
size_t round_count(const TilePlan& plan, size_t block_tiles);

// Writes the pairs of a round to `pairs` [plan.tiles] and returns their number. Pairs in which no
// query sees a key are left out.
size_t pairs_of_round(const TilePlan& plan, size_t block_tiles, size_t round, BlockPair* pairs);

}  // namespace cairn
