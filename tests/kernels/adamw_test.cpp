#include "cairn/kernels/adamw.h"

#include <gtest/gtest.h>
#include <hwy/highway.h>
#include <hwy/targets.h>

#include <cmath>
#include <limits>

#include "cairn/base/error.h"
#include "cairn/base/random.h"

namespace cairn {
namespace {

// Runs `body` with every instruction set that this machine and this build have.
template <class Body>
void for_each_target(Body body) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    SCOPED_TRACE(hwy::TargetName(target));
    body();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

struct State {
  std::vector<float> w, g, m, v;
  std::vector<bf16> copy;
};

State make_state(size_t n) {
  const RandomStream random(7, "adamw test");
  State s{std::vector<float>(n), std::vector<float>(n), std::vector<float>(n),
          std::vector<float>(n), std::vector<bf16>(n)};
  for (size_t i = 0; i < n; ++i) {
    s.w[i] = static_cast<float>(random.normal(i, 0));
    s.g[i] = static_cast<float>(random.normal(i, 1) * std::pow(10.0, random.normal(i, 2)));
    s.m[i] = static_cast<float>(random.normal(i, 3));
    s.v[i] = static_cast<float>(random.uniform(i, 4));
  }
  return s;
}

void step(State& s, const AdamWScalars& scalars, size_t begin, size_t count) {
  adamw(scalars, {s.w.data() + begin, count}, {s.g.data() + begin, count},
        {s.m.data() + begin, count}, {s.v.data() + begin, count}, {s.copy.data() + begin, count});
}

constexpr double kLr = 3e-3, kBeta1 = 0.9, kBeta2 = 0.95, kEps = 1e-8, kDecay = 0.1;

// The formula of the header in f64.
void check_against_float64(size_t n, uint64_t t, double scale) {
  const State before = make_state(n);
  State after = before;
  step(after, adamw_scalars(kLr, kBeta1, kBeta2, kEps, kDecay, scale, t), 0, n);
  const double bias1 = 1 - std::pow(kBeta1, double(t)), bias2 = 1 - std::pow(kBeta2, double(t));
  for (size_t i = 0; i < n; ++i) {
    const double g = scale * before.g[i];
    const double m = kBeta1 * before.m[i] + (1 - kBeta1) * g;
    const double v = kBeta2 * before.v[i] + (1 - kBeta2) * g * g;
    const double w =
        before.w[i] * (1 - kLr * kDecay) - kLr * (m / bias1) / (std::sqrt(v / bias2) + kEps);
    ASSERT_NEAR(after.m[i], m, 1e-6 * (1 + std::abs(m))) << i;
    ASSERT_NEAR(after.v[i], v, 1e-6 * (1 + std::abs(v))) << i;
    ASSERT_NEAR(after.w[i], w, 5e-7 * (1 + std::abs(w))) << i;
    ASSERT_EQ(after.g[i], 0.0F);
    ASSERT_EQ(after.copy[i].bits, bf16::from_float(after.w[i]).bits);
  }
}

TEST(AdamW, MatchesFloat64AtOddSizesOnEveryTarget) {
  for_each_target([] {
    for (const size_t n : {0, 1, 7, 16, 33, 1025})
      for (const uint64_t t : {1, 2, 1000}) check_against_float64(n, t, 0.37);
  });
}

TEST(AdamW, GivesTheSameBitsWhereverARangeIsCut) {
  for_each_target([] {
    constexpr size_t kCount = 103;
    const AdamWScalars scalars = adamw_scalars(kLr, kBeta1, kBeta2, kEps, kDecay, 1, 3);
    State whole = make_state(kCount), cut = make_state(kCount);
    step(whole, scalars, 0, kCount);
    for (size_t begin = 0; begin < kCount; begin += 9)
      step(cut, scalars, begin, std::min<size_t>(9, kCount - begin));
    EXPECT_EQ(whole.w, cut.w);
    EXPECT_EQ(whole.m, cut.m);
    EXPECT_EQ(whole.v, cut.v);
  });
}

TEST(AdamW, LeavesZeroPaddingAtZero) {
  State s = make_state(5);
  s.w.assign(5, 0);
  s.g.assign(5, 0);
  s.m.assign(5, 0);
  s.v.assign(5, 0);
  step(s, adamw_scalars(kLr, kBeta1, kBeta2, kEps, kDecay, 1, 1), 0, 5);
  EXPECT_EQ(s.w, std::vector<float>(5, 0.0F));
}

TEST(AdamW, WorksWithoutABf16Copy) {
  State s = make_state(33);
  const State with_copy = [&] {
    State t = s;
    step(t, adamw_scalars(kLr, kBeta1, kBeta2, kEps, kDecay, 1, 1), 0, 33);
    return t;
  }();
  adamw(adamw_scalars(kLr, kBeta1, kBeta2, kEps, kDecay, 1, 1), {s.w.data(), 33}, {s.g.data(), 33},
        {s.m.data(), 33}, {s.v.data(), 33});
  EXPECT_EQ(s.w, with_copy.w);
}

TEST(AdamW, RefusesMomentsOfAnotherSize) {
  State s = make_state(8);
  EXPECT_THROW(adamw({}, {s.w.data(), 8}, {s.g.data(), 8}, {s.m.data(), 7}, {s.v.data(), 8}),
               Error);
}

TEST(SumOfSquares, MatchesFloat64OnEveryTarget) {
  for_each_target([] {
    for (const size_t n : {0, 1, 15, 16, 33, 4097}) {
      const State s = make_state(n);
      double expected = 0;
      for (const float x : s.g) expected += double{x} * double{x};
      EXPECT_NEAR(sum_of_squares({s.g.data(), n}), expected, 1e-13 * expected);
    }
  });
}

TEST(SumOfSquares, DoesNotOverflowWhereF32Would) {
  const std::vector<float> x(100, 3e38F);
  EXPECT_NEAR(sum_of_squares({x.data(), x.size()}) / (100 * 9e76), 1.0, 1e-6);
}

TEST(SumOfSquares, ShowsAnyElementThatIsNotFinite) {
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
    for (size_t at = 0; at < 70; ++at) {
      std::vector<float> x(70, 1.0F);
      x[at] = bad;
      EXPECT_FALSE(std::isfinite(sum_of_squares({x.data(), x.size()}))) << at;
    }
}

}  // namespace
}  // namespace cairn
