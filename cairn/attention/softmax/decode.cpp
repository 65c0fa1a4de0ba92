#include "cairn/attention/softmax/decode.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cairn/attention/softmax/steps.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/attention/softmax/decode.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include "cairn/attention/decode-inl.h"
#include "cairn/attention/exp2-inl.h"

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

// Calls body(vector of scores, how many count) for all of them, a vector at a time, and stores what
// it returns; scores that do not count are the lowest number.
template <class Body>
HWY_INLINE void by_vectors(float* scores, size_t n, Body body) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  size_t j = 0;
  for (; j + lanes <= n; j += lanes)
    hn::StoreU(body(hn::LoadU(d, scores + j), lanes), d, scores + j);
  if (j == n) return;
  HWY_ALIGN float rest[hn::MaxLanes(d)];
  std::fill_n(rest, lanes, std::numeric_limits<float>::lowest());
  std::copy_n(scores + j, n - j, rest);
  hn::Store(body(hn::Load(d, rest), n - j), d, rest);
  std::copy_n(rest, n - j, scores + j);
}

// Scores become weights 2^(s - maximum).
void weigh_scores(const DecodeRange& r, size_t head, size_t n, const DecodePart& part) {
  const FloatTag d;
  float* scores = r.scores + head * n;
  auto largest = hn::Set(d, std::numeric_limits<float>::lowest());
  by_vectors(scores, n, [&](FloatVector score, size_t /*count*/) {
    largest = hn::Max(largest, score);
    return score;
  });
  const auto maximum = hn::MaxOfLanes(d, largest);
  auto sum = hn::Zero(d);
  by_vectors(scores, n, [&](FloatVector score, size_t count) {
    const auto weight = exp2_fast(d, hn::Sub(score, maximum));
    sum = hn::Add(sum, hn::IfThenElseZero(hn::FirstN(d, count), weight));
    return weight;
  });
  part.maximum[head] = hn::GetLane(maximum);
  part.sum[head] = hn::GetLane(hn::SumOfLanes(d, sum));
}

template <class T, bool kScored>
void range_of_type(const DecodeRange& r, const DecodePart& part) {
  const auto keys = r.keys.as<const T>();
  const auto values = r.values.as<const T>();
  const auto next = r.next_keys.as<const T>();
  const size_t n = values.rows;
  std::fill_n(part.out, r.group * values.cols, 0.0F);
  by_heads(r.group, [&](auto count, size_t first) {
    constexpr int kCount = decltype(count)::value;
    float* scores = r.scores + first * n;
    if constexpr (!kScored)
      score_rows<kCount, T>(r.queries + first * keys.cols, {keys, values}, scores, n);
    for (size_t head = first; head < first + kCount; ++head) {
      if constexpr (!kScored) finish_scores(r, head, n);
      weigh_scores(r, head, n, part);
    }
    add_rows<kCount, T>(scores, n, {values, next}, part.out + first * values.cols);
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
