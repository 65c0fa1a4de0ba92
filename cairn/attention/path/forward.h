// The blockwise forward pass. Internal to the room.
#pragma once

#include "cairn/attention/path/task.h"

namespace cairn {

// Bytes of workspace beside the tables of plan_task.
size_t path_forward_workspace(const PathTask& task, size_t tiles, int threads);
// out and log2_sum as in path_attention.
void run_path_forward(const PathTask& task, const AnyView3& out, float* log2_sum, Arena& arena,
                      ThreadTeam& team);

// Products P_{j+1} ... P_{i-1} for all j < i - 1 of the segment of super-block i, from the products
// P [count][dim][width] of the super-blocks, to products[supers.pair(i, j)].
void chain_products(const PathTask& task, size_t i, const float* p, float* products);

}  // namespace cairn
