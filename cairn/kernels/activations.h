// Gated units: y = act(gate) * up. Shazeer 2020, arXiv:2002.05202.
//   SwiGLU   act(g) = g * sigmoid(g)                                      (SiLU)
//   GEGLU    act(g) = g/2 * (1 + tanh(sqrt(2/pi) * (g + 0.044715 g^3)))   (GELU, tanh form)
// Both are g * sigmoid(a(g)): a(g) = g for SiLU, and since 1 + tanh(u) = 2 sigmoid(2u), twice the
// argument of tanh for GELU. With s = sigmoid(a(gate)):
//   dgate = dy * up * (s + gate * s * (1 - s) * a'(gate)), dup = dy * gate * s
//   gate_up, dgate_up  [rows, 2 * width]  gate in the first half of the columns, up in the second
//   y, dy              [rows, width]
// All arrays of a call have one type, f32 or bf16; arithmetic is f32. Rows may be strided. Allocate
// nothing; threads may take disjoint rows. Throw Error (usage) when shapes disagree.
#pragma once

#include "cairn/tensor/view.h"

namespace cairn {

enum class Gate { silu, gelu_tanh };

void gated_unit(Gate gate, View2<const float> gate_up, View2<float> y);
void gated_unit(Gate gate, View2<const bf16> gate_up, View2<bf16> y);

// dgate_up may be gate_up.
void gated_unit_backward(Gate gate, View2<const float> gate_up, View2<const float> dy,
                         View2<float> dgate_up);
void gated_unit_backward(Gate gate, View2<const bf16> gate_up, View2<const bf16> dy,
                         View2<bf16> dgate_up);

}  // namespace cairn
