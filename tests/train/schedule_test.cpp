#include "cairn/train/schedule.h"

#include <gtest/gtest.h>

#include "golden.h"

namespace cairn {
namespace {

ScheduleKind kind_of(const std::string& word) {
  return word == "cosine" ? ScheduleKind::cosine
         : word == "wsd"  ? ScheduleKind::wsd
                          : ScheduleKind::constant;
}

DecayShape shape_of(const std::string& word) {
  return word == "exponential" ? DecayShape::exponential
         : word == "sqrt"      ? DecayShape::sqrt
                               : DecayShape::linear;
}

TEST(Schedule, MatchesTheIndependentGoldenNumbers) {
  const auto rows = read_golden("schedule.csv");
  ASSERT_GT(rows.size(), 100U);
  for (const auto& row : rows) {
    const Schedule schedule{.kind = kind_of(row[0]),
                            .peak = std::stod(row[1]),
                            .total = std::stod(row[2]),
                            .warmup = std::stod(row[3]),
                            .decay = std::stod(row[4]),
                            .end_ratio = std::stod(row[5]),
                            .shape = shape_of(row[6])};
    const double expected = std::stod(row[8]);
    EXPECT_NEAR(learning_rate(schedule, std::stod(row[7])), expected, 1e-12 * schedule.peak)
        << row[0] << " " << row[6] << " at " << row[7];
  }
}

TEST(Schedule, ExponentialDecayHitsBothEnds) {
  for (const double end : {0.0, 0.1, 0.5}) {
    EXPECT_NEAR(decay_factor(DecayShape::exponential, 0, end), 1, 1e-15);
    EXPECT_NEAR(decay_factor(DecayShape::exponential, 1, end), end, 1e-15);
  }
}

TEST(Schedule, IsNeverNegativeAndHoldsItsLastValueBeyondTheEnd) {
  for (const DecayShape shape : {DecayShape::exponential, DecayShape::linear, DecayShape::sqrt}) {
    const Schedule wsd{.kind = ScheduleKind::wsd,
                       .peak = 1,
                       .total = 100,
                       .warmup = 10,
                       .decay = 20,
                       .end_ratio = 0,
                       .shape = shape};
    for (int done = 0; done < 150; ++done) EXPECT_GE(learning_rate(wsd, done), 0) << done;
    EXPECT_EQ(learning_rate(wsd, 100), learning_rate(wsd, 1000));
  }
}

TEST(Schedule, SurvivesAWarmupAsLongAsTheRun) {
  const Schedule all_warmup{.kind = ScheduleKind::cosine, .peak = 1, .total = 10, .warmup = 10};
  EXPECT_EQ(learning_rate(all_warmup, 5), 0.5);
  EXPECT_NEAR(learning_rate(all_warmup, 10), 0.1, 1e-15);
}

}  // namespace
}  // namespace cairn
