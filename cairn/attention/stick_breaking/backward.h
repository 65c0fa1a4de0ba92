// The blockwise backward pass. Internal to the room.
#pragma once

#include "cairn/attention/stick_breaking/store.h"

namespace cairn {

struct StickBackwardTask {
  const StickBreaking& attention;
  StickInputs inputs;
  AnyView3 dout;
  View2<const float> dremainder;  // [tokens, heads]; may be empty
  StickGradients gradients;
  StickStore store;  // as forward left it
};

// Bytes of workspace for `tokens` tokens in sequences of at most `tiles` tiles.
size_t stick_backward_workspace(const StickBreaking& attention, const TileKernel& kernel,
                                size_t tokens, size_t tiles, int threads);
void run_stick_backward(const StickBackwardTask& task, View1<const int32_t> offsets, Arena& arena,
                        ThreadTeam& team);

}  // namespace cairn
