// What an MLP does between its projections: y = act(gate) * up, the gated units of Shazeer 2020,
// arXiv:2002.05202, or y = act(x) without a gate.
//   SwiGLU   act(g) = g * sigmoid(g)                                      (SiLU)
//   GEGLU    act(g) = g/2 * (1 + tanh(sqrt(2/pi) * (g + 0.044715 g^3)))   (GELU, tanh form)
//   ReGLU    act(g) = max(g, 0)                                           (ReLU)
// All are g * s(g). For the first two s = sigmoid(a(g)): a(g) = g for SiLU, and since 1 + tanh(u) =
// 2 sigmoid(2u), twice the argument of tanh for GELU, so that act' = s + g * s * (1 - s) * a'(g);
// for ReLU s is 1 above 0 and 0 otherwise, and act' = s.
//   dgate = dy * up * act'(gate), dup = dy * act(gate), dx = dy * act'(x)
//   gate_up, dgate_up  [rows, 2 * width]  gate in the first half of the columns, up in the second
//   x, y, dx, dy       [rows, width]
// All arrays of a call have one type, f32 or bf16; arithmetic is f32. Rows may be strided. Allocate
// nothing; threads may take disjoint rows. Throw Error (usage) when shapes disagree.
#pragma once

#include "cairn/tensor/view.h"

namespace cairn {

enum class Gate { silu, gelu_tanh, relu };

void gated_unit(Gate gate, View2<const float> gate_up, View2<float> y);
void gated_unit(Gate gate, View2<const bf16> gate_up, View2<bf16> y);

// dgate_up may be gate_up.
void gated_unit_backward(Gate gate, View2<const float> gate_up, View2<const float> dy,
                         View2<float> dgate_up);
void gated_unit_backward(Gate gate, View2<const bf16> gate_up, View2<const bf16> dy,
                         View2<bf16> dgate_up);

// y may be x.
void activation(Gate gate, View2<const float> x, View2<float> y);
void activation(Gate gate, View2<const bf16> x, View2<bf16> y);

// dx may be x or dy.
void activation_backward(Gate gate, View2<const float> x, View2<const float> dy, View2<float> dx);
void activation_backward(Gate gate, View2<const bf16> x, View2<const bf16> dy, View2<bf16> dx);

}  // namespace cairn
