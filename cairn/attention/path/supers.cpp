#include "cairn/attention/path/supers.h"

#include <algorithm>
#include <cmath>

namespace cairn {

size_t super_block_tiles(size_t tiles, size_t group, size_t dim) {
  const double sharing = std::max(1.0, static_cast<double>(group) * 64 / std::max<size_t>(dim, 64));
  const double best = std::sqrt(static_cast<double>(tiles) / sharing);
  return std::max<size_t>(1, static_cast<size_t>(std::ceil(best)));
}

SuperLimits super_limits(size_t tiles, size_t group, size_t dim, size_t wanted) {
  if (wanted != 0) {
    const size_t count = chunk_count(tiles, wanted);
    return {wanted, tiles, count * count / 2 + 1};
  }
  // A segment of t tiles has at most t / b + 1 super-blocks and (t / b)(t / b + 1) / 2 products;
  // b^2 >= longest / sharing makes that at most t (sharing + 1) / 2.
  const size_t sharing = std::max<size_t>(1, group * 64 / std::max<size_t>(dim, 64) + 1);
  return {super_block_tiles(tiles, group, dim), tiles, tiles * (sharing + 1) / 2 + 1};
}

SuperPlan take_supers(Arena& arena, size_t tiles) {
  SuperPlan supers;
  supers.super = arena.take<SuperBlock>(tiles);
  supers.of_tile = arena.take<int32_t>(tiles);
  return supers;
}

void fill_supers(SuperPlan& supers, const TilePlan& plan, size_t block_tiles) {
  supers.block_tiles = block_tiles;
  supers.count = supers.pairs = 0;
  for (size_t s = 0; s < plan.segments; ++s) {
    const Segment& segment = plan.segment[s];
    const auto first = static_cast<int32_t>(supers.count);
    for (int32_t tile = 0; tile < segment.tiles; tile += static_cast<int32_t>(block_tiles)) {
      const auto tiles = std::min<int32_t>(segment.tiles - tile, static_cast<int32_t>(block_tiles));
      const auto i = static_cast<int32_t>(supers.count++);
      supers.super[i] = {segment.first_tile + tile, tiles, first,
                         static_cast<int32_t>(supers.pairs)};
      supers.pairs += supers.products_of(i);
      std::fill_n(supers.of_tile + segment.first_tile + tile, tiles, i);
    }
  }
}

}  // namespace cairn
