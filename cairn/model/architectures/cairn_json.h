// CairnForCausalLM: any decoder that ModelConfig can describe, for models that no class of
// transformers can say, above all those with another attention mechanism. config.json then holds
//   "attention": {"mechanism": name, option: value, ...}
// and every feature that differs from its default, by the name it has in ModelConfig.
#pragma once

#include "cairn/model/architecture.h"

namespace cairn {

Json write_cairn(const ModelConfig& config, DType dtype);

// Nothing but what all decoders have: no multipliers, offsets, further norms or other scales.
bool is_plain_decoder(const ModelConfig& config);

// The "window" option as config.json writes it (a number or null), taken out of `options`.
Json take_window(AttentionOptions& options);

}  // namespace cairn
