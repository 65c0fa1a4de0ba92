// Passes over rows that convert, copy and add. Rows may be strided; sizes must agree (Error,
// usage). Allocate nothing; threads may take disjoint rows.
#pragma once

#include <span>

#include "cairn/tensor/view.h"

namespace cairn {

// bf16 rounds to nearest even (dtype.h).
void convert(View2<const float> from, View2<bf16> to);
void convert(View2<const bf16> from, View2<float> to);
void copy(View2<const float> from, View2<float> to);
void add(View2<const float> from, View2<float> to);  // to += from
// to += factor * from
void add_scaled(View2<const float> from, float factor, View2<float> to);
void add_scaled(View2<const bf16> from, float factor, View2<float> to);
// to = factor * from; `to` may be `from`
void scale(View2<const float> from, float factor, View2<float> to);
void scale(View2<const float> from, float factor, View2<bf16> to);

// The first half of a row-wise softmax cross-entropy over part of the vocabulary.
//   logits [cols]; returns the maximum m, and in `sum` the sum of exp(logit - m).
float max_and_sum_exp(View1<const float> logits, float& sum);

// logits become softmax(logits) = exp(logit - log_sum): probabilities, in place or as bf16 at the
// start of the same memory (`as_bf16` may alias logits: it is written behind the read position).
void exp_minus(View1<float> logits, float log_sum);
void exp_minus(View1<const float> logits, float log_sum, bf16* probabilities);

// True when no element is infinite or NaN.
bool all_finite(View1<const float> values);
bool all_finite(View1<const bf16> values);
// The first index from `begin` on whose value is NaN or above `limit`; values.size if there is
// none.
size_t first_above(View1<const float> values, size_t begin, float limit);

}  // namespace cairn
