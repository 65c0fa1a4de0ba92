// The searches behind the block encoders: for a run of numbers, integers of a few bits and the
// scale (and offset) with the least weighted error. A vector holds one element of many runs, so
// that each lane adds up its run in the order in which the reference (ggml-quants.c) does, to the
// same bits, and all runs of a block are searched at once. Runs lie transposed: element i of run r
// at [i * kRuns + r]. Included once a target, after foreach_target.h.
#if defined(CAIRN_KERNELS_BLOCK_SEARCH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CAIRN_KERNELS_BLOCK_SEARCH_INL_H_
#undef CAIRN_KERNELS_BLOCK_SEARCH_INL_H_
#else
#define CAIRN_KERNELS_BLOCK_SEARCH_INL_H_
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr float kAllZero = 1e-15F;  // a run whose largest magnitude is below counts as zeros

// kRuns runs of kCount elements each, transposed.
template <size_t kRuns, size_t kCount>
struct Runs {
  alignas(64) float at[kCount * kRuns];

  void load(const float* x) {
    for (size_t r = 0; r < kRuns; ++r)
      for (size_t i = 0; i < kCount; ++i) at[i * kRuns + r] = x[r * kCount + i];
  }
  // As integers from 0 on, run after run.
  void store(uint8_t* levels) const {
    for (size_t r = 0; r < kRuns; ++r)
      for (size_t i = 0; i < kCount; ++i)
        levels[r * kCount + i] = static_cast<uint8_t>(static_cast<int>(at[i * kRuns + r]));
  }
};

// How finely search_offset looks: factors (kMost + first + i * step) / (max - min), i to `steps`.
struct SearchSteps {
  float first, step;
  int steps;
};

// Found for each run.
template <size_t kRuns>
struct Found {
  alignas(64) float scale[kRuns];
  alignas(64) float min[kRuns];  // of search_offset: minus the offset, 0 or more
};

// l in [0, kMost] and scale, min with scale * l - min near x, min >= 0. kAbsolute: the error is the
// weighted sum of magnitudes, otherwise of squares.
template <size_t kRuns, size_t kCount, int kMost, bool kAbsolute>
void search_offset(const Runs<kRuns, kCount>& x, const Runs<kRuns, kCount>& w, SearchSteps how,
                   Runs<kRuns, kCount>& levels, Found<kRuns>& found) {
  const hn::CappedTag<float, kRuns> d;
  using V = hn::Vec<decltype(d)>;
  const V zero = hn::Zero(d), most = hn::Set(d, static_cast<float>(kMost));
  for (size_t run = 0; run < kRuns; run += hn::Lanes(d)) {
    const auto xs = [&](size_t i) { return hn::Load(d, x.at + i * kRuns + run); };
    const auto ws = [&](size_t i) { return hn::Load(d, w.at + i * kRuns + run); };
    V low = xs(0), high = xs(0), sum_w = zero, sum_x = zero;
    for (size_t i = 0; i < kCount; ++i) {
      low = hn::Min(low, xs(i));
      high = hn::Max(high, xs(i));
      sum_w = hn::Add(sum_w, ws(i));
      sum_x = hn::Add(sum_x, hn::Mul(ws(i), xs(i)));
    }
    low = hn::Min(low, zero);
    const auto flat = hn::Eq(high, low);
    const auto level = [&](V factor, V from, size_t i) {
      const V rounded = hn::Round(hn::Mul(factor, hn::Sub(xs(i), from)));
      return hn::Min(hn::Max(rounded, zero), most);
    };
    const auto add_error = [&](V sum, V scale, V l, V min, size_t i) {
      const V off = hn::Sub(hn::Add(hn::Mul(scale, l), min), xs(i));
      return hn::Add(sum, hn::Mul(ws(i), kAbsolute ? hn::Abs(off) : hn::Mul(off, off)));
    };
    // The levels that are best so far come from best_factor and best_from.
    V best_factor = hn::Div(most, hn::Sub(high, low)), best_from = low;
    V scale = hn::Div(hn::Set(d, 1.0F), best_factor), min = low, best = zero;
    for (size_t i = 0; i < kCount; ++i)
      best = add_error(best, scale, level(best_factor, low, i), low, i);
    for (int step = 0; step <= how.steps; ++step) {
      const float top = how.first + how.step * static_cast<float>(step) + kMost;
      // The best offset so far is where the next levels begin.
      const V from = min, factor = hn::Div(hn::Set(d, top), hn::Sub(high, from));
      V sum_l = zero, sum_l2 = zero, sum_xl = zero;
      alignas(64) float kept[kCount * hn::MaxLanes(d)];
      for (size_t i = 0; i < kCount; ++i) {
        const V l = level(factor, from, i), wl = hn::Mul(ws(i), l);
        hn::Store(l, d, kept + i * hn::MaxLanes(d));
        sum_l = hn::Add(sum_l, wl);
        sum_l2 = hn::Add(sum_l2, hn::Mul(wl, l));
        sum_xl = hn::Add(sum_xl, hn::Mul(wl, xs(i)));
      }
      // The least squares for these integers; where the offset would be positive, without one.
      const V det = hn::Sub(hn::Mul(sum_w, sum_l2), hn::Mul(sum_l, sum_l));
      V new_scale = hn::Div(hn::Sub(hn::Mul(sum_w, sum_xl), hn::Mul(sum_x, sum_l)), det);
      V new_min = hn::Div(hn::Sub(hn::Mul(sum_l2, sum_x), hn::Mul(sum_l, sum_xl)), det);
      const auto positive = hn::Gt(new_min, zero);
      new_min = hn::IfThenElse(positive, zero, new_min);
      new_scale = hn::IfThenElse(positive, hn::Div(sum_xl, sum_l2), new_scale);
      V error = zero;
      for (size_t i = 0; i < kCount; ++i)
        error = add_error(error, new_scale, hn::Load(d, kept + i * hn::MaxLanes(d)), new_min, i);
      const auto better = hn::And(hn::Gt(det, zero), hn::Lt(error, best));
      best = hn::IfThenElse(better, error, best);
      scale = hn::IfThenElse(better, new_scale, scale);
      min = hn::IfThenElse(better, new_min, min);
      best_factor = hn::IfThenElse(better, factor, best_factor);
      best_from = hn::IfThenElse(better, from, best_from);
    }
    hn::Store(hn::IfThenElse(flat, zero, scale), d, found.scale + run);
    hn::Store(hn::Neg(hn::IfThenElse(flat, low, min)), d, found.min + run);
    for (size_t i = 0; i < kCount; ++i)
      hn::Store(hn::IfThenElse(flat, zero, level(best_factor, best_from, i)), d,
                levels.at + i * kRuns + run);
  }
}

