// How the tokens of a micro-batch are laid into tiles.
//
// A slot is a place in the padded order that tiles are cut from: tile t holds slots
// [t * kTile, (t + 1) * kTile). A segment is one sequence, or several short neighbours, laid from
// the start of a tile on, so that no tile belongs to two segments. Short sequences share segments
// so that padding stays below a quarter of the tokens. Which of the keys in its segment a query
// sees is decided by slot: from the first of its sequence to its own, or to the last where queries
// see all. In cross-attention queries and keys fill slots of their own, and a segment has as many
// tiles as the longer side needs: the tiles of both count alike.
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
  int32_t last_key = -1;  // and of the latest; before first_key where none sees a key

  bool sees_keys() const { return last_key >= first_key; }
  // Tiles of keys that the queries visit: [first_key_tile, end_key_tile).
  size_t first_key_tile() const { return static_cast<size_t>(first_key) / kTile; }
  size_t end_key_tile() const {
    return sees_keys() ? static_cast<size_t>(last_key) / kTile + 1 : first_key_tile();
  }
};

// Tables in a workspace; valid as long as it is.
struct TilePlan {
  size_t capacity = 0;  // tiles there is room for: a function of shapes alone
  size_t segments = 0;
  size_t tiles = 0;
  size_t longest_segment = 0;    // tiles
  Segment* segment = nullptr;    // [segments]
  Tile* tile = nullptr;          // [tiles] of queries
  Tile* key_tile = nullptr;      // [tiles] of keys: the same but in cross-attention
  bool causal = true;            // no query sees a key of a later slot
  int32_t* first_key = nullptr;  // [tiles * kTile]; for each slot, of padding INT32_MAX
  int32_t* last_key = nullptr;   // [tiles * kTile]; the slot itself if causal, of padding -1

  size_t slots() const { return tiles * kTile; }
};

// Whether some query of the `tokens` rows, whose tables are `first` and `last` (rising), does not
// see all the keys in slots [key, key + keys).
inline bool needs_mask(const int32_t* first, const int32_t* last, size_t tokens, size_t key,
                       size_t keys) {
  return static_cast<int32_t>(key + keys) > last[0] + 1 ||
         static_cast<int32_t>(key) < first[tokens - 1];
}
// How many keys of the tile that begins at slot `key` any query of a tile can see, made even.
inline size_t keys_in_sight(const Tile& queries, size_t key) {
  return std::min(kTile, align_up(static_cast<size_t>(queries.last_key) + 1 - key, 2));
}

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
// Fills the tables of a plan taken for most_tiles(...) or more. Sequences may be empty.
void fill_plan(TilePlan& plan, View1<const int32_t> offsets);
// Makes each query of a filled plan see all keys of its sequence.
void see_whole_sequences(TilePlan& plan);

// The same for cross-attention: taken for most_tiles(queries + keys) or more.
TilePlan take_cross_plan(Arena& arena, size_t tiles);
void fill_cross_plan(TilePlan& plan, View1<const int32_t> offsets,
                     View1<const int32_t> key_offsets);

}  // namespace cairn
