// By importance, beyond the search of each run: a block's small integers and the halves that they
// multiply are improved in turn. Only the weighted squares of errors count, so nothing here needs
// to agree with another implementation. Included once a target, after foreach_target.h.
#if defined(CAIRN_KERNELS_BLOCK_REFINE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CAIRN_KERNELS_BLOCK_REFINE_INL_H_
#undef CAIRN_KERNELS_BLOCK_REFINE_INL_H_
#else
#define CAIRN_KERNELS_BLOCK_REFINE_INL_H_
#endif

#include <hwy/highway.h>

#include "cairn/kernels/block_search-inl.h"
#include "cairn/tensor/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

// What a block stores beside its levels: run r is scale[r] * d * level - min[r] * dmin.
template <size_t kRuns>
struct Integers {
  alignas(64) float scale[kRuns];
  alignas(64) float min[kRuns];
  float d = 0, dmin = 0;  // values of halves
};

struct IntegerLimits {
  float low_scale, high_scale, high_min;  // high_min 0: the format has no offsets
  float low_level, high_level;
};

// Moves each run's integers by one where that lowers its weighted error with the best levels, and
// returns the error of all.
template <size_t kRuns, size_t kCount>
double improve_integers(const Runs<kRuns, kCount>& x, const Runs<kRuns, kCount>& w,
                        IntegerLimits limits, Integers<kRuns>& integers) {
  const hn::CappedTag<float, kRuns> d;
  using V = hn::Vec<decltype(d)>;
  alignas(64) float errors[kRuns];
  const V low = hn::Set(d, limits.low_level), high = hn::Set(d, limits.high_level);
  for (size_t run = 0; run < kRuns; run += hn::Lanes(d)) {
    const V scale0 = hn::Load(d, integers.scale + run), min0 = hn::Load(d, integers.min + run);
    V best_scale = scale0, best_min = min0, best = hn::Set(d, 3e38F);
    for (int move = 0; move < 9; ++move) {  // staying first, so that ties stay
      const int ds = (move + 1) % 3 - 1, dm = (move / 3 + 1) % 3 - 1;
      if (dm != 0 && limits.high_min == 0) continue;
      const V scale = hn::Min(hn::Max(hn::Add(scale0, hn::Set(d, static_cast<float>(ds))),
                                      hn::Set(d, limits.low_scale)),
                              hn::Set(d, limits.high_scale));
      const V min = hn::Min(hn::Max(hn::Add(min0, hn::Set(d, static_cast<float>(dm))), hn::Zero(d)),
                            hn::Set(d, limits.high_min));
      const V step = hn::Mul(scale, hn::Set(d, integers.d));
      const V offset = hn::Mul(min, hn::Set(d, integers.dmin));
      const V inverse =
          hn::IfThenElse(hn::Eq(step, hn::Zero(d)), hn::Zero(d), hn::Div(hn::Set(d, 1.0F), step));
      V error = hn::Zero(d);
      for (size_t i = 0; i < kCount; ++i) {
        const V target = hn::Add(hn::Load(d, x.at + i * kRuns + run), offset);
        const V level = hn::Min(hn::Max(hn::Round(hn::Mul(target, inverse)), low), high);
        const V off = hn::Sub(hn::Mul(step, level), target);
        error = hn::Add(error, hn::Mul(hn::Load(d, w.at + i * kRuns + run), hn::Mul(off, off)));
      }
      const auto better = hn::Lt(error, best);
      best = hn::IfThenElse(better, error, best);
      best_scale = hn::IfThenElse(better, scale, best_scale);
      best_min = hn::IfThenElse(better, min, best_min);
    }
    hn::Store(best_scale, d, integers.scale + run);
    hn::Store(best_min, d, integers.min + run);
    hn::Store(best, d, errors + run);
  }
  double sum = 0;
  for (const float error : errors) sum += static_cast<double>(error);
  return sum;
}

// The steps that the integers and halves make of each run.
template <size_t kRuns>
void spread(const Integers<kRuns>& integers, Found<kRuns>& found) {
  for (size_t r = 0; r < kRuns; ++r) {
    found.scale[r] = integers.d * integers.scale[r];
    found.min[r] = integers.dmin * integers.min[r];
  }
}

// The halves with the least weighted squares for these integers and levels (from low_level on).
template <size_t kRuns, size_t kCount>
void fit_halves(const Runs<kRuns, kCount>& x, const Runs<kRuns, kCount>& w,
                const Runs<kRuns, kCount>& levels, IntegerLimits limits,
                Integers<kRuns>& integers) {
  double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;  // sums over a = scale * level and b = min
  for (size_t r = 0; r < kRuns; ++r) {
    double ll = 0, l1 = 0, one = 0, lx = 0, x1 = 0;
    for (size_t i = 0; i < kCount; ++i) {
      const double weight = static_cast<double>(w.at[i * kRuns + r]);
      const double level = static_cast<double>(levels.at[i * kRuns + r] + limits.low_level);
      const double value = static_cast<double>(x.at[i * kRuns + r]);
      ll += weight * level * level;
      l1 += weight * level;
      one += weight;
      lx += weight * level * value;
      x1 += weight * value;
    }
    const double s = static_cast<double>(integers.scale[r]),
                 m = static_cast<double>(integers.min[r]);
    aa += s * s * ll;
    ab += s * m * l1;
    bb += m * m * one;
    ax += s * lx;
    bx += m * x1;
  }
  const double det = aa * bb - ab * ab;
  double d = aa > 0 ? ax / aa : 0, dmin = 0;
  if (det > 1e-9 * aa * bb) {
    d = (ax * bb - bx * ab) / det;
    dmin = (ab * ax - aa * bx) / det;
  }
  if (limits.high_min != 0 && !(dmin >= 0 && d > 0)) return;  // keep what there is
  integers.d = f16::from_float(static_cast<float>(d)).to_float();
  integers.dmin = f16::from_float(static_cast<float>(dmin)).to_float();
}

// Both in turn, as long as the error falls; leaves levels chosen for the result.
template <size_t kRuns, size_t kCount>
void refine(const Runs<kRuns, kCount>& x, const Runs<kRuns, kCount>& w, IntegerLimits limits,
            Integers<kRuns>& integers, Runs<kRuns, kCount>& levels) {
  constexpr int kRounds = 4;
  Found<kRuns> found;
  double best = improve_integers(x, w, limits, integers);
  for (int round = 0; round < kRounds; ++round) {
    spread(integers, found);
    choose_levels(x, found, limits.low_level, limits.high_level, levels);
    Integers<kRuns> next = integers;
    fit_halves(x, w, levels, limits, next);
    const double error = improve_integers(x, w, limits, next);
    if (!(error < best)) return;
    best = error;
    integers = next;
  }
  spread(integers, found);
  choose_levels(x, found, limits.low_level, limits.high_level, levels);
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
