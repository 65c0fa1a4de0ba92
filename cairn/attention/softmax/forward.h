// The blockwise forward pass, for training and for prompts over a cache. Internal to the room.
#pragma once

#include "cairn/attention/plan.h"
#include "cairn/attention/softmax/bias.h"
#include "cairn/attention/softmax/steps.h"
#include "cairn/attention/tile.h"

namespace cairn {

// What one forward pass reads and writes. Keys and values fill the slots of `plan`. The queries are
// the tokens of `query_tiles`; where they are tokens of the plan too, row r of query tile t is slot
// query_slot + t * kTile + r.
struct ForwardTask {
  AnyView3 q, k, v, out;
  RotaryRows rotate_q;  // positions by token of q; no table: q and k are not rotated
  RotaryRows rotate_k;  // positions by token of k; no table: k is rotated already
  float scale = 1;
  const ScoreBias* bias = nullptr;  // null: none
  TilePlan plan;                    // of the keys
  size_t query_tiles = 0;
  const Tile* query_tile = nullptr;    // [query_tiles], what they see in slots of the plan
  const int32_t* first_key = nullptr;  // [query_tiles * kTile] likewise, of each row
  const int32_t* last_key = nullptr;
  size_t query_slot = 0;
  // First key tile that the queries of a tile visit, if later than the plan says: [heads,
  // query_tiles]; null: as the plan says.
  const int32_t* first_tile = nullptr;
  float* log2_sum = nullptr;  // [heads, tokens of q]; null if not wanted
};

// Bytes of workspace beside the plan.
size_t forward_workspace(const AttentionGeometry& geometry, const TileKernel& kernel, size_t tiles,
                         int threads);
void run_forward(const ForwardTask& task, const AttentionGeometry& geometry,
                 const TileKernel& kernel, Arena& arena, ThreadTeam& team);

// How many key heads are worked on at a time: enough to keep many threads busy, few enough to keep
// the workspace small when sequences are long. Depends on shapes only.
size_t head_batch(size_t kv_heads, size_t tiles);

}  // namespace cairn
