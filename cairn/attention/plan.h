// How the tokens of a micro-batch are laid into tiles.
//
// A slot is a place in the padded order that tiles are cut from: tile t holds slots
// [t * kTile, (t + 1) * kTile). A segment is one sequence, or several short neighbours, laid from
// the start of a tile on, so that no tile belongs to two segments. Short sequences share segments
// so that padding stays below a quarter of the tokens. Which of the keys in its segment a query
// sees is decided by slot: from the first of its sequence to its own.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "cairn/attention/arena.h"
#include "cairn/attention/mechanism.h"
#include "cairn/attention/tile.h"

namespace cairn {

struct Segment {
  int32_t first_tile = 0;
  int32_t tiles = 0;
};

struct Tile {
  int32_t token = 0;      // the first
  int32_t tokens = 0;     // at most kTile, the rest of the tile is padding
  int32_t first_key = 0;  // slot of the earliest key that any query of the tile sees
};

// Tables in a workspace; valid as long as it is.
struct TilePlan {
  size_t capacity = 0;  // tiles there is room for: a function of shapes alone
  size_t segments = 0;
  size_t tiles = 0;
  size_t longest_segment = 0;    // tiles
  Segment* segment = nullptr;    // [segments]
  Tile* tile = nullptr;          // [tiles]
  int32_t* first_key = nullptr;  // [tiles * kTile]; for each slot, of padding INT32_MAX
  int32_t* last_key = nullptr;   // [tiles * kTile]; the slot itself, of padding -1

  size_t slots() const { return tiles * kTile; }
};

// When segments are short, one unit of work takes a whole segment of a key head: what it packs and
// gathers then stays near its core. Not when that would leave few units; depends on shapes only.
inline constexpr size_t kShortSegment = 32;  // tiles
bool takes_whole_segments(const TilePlan& plan, size_t kv_heads);

// Segments end with the sequence that brings them to this many tokens.
inline constexpr size_t kSegmentTokens = 512;

// Upper bound of plan.tiles for any layout of `tokens` tokens.
size_t most_tiles(size_t tokens);

// The largest workspace(t) of t = 1 ... tiles: what a call may need that has fewer tokens than
// memory was asked for. More tiles can need less, as fewer heads are then worked on at a time.
template <class Workspace>
size_t most_up_to(size_t tiles, Workspace workspace) {
  size_t most = 0;
  for (size_t t = 1; t <= tiles; ++t) most = std::max(most, workspace(t));
  return most;
}

// Takes room for `tiles` tiles.
TilePlan take_plan(Arena& arena, size_t tiles);
// Fills the tables of a plan taken for most_tiles(...) or more.
void fill_plan(TilePlan& plan, View1<const int32_t> offsets);

}  // namespace cairn
