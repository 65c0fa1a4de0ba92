// Element-wise passes of the room, through Highway. Internal to the room.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cairn {

// scores[key][query] += key_bias[key] + query_bias[query] for `keys` rows of kTile.
void add_bias(float* scores, size_t keys, const float* key_bias, const float* query_bias);
// For dscores [key][query], `keys` rows of kTile elements, f32 or (pair = 2) bf16, over the first
// `columns` queries: key_sums[key] -= scale * dscores, query_sums[query] += scale * dscores. The
// latter are zero but for rounding; without them the rounding would add up along the sequence.
void add_gate_gradients(const void* dscores, size_t pair, size_t keys, size_t columns, float scale,
                        float* key_sums, float* query_sums);
// The columns form of bf16 from that of f32 [dim][kTile]: word (k, token) holds the elements 2 k
// and 2 k + 1.
void pair_columns(const float* columns, size_t dim, uint32_t* words);

}  // namespace cairn
