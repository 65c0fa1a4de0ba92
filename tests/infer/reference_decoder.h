// The model of model/config.h read over a whole text in float64, slowly and plainly: what the
// engine is held to. `rounding` is applied to what matrices multiply, to say what rounding alone
// does.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "cairn/model/model.h"

namespace cairn {

using ActivationRounding = std::function<void(std::vector<double>& row)>;

// To 8 bits under one scale for 32 values, to nearest even, as kernels/tile_products.h says.
void round_to_int8(std::vector<double>& row);
// To bf16.
void round_to_bf16(std::vector<double>& row);

// Logits [tokens, vocab_size]; an encoder-decoder reads `source` first.
std::vector<double> reference_logits(const Model& model, std::span<const int32_t> tokens,
                                     const ActivationRounding& rounding = {},
                                     std::span<const int32_t> source = {});

}  // namespace cairn
