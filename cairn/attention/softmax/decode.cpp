#include "cairn/attention/softmax/decode.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cairn/attention/softmax/steps.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/attention/softmax/decode.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include "cairn/attention/decode-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

// Products become scores: times the factor, plus the bias.
void finish_scores(const DecodeRange& r, size_t head, size_t n) {
  float* scores = r.scores + head * n;
  if (r.bias == nullptr) {
    for (size_t j = 0; j < n; ++j) scores[j] *= r.factor;
  } else {
    for (size_t j = 0; j < n; ++j) scores[j] = scores[j] * r.factor + r.bias[head * n + j];
  }
}

// Scores become weights 2^(s - maximum).
void weigh_scores(const DecodeRange& r, size_t head, size_t n, const DecodePart& part) {
  float* scores = r.scores + head * n;
  const float largest = *std::max_element(scores, scores + n);
  for (size_t j = 0; j < n; ++j) scores[j] -= largest;
  exp2_of(scores, n, scores);
  float sum = 0;
  for (size_t j = 0; j < n; ++j) sum += scores[j];
  part.maximum[head] = largest;
  part.sum[head] = sum;
}

template <class T, bool kScored>
void range_of_type(const DecodeRange& r, const DecodePart& part) {
  const auto keys = r.keys.as<const T>();
  const auto values = r.values.as<const T>();
  const size_t n = values.rows;
  std::fill_n(part.out, r.group * values.cols, 0.0F);
  by_heads(r.group, [&](auto count, size_t first) {
    constexpr int kCount = decltype(count)::value;
    float* scores = r.scores + first * n;
    if constexpr (!kScored) score_rows<kCount, T>(r.queries + first * keys.cols, keys, scores, n);
    for (size_t head = first; head < first + kCount; ++head) {
      if constexpr (!kScored) finish_scores(r, head, n);
      weigh_scores(r, head, n, part);
    }
    add_rows<kCount, T>(scores, n, values, part.out + first * values.cols);
  });
}

void range_of_any(const DecodeRange& r, const DecodePart& part) {
  if (r.values.dtype == DType::bf16)
    range_of_type<bf16, false>(r, part);
  else
    range_of_type<float, false>(r, part);
}

void scores_of_any(const DecodeRange& r, const DecodePart& part) {
  if (r.values.dtype == DType::bf16)
    range_of_type<bf16, true>(r, part);
  else
    range_of_type<float, true>(r, part);
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
HWY_EXPORT(range_of_any);
HWY_EXPORT(scores_of_any);

void decode_range(const DecodeRange& range, const DecodePart& part) {
  HWY_DYNAMIC_DISPATCH(range_of_any)(range, part);
}

void decode_scores(const DecodeRange& range, const DecodePart& part) {
  HWY_DYNAMIC_DISPATCH(scores_of_any)(range, part);
}

void merge_parts(const float* maximum, const float* sum, size_t parts, size_t part_stride,
                 const float* out, size_t value_dim, float* result) {
  float largest = std::numeric_limits<float>::lowest(), total = 0;
  for (size_t p = 0; p < parts; ++p) largest = std::max(largest, maximum[p * part_stride]);
  std::fill_n(result, value_dim, 0.0F);
  for (size_t p = 0; p < parts; ++p) {
    const float factor = std::exp2(maximum[p * part_stride] - largest);
    total += factor * sum[p * part_stride];
    const float* from = out + p * part_stride * value_dim;
    for (size_t i = 0; i < value_dim; ++i) result[i] += factor * from[i];
  }
  for (size_t i = 0; i < value_dim; ++i) result[i] /= total;
}

}  // namespace cairn
#endif
