// SwiGLU: y = silu(gate) * up, silu(g) = g * sigmoid(g). Shazeer 2020, arXiv:2002.05202.
//   gate_up, dgate_up  [rows, 2 * width]  gate in the first half of the columns, up in the second
//   y, dy              [rows, width]
// With s = sigmoid(gate): dgate = dy * up * s * (1 + gate * (1 - s)), dup = dy * silu(gate).
// All arrays of a call have one type, f32 or bf16; arithmetic is f32. Rows may be strided. Allocate
// nothing; threads may take disjoint rows. Throw Error (usage) when shapes disagree.
#pragma once

#include "cairn/tensor/view.h"

namespace cairn {

void swiglu(View2<const float> gate_up, View2<float> y);
void swiglu(View2<const bf16> gate_up, View2<bf16> y);

// dgate_up may be gate_up.
void swiglu_backward(View2<const float> gate_up, View2<const float> dy, View2<float> dgate_up);
void swiglu_backward(View2<const bf16> gate_up, View2<const bf16> dy, View2<bf16> dgate_up);

}  // namespace cairn