// The element of largest magnitude of each run, with its sign; the first among equals.
template <class D, class Elements>
hn::Vec<D> signed_max(D d, size_t count, Elements xs, hn::Vec<D>& magnitude) {
  auto max = hn::Zero(d);
  magnitude = hn::Zero(d);
  for (size_t i = 0; i < count; ++i) {
    const auto x = xs(i);
    const auto larger = hn::Gt(hn::Abs(x), magnitude);
    magnitude = hn::IfThenElse(larger, hn::Abs(x), magnitude);
    max = hn::IfThenElse(larger, x, max);
  }
  return max;
}

// l in [-kMost, kMost) and scale with scale * l near x: the scale with the largest
// (sum w x l)^2 / sum w l^2 of nineteen around kMost over the largest element. Levels are stored
// from 0 on (l + kMost); runs of zeros have level 0 and scale 0.
template <size_t kRuns, size_t kCount, int kMost>
void search_symmetric(const Runs<kRuns, kCount>& x, const Runs<kRuns, kCount>& w,
                      Runs<kRuns, kCount>& levels, Found<kRuns>& found) {
  const hn::CappedTag<float, kRuns> d;
  using V = hn::Vec<decltype(d)>;
  const V zero = hn::Zero(d), bottom = hn::Set(d, -kMost), top = hn::Set(d, kMost - 1);
  for (size_t run = 0; run < kRuns; run += hn::Lanes(d)) {
    const auto xs = [&](size_t i) { return hn::Load(d, x.at + i * kRuns + run); };
    V magnitude;
    const V max = signed_max(d, kCount, xs, magnitude);
    const auto level = [&](V factor, size_t i) {
      return hn::Min(hn::Max(hn::Round(hn::Mul(factor, xs(i))), bottom), top);
    };
    V best_factor = zero, scale = zero, best = zero;
    for (int step = 0; step < 19; ++step) {
      // The plain factor first, then the others in order.
      const int shift = step == 0 ? 0 : step <= 9 ? step - 10 : step - 9;
      const float up = -(static_cast<float>(kMost) + 0.1F * static_cast<float>(shift));
      const V factor = hn::Div(hn::Set(d, up), max);
      V sum_lx = zero, sum_l2 = zero;
      for (size_t i = 0; i < kCount; ++i) {
        const V l = level(factor, i), weight = hn::Load(d, w.at + i * kRuns + run);
        sum_lx = hn::Add(sum_lx, hn::Mul(hn::Mul(weight, xs(i)), l));
        sum_l2 = hn::Add(sum_l2, hn::Mul(hn::Mul(weight, l), l));
      }
      const auto there = hn::Gt(sum_l2, zero);
      const V fit = hn::IfThenElse(there, hn::Div(sum_lx, sum_l2), zero);
      const auto better =
          step == 0 ? hn::Eq(zero, zero)
                    : hn::And(there, hn::Gt(hn::Mul(sum_lx, sum_lx), hn::Mul(best, sum_l2)));
      scale = hn::IfThenElse(better, fit, scale);
      best = hn::IfThenElse(better, hn::Mul(fit, sum_lx), best);
      best_factor = hn::IfThenElse(better, factor, best_factor);
    }
    const auto zeros = hn::Lt(magnitude, hn::Set(d, kAllZero));
    hn::Store(hn::IfThenElse(zeros, zero, scale), d, found.scale + run);
    for (size_t i = 0; i < kCount; ++i)
      hn::Store(hn::IfThenElse(zeros, zero, hn::Sub(level(best_factor, i), bottom)), d,
                levels.at + i * kRuns + run);
  }
}

