#include "cairn/attention/softmax/prune.h"

#include <algorithm>
#include <cmath>

namespace cairn {
namespace {

// Largest norms of the keys of each tile, and over all earlier tiles of its segment too.
struct Norms {
  size_t tiles;
  float* keys;        // [kv_heads][tiles]
  float* keys_until;  // [kv_heads][tiles]
};

float larger(float a, float b) {
  return std::isnan(a) || a > b ? a : b;  // NaN is kept: nothing is left out because of it
}

void measure_keys(const PruneTask& task, const Norms& norms, size_t head) {
  for (size_t s = 0; s < task.plan.segments; ++s) {
    const Segment& segment = task.plan.segment[s];
    float largest = 0;
    for (int32_t t = segment.first_tile; t < segment.first_tile + segment.tiles; ++t) {
      const Tile& tile = task.plan.tile[t];
      const float norm = largest_norm(tile_rows(task.k, tile.token, tile.tokens, head));
      largest = larger(norm, largest);
      norms.keys[head * norms.tiles + t] = norm;
      norms.keys_until[head * norms.tiles + t] = largest;
    }
  }
}

int32_t find_first(const PruneTask& task, const Norms& norms, size_t head, size_t kv_head,
                   size_t t) {
  const Tile& tile = task.query_tile[t];
  const size_t slot = task.query_slot + t * kTile;
  const size_t own = slot / kTile, last = (slot + tile.tokens - 1) / kTile;
  const float* keys = norms.keys + kv_head * norms.tiles;
  const float* keys_until = norms.keys_until + kv_head * norms.tiles;
  const float query = largest_norm(tile_rows(task.q, tile.token, tile.tokens, head));
  const float self = larger(keys[own], keys[last]);
  const double potential =
      task.potentials.queries[head * task.potentials.query_stride + tile.token];
  const double* of_keys = task.potentials.keys + head * task.potentials.key_stride;
  size_t first = tile.first_key / kTile;
  const double most = std::log(static_cast<double>((last - first + 1) * kTile)) + kPruneMargin;
  for (; first < own; ++first) {
    const Tile& old = task.plan.tile[first];
    const double decay = potential - of_keys[old.token + old.tokens - 1];
    const double reach = task.scale * query * (static_cast<double>(keys_until[first]) + self);
    if (!(reach + decay + most < 0)) break;
  }
  return static_cast<int32_t>(first);
}

}  // namespace

float largest_norm(const AnyView2& rows) {
  float squares[kTile], largest = 0;
  dot_tile_rows(rows, rows, squares);
  for (size_t i = 0; i < rows.rows; ++i) largest = larger(squares[i], largest);
  return std::sqrt(largest);
}

size_t prune_scratch(const AttentionGeometry& geometry, size_t tiles) {
  return 2 * tiles * geometry.kv_heads;
}

void find_first_tiles(const PruneTask& task, const AttentionGeometry& geometry, float* scratch,
                      int32_t* first_tile, ThreadTeam& team) {
  const size_t tiles = task.plan.tiles;
  const Norms norms{tiles, scratch, scratch + geometry.kv_heads * tiles};
  const size_t group = geometry.heads / geometry.kv_heads;
  team.run(geometry.kv_heads, [&](size_t head, int) { measure_keys(task, norms, head); });
  team.run(geometry.heads * task.query_tiles, [&](size_t chunk, int) {
    const size_t head = chunk / task.query_tiles;
    first_tile[chunk] = find_first(task, norms, head, head / group, chunk % task.query_tiles);
  });
}

}  // namespace cairn
