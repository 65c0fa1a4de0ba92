// One query against a range of cached keys: the step of generation. Bound by reading the cache, so
// each key and value is read once for all query heads that share it. Internal to the room.
#pragma once

#include <cstddef>

#include "cairn/tensor/view.h"

namespace cairn {

inline constexpr size_t kStickRange = 256;  // keys of a range, at most

// The queries of one key head over one range of keys, as if nothing newer had taken a share.
struct StickRange {
  const float* queries;  // [group][head_dim]
  size_t group;
  AnyView2 keys;         // [n, head_dim] f32 or bf16, oldest first
  AnyView2 values;       // [n, value_dim] of the same type
  const float* offsets;  // [group] of GateRule
  float factor, floor;   // of GateRule
  float threshold;       // the walk ends when every stick is at most this; 0: never
  size_t chunk;          // keys between two looks at the sticks: many read faster, few end sooner
  float* weights;        // [group][kStickRange] scratch
};

struct StickPart {
  double* stick;  // [group] what the range leaves
  float* out;     // [group][value_dim]
};

// Returns the number of keys read.
size_t decode_stick_range(const StickRange& range, const StickPart& part);

// newer <- newer + older, the older range being reached with the newer one's sticks:
// (o_n + r_n o_o, r_n r_o), associative.
void merge_older(size_t group, size_t value_dim, const StickPart& older, const StickPart& newer);

}  // namespace cairn
