// The blockwise backward pass. Internal to the room.
#pragma once

#include "cairn/attention/plan.h"
#include "cairn/attention/softmax/bias.h"
#include "cairn/attention/tile.h"

namespace cairn {

struct BackwardTask {
  AnyView3 q, k, v, out, dout;
  AnyView3 dq, dk, dv;
  RotaryRows rotary;  // positions by token
  float scale = 1;
  const ScoreBias* bias = nullptr;  // null: none
  TilePlan plan;
  const int32_t* first_tile = nullptr;  // [heads, tiles], as in forward
  const float* log2_sum = nullptr;      // [heads, tokens], from forward
};

// Bytes of workspace beside the plan.
size_t backward_workspace(const AttentionGeometry& geometry, const TileKernel& kernel, size_t tiles,
                          int threads);
void run_backward(const BackwardTask& task, const AttentionGeometry& geometry,
                  const TileKernel& kernel, Arena& arena, ThreadTeam& team);

}  // namespace cairn
