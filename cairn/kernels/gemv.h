// Weight matrices times a few vectors, the work of decoding: every weight is read once, so the
// memory is the limit and not the arithmetic.
//   y[t, r] = sum over k of w[r, k] * x[t, k]
//   w  [rows, cols]    f32 or bf16 (widened to f32 exactly), rows may be strided
//   x  [tokens, cols]  f32, rows may be strided
//   y  [tokens, rows]  f32, rows may be strided; must not overlap x
// Each y[t, r] is summed in f32 in an order that depends on cols and the vector width alone: the
// same bits for any number of tokens in the call, of threads, and any cut of the rows. Borrows all
// memory, allocates none. Throws Error (usage) when shapes disagree.
#pragma once

#include <span>

#include "cairn/base/thread_team.h"
#include "cairn/tensor/view.h"

namespace cairn {

// On the calling thread. Threads may take disjoint rows of w with the matching columns of y.
void gemv(View2<const float> w, View2<const float> x, View2<float> y);
void gemv(View2<const bf16> w, View2<const float> x, View2<float> y);

// One of several matrices that read the same x (queries, keys and values; gate and up).
struct GemvPart {
  AnyView2 w;  // f32 or bf16
  View2<float> y;
};

// All parts in one parallel region, rows cut into fixed chunks of about 32 KB of weights.
void gemv(std::span<const GemvPart> parts, View2<const float> x, ThreadTeam& team);

}  // namespace cairn
