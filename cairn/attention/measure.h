// How fast a mechanism is: medians over repetitions on random inputs.
#pragma once

#include "cairn/attention/mechanism.h"

namespace cairn {

// Times are medians in seconds. FLOPs count what a causal mask leaves, a multiply-add being two: a
// forward pass is AttentionMechanism::forward_flops at the mean context, a backward pass 2.5 times
// that (five products for two).
struct AttentionTiming {
  double forward_seconds = 0;
  double backward_seconds = 0;
  double both_seconds = 0;  // of a forward and the backward after it
  double forward_gflops = 0;
  double backward_gflops = 0;
  double both_gflops = 0;
  size_t saved_bytes = 0;
  size_t workspace_bytes = 0;
  std::optional<AttentionStatistics> statistics;  // of the last forward pass
};

// Runs forward and backward on `sequences` sequences of `tokens` tokens each: once to warm up, then
// `repetitions` times. Throws Error (usage) when repetitions is 0, and what the mechanism throws.
AttentionTiming measure_attention(const AttentionMechanism& attention, size_t sequences,
                                  size_t tokens, DType dtype, ThreadTeam& team, int repetitions);

}  // namespace cairn
