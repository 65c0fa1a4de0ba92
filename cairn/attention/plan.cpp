#include "cairn/attention/plan.h"

#include <algorithm>
#include <limits>

namespace cairn {
namespace {

// Cuts the tokens [begin, end), which start at the first slot of tile plan.tiles, into tiles.
void add_segment(TilePlan& plan, int32_t begin, int32_t end) {
  const auto tiles = static_cast<int32_t>(chunk_count(end - begin, kTile));
  plan.segment[plan.segments++] = {static_cast<int32_t>(plan.tiles), tiles};
  plan.longest_segment = std::max<size_t>(plan.longest_segment, tiles);
  for (int32_t token = begin; token < end; token += kTile) {
    const int32_t tokens = std::min<int32_t>(kTile, end - token);
    plan.tile[plan.tiles++] = {token, tokens};
  }
}

// Fills the slots of the sequence [begin, end) in a segment whose token `origin` is at `slot`.
void add_sequence(TilePlan& plan, int32_t slot, int32_t origin, int32_t begin, int32_t end) {
  const int32_t first = slot + begin - origin;
  for (int32_t token = begin; token < end; ++token) {
    const int32_t own = slot + token - origin;
    plan.first_key[own] = first;
    plan.last_key[own] = own;
  }
}

// Tells the tiles of queries from `first` on what their rows see.
void set_sight(TilePlan& plan, size_t first) {
  for (size_t t = first; t < plan.tiles; ++t) {
    Tile& tile = plan.tile[t];
    if (tile.tokens == 0) continue;
    tile.first_key = plan.first_key[t * kTile];
    tile.last_key = plan.last_key[t * kTile + tile.tokens - 1];
  }
}

void clear_slots(TilePlan& plan, size_t first_tile) {
  const size_t slot = first_tile * kTile;
  std::fill(plan.first_key + slot, plan.first_key + plan.slots(),
            std::numeric_limits<int32_t>::max());
  std::fill(plan.last_key + slot, plan.last_key + plan.slots(), -1);
}

// The i-th tile of the tokens [begin, end), which may have fewer.
Tile nth_tile(int32_t begin, int32_t end, int32_t i) {
  constexpr auto kTokens = static_cast<int32_t>(kTile);
  const int32_t token = std::min(begin + i * kTokens, end);
  return {token, std::min(kTokens, end - token)};
}

// A segment of queries [begin, end) whose keys are the tokens [key_begin, key_end).
void add_cross_segment(TilePlan& plan, int32_t begin, int32_t end, int32_t key_begin,
                       int32_t key_end) {
  const size_t longest = std::max(end - begin, key_end - key_begin);
  const auto tiles = static_cast<int32_t>(chunk_count(longest, kTile));
  plan.segment[plan.segments++] = {static_cast<int32_t>(plan.tiles), tiles};
  plan.longest_segment = std::max<size_t>(plan.longest_segment, tiles);
  for (int32_t i = 0; i < tiles; ++i) {
    plan.tile[plan.tiles] = nth_tile(begin, end, i);
    plan.key_tile[plan.tiles++] = nth_tile(key_begin, key_end, i);
  }
}

}  // namespace

size_t most_tiles(size_t tokens) {
  // Every segment but the last has kSegmentTokens or more, and each adds less than one tile.
  return chunk_count(tokens, kTile) + tokens / kSegmentTokens;
}

TilePlan take_plan(Arena& arena, size_t tiles) {
  TilePlan plan;
  plan.capacity = tiles;
  plan.segment = arena.take<Segment>(tiles);
  plan.key_tile = plan.tile = arena.take<Tile>(tiles);
  plan.first_key = arena.take<int32_t>(tiles * kTile);
  plan.last_key = arena.take<int32_t>(tiles * kTile);
  return plan;
}

bool takes_whole_segments(const TilePlan& plan, size_t kv_heads) {
  constexpr size_t kVeryShort = 8;  // tiles: cheap enough not to share
  constexpr size_t kFewUnits = 16;
  if (plan.longest_segment <= kVeryShort) return true;
  return plan.longest_segment <= kShortSegment && plan.segments * kv_heads >= kFewUnits;
}

void fill_plan(TilePlan& plan, View1<const int32_t> offsets) {
  plan.segments = plan.tiles = plan.longest_segment = 0;
  const size_t sequences = offsets.size - 1;
  for (size_t begin = 0; begin < sequences;) {
    size_t end = begin + 1;
    while (end < sequences && offsets[end] - offsets[begin] < static_cast<int32_t>(kSegmentTokens))
      ++end;
    const auto slot = static_cast<int32_t>(plan.tiles * kTile);
    const size_t first_tile = plan.tiles;
    add_segment(plan, offsets[begin], offsets[end]);
    clear_slots(plan, first_tile);
    for (size_t i = begin; i < end; ++i)
      add_sequence(plan, slot, offsets[begin], offsets[i], offsets[i + 1]);
    set_sight(plan, first_tile);
    begin = end;
  }
}

void see_whole_sequences(TilePlan& plan) {
  plan.causal = false;
  for (size_t slot = plan.slots(); slot-- > 1;)  // a first key tells sequences apart
    if (plan.last_key[slot] >= 0 && plan.first_key[slot - 1] == plan.first_key[slot])
      plan.last_key[slot - 1] = plan.last_key[slot];
  set_sight(plan, 0);
}

TilePlan take_cross_plan(Arena& arena, size_t tiles) {
  TilePlan plan = take_plan(arena, tiles);
  plan.key_tile = arena.take<Tile>(tiles);
  plan.causal = false;
  return plan;
}

void fill_cross_plan(TilePlan& plan, View1<const int32_t> offsets,
                     View1<const int32_t> key_offsets) {
  plan.segments = plan.tiles = plan.longest_segment = 0;
  const size_t sequences = offsets.size - 1;
  constexpr auto kEnough = static_cast<int32_t>(kSegmentTokens);
  for (size_t begin = 0; begin < sequences;) {
    size_t end = begin + 1;
    while (end < sequences && offsets[end] - offsets[begin] < kEnough &&
           key_offsets[end] - key_offsets[begin] < kEnough)
      ++end;
    const size_t first_tile = plan.tiles;
    add_cross_segment(plan, offsets[begin], offsets[end], key_offsets[begin], key_offsets[end]);
    clear_slots(plan, first_tile);
    const auto slot = static_cast<int32_t>(first_tile * kTile);
    for (size_t i = begin; i < end; ++i)
      for (int32_t token = offsets[i]; token < offsets[i + 1]; ++token) {
        const int32_t own = slot + token - offsets[begin];
        plan.first_key[own] = slot + key_offsets[i] - key_offsets[begin];
        plan.last_key[own] = slot + key_offsets[i + 1] - key_offsets[begin] - 1;
      }
    set_sight(plan, first_tile);
    begin = end;
  }
}

}  // namespace cairn
