// One query against a range of cached keys: the step of generation. Bound by reading the cache, so
// each key and value is read once for all query heads that share it. Internal to the room.
#pragma once

#include <cstddef>

#include "cairn/tensor/view.h"

namespace cairn {

// The queries of one key head over one range of keys.
struct DecodeRange {
  const float* queries;  // [group][head_dim], rotated
  size_t group;
  AnyView2 keys;            // [n, head_dim] f32 or bf16, rotated
  AnyView2 values;          // [n, value_dim] of the same type
  AnyView2 next_keys = {};  // that will be read next, for reading ahead; or none
  float factor;             // scale * log2(e)
  const float* bias;        // [group][n] added to factor * score; null: none
  float* scores;            // [group][n] scratch
};

// What a range leaves: out = sum of 2^(s - maximum) v, unnormalised.
struct DecodePart {
  float* maximum;  // [group] of factor * score
  float* sum;      // [group]
  float* out;      // [group][value_dim]
};

void decode_range(const DecodeRange& range, const DecodePart& part);
// The same where `scores` already holds factor * score + bias; queries and keys are not read.
void decode_scores(const DecodeRange& range, const DecodePart& part);

// Combines the parts of one query in order and writes the normalised result [value_dim]. Part p has
// its maximum at maximum[p * part_stride], its sum likewise, its output at
// out + p * part_stride * value_dim.
void merge_parts(const float* maximum, const float* sum, size_t parts, size_t part_stride,
                 const float* out, size_t value_dim, float* result);

}  // namespace cairn
