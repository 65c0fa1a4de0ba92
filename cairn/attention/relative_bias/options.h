// Options of the room, see relative_bias.h. Internal to it.
#pragma once

#include <string_view>

#include "cairn/attention/mechanism.h"

namespace cairn {

struct RelativeBiasOptions {
  AttentionMask mask = AttentionMask::causal;
  size_t buckets = 32;
  size_t max_distance = 128;
};

// Throws Error (usage) that opens with `doing` on unknown keys and values that do not fit together.
RelativeBiasOptions read_relative_bias_options(std::string_view doing,
                                               const AttentionOptions& options);

}  // namespace cairn
