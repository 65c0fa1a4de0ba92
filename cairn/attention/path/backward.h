// The blockwise backward pass. Internal to the room.
#pragma once

#include "cairn/attention/path/task.h"

namespace cairn {

size_t path_backward_workspace(const PathTask& task, size_t tiles, int threads);
void run_path_backward(const PathTask& task, const AnyView3& out, const AnyView3& dout,
                       const float* log2_sum, const PathGradients& gradients, Arena& arena,
                       ThreadTeam& team);

}  // namespace cairn
