// How much memory generating with a model takes, from its description and the types that its files
// store, without opening any weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "cairn/base/function_ref.h"
#include "cairn/model/config.h"
#include "cairn/tensor/block_type.h"

namespace cairn {

// In bytes. Activations, some MiB for a chunk of a prompt, come on top.
struct DecodeMemory {
  uint64_t weights = 0;    // all matrices, head included, as tiles of their types
  uint64_t embedding = 0;  // its rows as stored, beside the head that may be the same
  uint64_t cache = 0;      // keys and values of `context` tokens, in f16 (own caches: f32)
};

// `type_of` tells the stored type of a tensor by its name in Hugging Face files. Throws Error
// (data) for a type that cannot be decoded with.
DecodeMemory decode_memory(const ModelConfig& config, size_t context,
                           FunctionRef<BlockType(const std::string& name)> type_of);

}  // namespace cairn
