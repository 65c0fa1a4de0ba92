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
    plan.tile[plan.tiles++] = {token, tokens, 0};
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

}  // namespace

size_t most_tiles(size_t tokens) {
  // Every segment but the last has kSegmentTokens or more, and each adds less than one tile.
  return chunk_count(tokens, kTile) + tokens / kSegmentTokens;
}

TilePlan take_plan(Arena& arena, size_t tiles) {
  TilePlan plan;
  plan.capacity = tiles;
  plan.segment = arena.take<Segment>(tiles);
  plan.tile = arena.take<Tile>(tiles);
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
    std::fill(plan.first_key + slot, plan.first_key + plan.slots(),
              std::numeric_limits<int32_t>::max());
    std::fill(plan.last_key + slot, plan.last_key + plan.slots(), -1);
    for (size_t i = begin; i < end; ++i)
      add_sequence(plan, slot, offsets[begin], offsets[i], offsets[i + 1]);
    for (size_t t = first_tile; t < plan.tiles; ++t)
      plan.tile[t].first_key = plan.first_key[t * kTile];
    begin = end;
  }
}

}  // namespace cairn
