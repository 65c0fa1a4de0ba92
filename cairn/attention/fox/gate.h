// The forget gates of tokens from their hidden states, and back:
//   logit[t, h] = weight[h] . x[t] + bias[h],   log_forget = log sigmoid(logit)
// x [tokens, hidden] is f32 or bf16. Sums are f32 in an order that depends on shapes alone.
// Internal to the room.
#pragma once

#include "cairn/base/thread_team.h"
#include "cairn/tensor/view.h"

namespace cairn {

// Tokens that one unit of work takes; each thread needs scratch for their x in f32.
inline constexpr size_t kGateTokens = 64;
inline size_t gate_scratch(size_t hidden) {
  return kGateTokens * hidden;
}

void forget_gates(const AnyView2& x, View2<const float> weight, View1<const float> bias,
                  View2<float> log_forget, float* scratch, ThreadTeam& team);

// `dlog_forget` is overwritten with the gradients of the logits. dx, dweight and dbias are added
// to.
void forget_gates_backward(const AnyView2& x, View2<const float> weight,
                           View2<const float> log_forget, View2<float> dlog_forget, View2<float> dx,
                           View2<float> dweight, View1<float> dbias, ThreadTeam& team);

}  // namespace cairn