// As search_symmetric, but by coordinate descent: each integer in turn moves to where the scale
// that the others imply wants it, if that lowers the error; at most five sweeps.
template <size_t kRuns, size_t kCount, int kMost>
void search_descent(const Runs<kRuns, kCount>& x, const Runs<kRuns, kCount>& w,
                    Runs<kRuns, kCount>& levels, Found<kRuns>& found) {
  const hn::CappedTag<float, kRuns> d;
  using V = hn::Vec<decltype(d)>;
  const V zero = hn::Zero(d), bottom = hn::Set(d, -kMost), top = hn::Set(d, kMost - 1);
  for (size_t run = 0; run < kRuns; run += hn::Lanes(d)) {
    const auto xs = [&](size_t i) { return hn::Load(d, x.at + i * kRuns + run); };
    const auto ws = [&](size_t i) { return hn::Load(d, w.at + i * kRuns + run); };
    V magnitude;
    const V max = signed_max(d, kCount, xs, magnitude);
    const V factor = hn::Div(bottom, max);
    V sum_lx = zero, sum_l2 = zero;
    for (size_t i = 0; i < kCount; ++i) {
      const V l = hn::Min(hn::Max(hn::Round(hn::Mul(factor, xs(i))), bottom), top);
      hn::Store(l, d, levels.at + i * kRuns + run);
      sum_lx = hn::Add(sum_lx, hn::Mul(hn::Mul(ws(i), xs(i)), l));
      sum_l2 = hn::Add(sum_l2, hn::Mul(hn::Mul(ws(i), l), l));
    }
    for (int sweep = 0; sweep < 5; ++sweep) {
      bool changed = false;
      for (size_t i = 0; i < kCount; ++i) {
        const V l = hn::Load(d, levels.at + i * kRuns + run), wx = hn::Mul(ws(i), xs(i));
        V lx = hn::Sub(sum_lx, hn::Mul(wx, l));
        V l2 = hn::Sub(sum_l2, hn::Mul(hn::Mul(ws(i), l), l));
        const V wanted = hn::Round(hn::Div(hn::Mul(xs(i), l2), lx));
        const V next = hn::Min(hn::Max(wanted, bottom), top);
        const auto moves = hn::And(hn::Gt(lx, zero), hn::Ne(next, l));
        lx = hn::Add(lx, hn::Mul(wx, next));
        l2 = hn::Add(l2, hn::Mul(hn::Mul(ws(i), next), next));
        const auto lowers =
            hn::Gt(hn::Mul(hn::Mul(lx, lx), sum_l2), hn::Mul(hn::Mul(sum_lx, sum_lx), l2));
        const auto taken = hn::And(moves, hn::And(hn::Gt(l2, zero), lowers));
        if (hn::AllFalse(d, taken)) continue;
        changed = true;
        hn::Store(hn::IfThenElse(taken, next, l), d, levels.at + i * kRuns + run);
        sum_lx = hn::IfThenElse(taken, lx, sum_lx);
        sum_l2 = hn::IfThenElse(taken, l2, sum_l2);
      }
      if (!changed) break;
    }
    const auto zeros = hn::Lt(magnitude, hn::Set(d, kAllZero));
    const V scale = hn::IfThenElse(hn::Gt(sum_l2, zero), hn::Div(sum_lx, sum_l2), zero);
    hn::Store(hn::IfThenElse(zeros, zero, scale), d, found.scale + run);
    for (size_t i = 0; i < kCount; ++i) {
      const V l = hn::Load(d, levels.at + i * kRuns + run);
      hn::Store(hn::IfThenElse(zeros, zero, hn::Sub(l, bottom)), d, levels.at + i * kRuns + run);
    }
  }
}

// Levels anew for the scales and offsets as they were stored: clamp(round((x + min) / scale), low,
// low + levels - 1) - low. A run whose scale is 0 keeps its levels.
template <size_t kRuns, size_t kCount>
void choose_levels(const Runs<kRuns, kCount>& x, const Found<kRuns>& stored, float low, float high,
                   Runs<kRuns, kCount>& levels) {
  const hn::CappedTag<float, kRuns> d;
  for (size_t run = 0; run < kRuns; run += hn::Lanes(d)) {
    const auto scale = hn::Load(d, stored.scale + run), min = hn::Load(d, stored.min + run);
    const auto none = hn::Eq(scale, hn::Zero(d));
    const auto bottom = hn::Set(d, low), top = hn::Set(d, high);
    for (size_t i = 0; i < kCount; ++i) {
      float* const at = levels.at + i * kRuns + run;
      const auto wanted =
          hn::Round(hn::Div(hn::Add(hn::Load(d, x.at + i * kRuns + run), min), scale));
      const auto level = hn::Sub(hn::Min(hn::Max(wanted, bottom), top), bottom);
      hn::Store(hn::IfThenElse(none, hn::Load(d, at), level), d, at);
    }
  }
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
