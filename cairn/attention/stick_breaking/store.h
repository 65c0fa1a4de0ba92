// What forward keeps for backward. Internal to the room.
//
// A sequence is cut into tiles of kTile tokens from its own first token on, so that its results do
// not depend on its neighbours. The stick of each query is kept as it enters every `stride`-th tile
// of keys from the newest on; backward recomputes those between. The stride is 1 up to kSticks
// tiles and keeps memory linear beyond.
#pragma once

#include <algorithm>

#include "cairn/attention/arena.h"
#include "cairn/attention/stick_breaking/core.h"
#include "cairn/attention/tile.h"

namespace cairn {

inline constexpr size_t kSticks = 128;  // kept of a query, at most

// Tiles of keys for which one stick is kept, in a sequence of `tiles`; a power of two.
inline size_t stick_stride(size_t tiles) {
  size_t stride = 1;
  while (tiles > kSticks * stride) stride *= 2;
  return stride;
}

// Upper bound of the sticks kept per token, of sequences of at most `tiles` tiles: query tile t
// keeps t / stride + 1, on average (tiles - 1) / (2 stride) + 1 or fewer.
inline size_t sticks_per_token(size_t tiles) {
  return std::min(tiles / 2, kSticks / 2) + 1;
}

// Sticks of the query tiles before tile t of a sequence, divided by kTile.
inline size_t sticks_before(size_t t, size_t stride) {
  const size_t whole = t / stride;
  return stride * (whole * (whole + 1) / 2) + t % stride * (whole + 1);
}

// Null arrays are not wanted.
struct StickStore {
  size_t tokens = 0;
  size_t per_token = 0;           // room for sticks
  float* remainder = nullptr;     // [heads][tokens]
  int32_t* first_tile = nullptr;  // [heads][tokens], at the first token of a query tile: the oldest
                                  // tile of keys it visited
  float* sticks = nullptr;        // [heads][tokens][per_token]
  float* unnormed = nullptr;      // [heads][tokens][value_dim], with head norm

  // Sticks of query tile t, which has `rows` rows, of the sequence that starts at `token`, as they
  // enter the tiles of keys [group * stride, (group + 1) * stride).
  float* sticks_of(size_t head, size_t token, size_t t, size_t rows, size_t group,
                   size_t stride) const {
    return sticks + (head * tokens + token) * per_token + sticks_before(t, stride) * kTile +
           group * rows;
  }
};

inline StickStore take_store(Arena& arena, const StickBreaking& attention, size_t tokens,
                             size_t longest) {
  const AttentionGeometry& g = attention.geometry;
  StickStore store;
  store.tokens = tokens;
  store.per_token = sticks_per_token(chunk_count(longest, kTile));
  store.remainder = arena.take<float>(g.heads * tokens);
  store.first_tile = arena.take<int32_t>(g.heads * tokens);
  store.sticks = arena.take<float>(g.heads * tokens * store.per_token);
  if (attention.options.head_norm)
    store.unnormed = arena.take<float>(g.heads * tokens * g.value_dim);
  return store;
}

inline size_t longest_sequence(View1<const int32_t> offsets) {
  int32_t longest = 0;
  for (size_t i = 0; i + 1 < offsets.size; ++i)
    longest = std::max(longest, offsets[i + 1] - offsets[i]);
  return longest;
}

// Sequences of up to this many tiles are one unit of work of a key head; longer ones, or all above
// 8 tiles when there would be few units, are divided among the threads. Both give the same bits.
inline constexpr size_t kWholeTiles = 32;
inline size_t whole_tiles(View1<const int32_t> offsets, size_t kv_heads) {
  constexpr size_t kSmallTiles = 8, kFewUnits = 16;
  size_t units = 0;
  for (size_t i = 0; i + 1 < offsets.size; ++i)
    if (chunk_count(offsets[i + 1] - offsets[i], kTile) <= kWholeTiles) units += kv_heads;
  return units >= kFewUnits ? kWholeTiles : kSmallTiles;
}

// Key heads worked on at a time: enough to keep many threads busy, few enough to keep the workspace
// small when sequences are long.
inline constexpr size_t kBatchTiles = 512;  // of all heads together
inline size_t stick_head_batch(size_t kv_heads, size_t tiles) {
  return std::clamp<size_t>(kBatchTiles / tiles, 1, kv_heads);
}
// Upper bound of stick_head_batch() times tiles, for sequences of up to `tiles` tiles.
inline size_t most_batch_tiles(size_t kv_heads, size_t tiles) {
  return std::min(kv_heads * tiles, std::max(kBatchTiles, tiles));
}

}  // namespace cairn
