#include "cairn/study/statistics.h"

#include <gtest/gtest.h>

#include <vector>

namespace cairn {
namespace {

TEST(Statistics, IntervalsAreStudents) {
  // R: t.test(c(1, 2, 4)) gives 2.333 +- 3.795; qt(0.975, c(2, 60)).
  const Estimate e = estimate(std::vector<double>{1, 2, 4});
  EXPECT_NEAR(e.mean, 7.0 / 3, 1e-12);
  EXPECT_NEAR(e.half_width, 3.7946, 1e-3);
  EXPECT_EQ(e.lowest, 1);
  EXPECT_EQ(e.highest, 4);
  EXPECT_NEAR(student_t(2), 4.302653, 1e-3);
  EXPECT_NEAR(student_t(31), 2.039513, 4e-3);
  EXPECT_NEAR(student_t(60), 2.000298, 2e-3);
}

TEST(Statistics, OneValueHasNoInterval) {
  EXPECT_EQ(estimate(std::vector<double>{5}).half_width, 0);
  EXPECT_EQ(estimate({}).count, 0U);
}

TEST(Statistics, NoErrorInManyTrialsIsStillABound) {
  EXPECT_DOUBLE_EQ(upper_bound_without_errors(300000), 1e-5);
  EXPECT_EQ(upper_bound_without_errors(0), 1);
  EXPECT_EQ(upper_bound_without_errors(2), 1);
}

}  // namespace
}  // namespace cairn
