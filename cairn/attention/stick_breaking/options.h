// What configures stick-breaking attention, beyond the geometry.
#pragma once

#include "cairn/attention/mechanism.h"

namespace cairn {

// Which vector receives the share of the stick that no key took.
enum class StickRemainder {
  none,       // no vector: weights sum to less than 1
  value,      // the query's own value
  head_bias,  // a learned vector per query head
};

struct StickBreakingOptions {
  StickRemainder remainder = StickRemainder::head_bias;
  bool head_norm = false;       // GroupNorm with one group a query head on the output
  bool logit_bias = false;      // a learned number per query head, added to its logits
  double logit_bias_start = 0;  // where it starts
  bool attend_current = false;  // queries see their own key, not only earlier ones
  // A row stops walking back when at most this share of its stick is left; 0: never. 2^-24 moves
  // an output by less than the rounding of the largest value.
  float exit_threshold = 0x1p-24F;
  // Gates below this become 0: long sequences then lose nothing to many tiny gates. For inference.
  float gate_floor = 0;
};

// Throws Error (usage) that names the option, what it may be and what was found.
StickBreakingOptions parse_stick_breaking_options(const AttentionOptions& options);

}  // namespace cairn
