#include "cairn/attention/stick_breaking/decode.h"

#include <algorithm>

#include "cairn/attention/stick_breaking/steps.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/attention/stick_breaking/decode.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include "cairn/attention/decode-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

// Gates of keys become shares of a stick of length 1, the newest (last) key first; returns what
// they take together. A lane takes four keys in turn; what newer lanes took is known after one pass
// over the lanes.
float take_shares(float* gates, size_t n) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  HWY_ALIGN float sums[hn::MaxLanes(d)], left[hn::MaxLanes(d)];
  const auto one = hn::Set(d, 1.0F);
  float taken = 0;
  size_t end = n;
  for (; end >= 4 * lanes; end -= 4 * lanes) {
    float* run = gates + end - 4 * lanes;
    FloatVector share[4];  // of keys 4 l .. 4 l + 3 in lane l
    hn::LoadInterleaved4(d, run, share[0], share[1], share[2], share[3]);
    auto sum = share[3];
    for (int i = 2; i >= 0; --i) {
      share[i] = hn::Mul(share[i], hn::Sub(one, sum));
      sum = hn::Add(sum, share[i]);
    }
    hn::Store(sum, d, sums);
    for (size_t lane = lanes; lane-- > 0;) {
      left[lane] = 1 - taken;
      taken += sums[lane] * left[lane];
    }
    const auto reached = hn::Load(d, left);
    for (auto& s : share) s = hn::Mul(s, reached);
    hn::StoreInterleaved4(share[0], share[1], share[2], share[3], d, run);
  }
  while (end-- > 0) {
    gates[end] *= 1 - taken;
    taken += gates[end];
  }
  return taken;
}

// Products of a query with a chunk of keys become weights; the stick becomes what the chunk leaves.
void weigh_chunk(const StickRange& r, size_t head, size_t n, double& stick) {
  float* weights = r.weights + head * kStickRange;
  for (size_t j = 0; j < n; ++j) weights[j] = weights[j] * r.factor + r.offsets[head];
  gates_of(weights, n, weights);
  if (r.floor > 0)
    for (size_t j = 0; j < n; ++j) weights[j] = weights[j] < r.floor ? 0 : weights[j];
  const float taken = take_shares(weights, n);
  const auto entering = static_cast<float>(stick);
  for (size_t j = 0; j < n; ++j) weights[j] *= entering;
  stick *= 1.0 - static_cast<double>(taken);
}

template <class T>
size_t range_of_type(const StickRange& r, const StickPart& part) {
  const auto keys = r.keys.as<const T>();
  const auto values = r.values.as<const T>();
  std::fill_n(part.stick, r.group, 1.0);
  std::fill_n(part.out, r.group * values.cols, 0.0F);
  const auto spent = [&](double stick) { return stick <= r.threshold; };
  size_t end = keys.rows;
  while (end > 0) {
    const size_t count = std::min(end, r.chunk), begin = end - count;
    const auto k = keys.rows_slice(begin, count);
    const auto v = values.rows_slice(begin, count);
    const size_t older = std::min(begin, r.chunk);
    const auto next = keys.rows_slice(begin - older, older);
    by_heads(r.group, [&](auto heads, size_t first) {
      constexpr int kCount = decltype(heads)::value;
      float* weights = r.weights + first * kStickRange;
      score_rows<kCount, T>(r.queries + first * k.cols, {k, v}, weights, kStickRange);
      for (size_t head = first; head < first + kCount; ++head)
        weigh_chunk(r, head, count, part.stick[head]);
      add_rows<kCount, T>(weights, kStickRange, {v, next}, part.out + first * v.cols);
    });
    end = begin;
    if (r.threshold > 0 && std::all_of(part.stick, part.stick + r.group, spent)) break;
  }
  return keys.rows - end;
}

size_t range_of_any(const StickRange& r, const StickPart& part) {
  return r.keys.dtype == DType::bf16 ? range_of_type<bf16>(r, part) : range_of_type<float>(r, part);
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
HWY_EXPORT(range_of_any);

size_t decode_stick_range(const StickRange& range, const StickPart& part) {
  return HWY_DYNAMIC_DISPATCH(range_of_any)(range, part);
}

void merge_older(size_t group, size_t value_dim, const StickPart& older, const StickPart& newer) {
  for (size_t g = 0; g < group; ++g) {
    const auto stick = static_cast<float>(newer.stick[g]);
    for (size_t i = g * value_dim; i < (g + 1) * value_dim; ++i)
      newer.out[i] += stick * older.out[i];
    newer.stick[g] *= older.stick[g];
  }
}

}  // namespace cairn
#endif
