#include "cairn/kernels/gemv.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "cairn/base/error.h"
#include "cairn/base/random.h"
#include "tests/support/targets.h"

namespace cairn {
namespace {

// Random w and x whose rows have gaps of `gap` elements that must not be read into the result.
template <class W>
struct Case {
  size_t rows, cols, tokens, gap;
  std::vector<W> w;
  std::vector<float> x;

  Case(size_t r, size_t c, size_t t, size_t g = 0) : rows(r), cols(c), tokens(t), gap(g) {
    const RandomStream random(7, "gemv test");
    w.resize(rows * (cols + gap));
    x.resize(tokens * (cols + gap));
    for (size_t i = 0; i < w.size(); ++i) set(w[i], static_cast<float>(random.normal(i)));
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(random.normal(i, 1));
    for (size_t r = 0; r < rows; ++r)
      for (size_t k = cols; k < cols + gap; ++k)
        set(w[r * (cols + gap) + k], std::numeric_limits<float>::quiet_NaN());
  }
  static void set(float& to, float value) { to = value; }
  static void set(bf16& to, float value) { to = bf16::from_float(value); }

  View2<const W> w_view() const { return {w.data(), rows, cols, cols + gap}; }
  View2<const float> x_view() const { return {x.data(), tokens, cols, cols + gap}; }
  double reference(size_t t, size_t r) const {
    double sum = 0;
    for (size_t k = 0; k < cols; ++k)
      sum += static_cast<double>(as_float(w_view()[r][k])) * x_view()[t][k];
    return sum;
  }
};

// Largest error over the scale of a sum of `cols` products of standard normals.
template <class W>
double max_error(const Case<W>& c) {
  std::vector<float> y(c.tokens * (c.rows + c.gap), -1.0F);
  const View2<float> out(y.data(), c.tokens, c.rows, c.rows + c.gap);
  gemv(c.w_view(), c.x_view(), out);
  double worst = 0;
  for (size_t t = 0; t < c.tokens; ++t) {
    for (size_t r = 0; r < c.rows; ++r)
      worst = std::max(
          worst, std::abs(out[t][r] - c.reference(t, r)) / std::sqrt(static_cast<double>(c.cols)));
    for (size_t r = c.rows; r < c.rows + c.gap; ++r)
      if (y[t * (c.rows + c.gap) + r] != -1.0F) return 1e9;  // wrote between the rows
  }
  return worst;
}

TEST(Gemv, MatchesFloat64AtOddSizesOnEveryTarget) {
  for_each_target([](const char* target) {
    for (const size_t rows : {1, 3, 4, 8, 13, 33})
      for (const size_t cols : {1, 7, 15, 16, 17, 64, 576, 1023})
        for (const size_t tokens : {1, 2, 3, 4, 5, 16}) {
          EXPECT_LE(max_error(Case<float>(rows, cols, tokens)), 1e-5)
              << target << ": " << rows << " x " << cols << ", " << tokens;
          EXPECT_LE(max_error(Case<bf16>(rows, cols, tokens)), 1e-5)
              << target << ": " << rows << " x " << cols << ", " << tokens;
        }
  });
}

TEST(Gemv, ReadsAndWritesStridedRowsOnly) {
  EXPECT_LE(max_error(Case<float>(13, 33, 5, 3)), 1e-5);
  EXPECT_LE(max_error(Case<bf16>(13, 33, 5, 3)), 1e-5);
}

TEST(Gemv, GivesATokenTheSameBitsAloneAndAmongOthersOnEveryTarget) {
  const Case<bf16> c(37, 83, 11);
  for_each_target([&](const char* target) {
    std::vector<float> together(c.tokens * c.rows), alone(c.rows);
    gemv(c.w_view(), c.x_view(), {together.data(), c.tokens, c.rows});
    for (size_t t = 0; t < c.tokens; ++t) {
      gemv(c.w_view(), c.x_view().rows_slice(t, 1), {alone.data(), 1, c.rows});
      for (size_t r = 0; r < c.rows; ++r)
        EXPECT_EQ(together[t * c.rows + r], alone[r]) << target << ", token " << t;
    }
  });
}

TEST(Gemv, GivesTheSameBitsForAnyNumberOfThreadsAndOnOne) {
  const Case<float> first(1000, 96, 3);
  const Case<bf16> second(515, 96, 3);
  std::vector<float> expected(3 * 1515);
  gemv(first.w_view(), first.x_view(), {expected.data(), 3, 1000, 1515});
  gemv(second.w_view(), first.x_view(), {expected.data() + 1000, 3, 515, 1515});
  for (const int threads : {1, 2, 4}) {
    ThreadTeam team(threads, true);
    std::vector<float> y(3 * 1515);
    const GemvPart parts[] = {{first.w_view(), {y.data(), 3, 1000, 1515}},
                              {second.w_view(), {y.data() + 1000, 3, 515, 1515}}};
    gemv(parts, first.x_view(), team);
    EXPECT_EQ(y, expected) << threads << " threads";
  }
}

TEST(Gemv, KeepsNanAndInfinity) {
  Case<float> c(9, 40, 1);
  c.x[39] = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> y(c.rows);
  gemv(c.w_view(), c.x_view(), {y.data(), 1, c.rows});
  for (const float value : y) EXPECT_TRUE(std::isnan(value));
}

TEST(Gemv, RefusesShapesThatDisagree) {
  const Case<float> c(9, 40, 2);
  std::vector<float> y(18);
  EXPECT_THROW(gemv(c.w_view(), c.x_view().cols_slice(0, 39), {y.data(), 2, 9}), Error);
  EXPECT_THROW(gemv(c.w_view(), c.x_view(), {y.data(), 2, 8, 9}), Error);
  EXPECT_THROW(gemv(c.w_view(), c.x_view(), {y.data(), 1, 9}), Error);
}

}  // namespace
}  // namespace cairn
