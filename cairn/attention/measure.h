// How fast mechanisms are: medians over repetitions on random inputs, of several mechanisms in
// turn, so that a ratio between two of them does not see the load of the machine.
#pragma once

#include <span>
#include <vector>

#include "cairn/attention/mechanism.h"

namespace cairn {

enum class AttentionPhase {
  train,    // forward and backward of whole sequences
  decode,   // one token against a filled cache
  prefill,  // a prompt into an empty cache
};

struct AttentionWorkload {
  AttentionPhase phase = AttentionPhase::train;
  size_t sequences = 1;  // train only; the other phases have one
  size_t tokens = 1;     // of a sequence or prompt; in decode, those in the cache already
  size_t chunk = 0;      // prefill: tokens that one call appends; 0 for the whole prompt
  DType dtype = DType::f32;
  int repetitions = 5;
};

// Tokens that one sample of decode appends, so that what a room does every so many tokens counts.
inline constexpr size_t kDecodeSteps = 64;

// Times are medians in seconds. FLOPs count what a causal mask leaves, a multiply-add being two: a
// forward pass is AttentionMechanism::forward_flops at the mean context, a backward pass 2.5 times
// that (five products for two).
struct AttentionTiming {
  double forward_seconds = 0;   // decode: of one token; prefill: of the prompt
  double backward_seconds = 0;  // train only
  double both_seconds = 0;      // of a forward and the backward after it
  double forward_gflops = 0;
  double backward_gflops = 0;
  double both_gflops = 0;
  size_t saved_bytes = 0;  // train only, as workspace_bytes
  size_t workspace_bytes = 0;
  size_t cache_bytes = 0;  // decode and prefill
  // Of the last forward pass, or of all that went into the cache.
  std::optional<AttentionStatistics> statistics;
};

// Runs each of `mechanisms` (which agree in geometry) once to warm up, then all of them in turn
// `repetitions` times. Hidden states, queries, keys and values are standard normal, parameters as
// their ParameterSpec starts them. In training all are of the workload's type; caches keep that
// type but are fed f32, as the engine does. A mechanism's context length must reach beyond `tokens`
// by kDecodeSteps * (repetitions + 1) in decode.
// Throws Error (usage) when repetitions or tokens are 0, and what the mechanisms throw.
std::vector<AttentionTiming> measure_attention(
    std::span<const AttentionMechanism* const> mechanisms, const AttentionWorkload& workload,
    ThreadTeam& team);

}  // namespace cairn
