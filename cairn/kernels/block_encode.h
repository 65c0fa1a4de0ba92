// Within kernels: the encoders of K types (256 elements a block), behind encode_blocks.
#pragma once

#include <cstddef>

#include "cairn/tensor/block_type.h"

namespace cairn {

// x [elements], whole blocks; importance [elements] or null. False for another type.
bool encode_k_blocks(BlockType type, const float* x, const float* importance, size_t elements,
                     std::byte* to);

}  // namespace cairn
