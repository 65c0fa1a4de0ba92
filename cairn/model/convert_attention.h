// A trained model with rotary positions as the start of one with PaTH attention (Yang et al. 2025,
// arXiv:2505.16381, section on converting pretrained transformers).
//
// Queries, keys and the directions w turn with their position, and the strength of every reflection
// has a factor alpha per key head that starts at 0: without reflections PaTH attention is softmax
// attention, so the converted model computes what its teacher did and leaves it only as training
// raises alpha.
#pragma once

#include "cairn/model/model.h"

namespace cairn {

// `options` are of the room "path", beyond rope_on_w and rope_theta, which follow from the teacher.
// The tensors that PaTH adds start from `seed`. Throws Error (usage) when the teacher is not
// softmax attention with plain rotary positions, or on another room or options that it refuses.
Model path_from_rope(const Model& teacher, AttentionOptions options, uint64_t seed);

}  // namespace cairn
