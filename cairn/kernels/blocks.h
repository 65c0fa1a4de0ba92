// Block codecs: rows of weights to and from the layouts of tensor/block_type.h.
//
// Decoding evaluates (d * scale) * q - dmin * m in f32 in this order, without fused operations: bit
// for bit what the ggml library gives (github.com/ggml-org/ggml, ggml-quants.c), on every
// instruction set. Borrows all memory, allocates none; threads may take disjoint rows.
#pragma once

#include <cstddef>
#include <span>

#include "cairn/base/thread_team.h"
#include "cairn/tensor/block_type.h"
#include "cairn/tensor/view.h"

namespace cairn {

// Whether decode_blocks knows the type: f32, f16, bf16, q4_0 to q8_0, q2_k to q6_k, iq4_nl, mxfp4.
bool can_decode(BlockType type);

// y = the values of a row, or of several rows that lie one after another, as whole blocks.
//   blocks  block_row_bytes(type, y.size) bytes, at any address
// Throws Error (usage) when the sizes disagree, and Error (data) naming the type when it cannot.
void decode_blocks(BlockType type, std::span<const std::byte> blocks, View1<float> y);

// Whether encode_blocks knows the type: f32, f16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q2_k to q6_k.
bool can_encode(BlockType type);

// Rounds a row to whole blocks. Without importance q types give the bytes of ggml's reference
// quantisers; with it the scales have the least error weighted by it (squares of activations, as
// an importance matrix holds them). q8_0, f16 and bf16 do not look at importance.
//   x           [cols], finite, within half precision for all types but f32 and bf16
//   importance  [cols], 0 or more; empty: none
//   blocks      block_row_bytes(type, cols), at any address
// Threads may take disjoint rows. Throws Error: usage when sizes disagree or the type has no
// encoder, data when a weight is not finite or too large.
void encode_blocks(BlockType type, View1<const float> x, std::span<std::byte> blocks,
                   View1<const float> importance = {});

// Row by row over the team, in fixed chunks: x [rows, cols], blocks rows * block_row_bytes.
void encode_rows(BlockType type, View2<const float> x, std::span<std::byte> blocks,
                 View1<const float> importance, ThreadTeam& team);

}  // namespace cairn
