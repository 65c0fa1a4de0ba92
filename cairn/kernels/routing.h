// The router of a mixture of experts (Shazeer et al. 2017, arXiv:1701.06538): which experts a token
// goes to, and with what weight.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cairn/tensor/view.h"

namespace cairn {

// The `count` highest logits [experts], in falling order, of equal ones the lowest number first;
// weights are the softmax over these alone.
//   experts, weights  [count]
// Allocates nothing; thread-safe. `count` is from 1 to the number of logits.
void choose_experts(View1<const float> logits, size_t count, int32_t* experts, float* weights);

}  // namespace cairn
