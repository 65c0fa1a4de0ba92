// Block codecs: rows of weights to and from the layouts of tensor/block_type.h.
//
// Decoding evaluates (d * scale) * q - dmin * m in f32 in this order, without fused operations: bit
// for bit what the ggml library gives (github.com/ggml-org/ggml, ggml-quants.c), on every
// instruction set. Borrows all memory, allocates none; threads may take disjoint rows.
#pragma once

#include <cstddef>
#include <span>

#include "cairn/tensor/block_type.h"
#include "cairn/tensor/view.h"

namespace cairn {

// Whether decode_blocks knows the type: f32, f16, bf16, q4_0 to q8_0, q2_k to q6_k, iq4_nl, mxfp4.
bool can_decode(BlockType type);

// y = the values of a row, or of several rows that lie one after another, as whole blocks.
//   blocks  block_row_bytes(type, y.size) bytes, at any address
// Throws Error (usage) when the sizes disagree, and Error (data) naming the type when it cannot.
void decode_blocks(BlockType type, std::span<const std::byte> blocks, View1<float> y);

}  // namespace cairn
