// Which tiles of old keys a tile of queries may leave out under falling potentials; core.h has the
// bound. Internal to softmax and fox.
#pragma once

#include "cairn/attention/mechanism.h"
#include "cairn/attention/plan.h"
#include "cairn/attention/softmax/bias.h"

namespace cairn {

// What is left out of a row weighs less than 2^-24 together.
inline constexpr double kPruneMargin = 24 * 0.6931471805599453;

struct PruneTask {
  AnyView3 q, k;  // rotated or not: rotations keep norms
  double scale = 1;
  ScorePotentials potentials;
  TilePlan plan;           // of the keys
  size_t query_tiles = 0;  // as in ForwardTask
  const Tile* query_tile = nullptr;
  size_t query_slot = 0;
};

// Floats of scratch.
size_t prune_scratch(const AttentionGeometry& geometry, size_t tiles);

// Writes first_tile [heads, query_tiles]: the earliest tile of keys that must be visited.
void find_first_tiles(const PruneTask& task, const AttentionGeometry& geometry, float* scratch,
                      int32_t* first_tile, ThreadTeam& team);

// The largest Euclidean norm among some rows; NaN where one is.
float largest_norm(const AnyView2& rows);

}  // namespace cairn
