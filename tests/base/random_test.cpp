#include "cairn/base/random.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace cairn {
namespace {

using testing::ElementsAre;

// The known-answer vectors that Random123 1.14 gives for philox4x32 with ten rounds.
TEST(RandomStream, GivesThePublishedPhiloxWords) {
  EXPECT_THAT(RandomStream::from_key(0).words(0, 0),
              ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  EXPECT_THAT(RandomStream::from_key(~uint64_t{0}).words(~uint64_t{0}, ~uint64_t{0}),
              ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  // Digits of pi; a counter's or key's low word comes first.
  EXPECT_THAT(
      RandomStream::from_key(0x299f31d0a4093822).words(0x85a308d3243f6a88, 0x0370734413198a2e),
      ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

TEST(RandomStream, IsAFunctionOfSeedNameAndPosition) {
  const RandomStream stream(42, "data");
  EXPECT_EQ(stream.bits(7, 3), RandomStream(42, "data").bits(7, 3));
  std::set<uint64_t> seen;
  for (const uint64_t seed : {0, 1, 42})
    for (const char* name : {"", "data", "init", "dropout"})
      for (uint64_t index = 0; index < 50; ++index)
        for (uint64_t sub = 0; sub < 5; ++sub)
          seen.insert(RandomStream(seed, name).bits(index, sub));
  EXPECT_EQ(seen.size(), 3U * 4 * 50 * 5) << "streams overlap";
}

// These are what checkpoints and sample orders rest on: a change here changes every seeded run.
TEST(RandomStream, KeepsItsValuesFromVersionToVersion) {
  const RandomStream stream(1234, "sample order");
  EXPECT_EQ(stream.bits(0), 428233761895814671U);
  EXPECT_EQ(stream.below(1000003, 5), 159974U);
}

TEST(RandomStream, UniformHasTheMomentsOfTheUnitInterval) {
  const RandomStream stream(1, "uniform");
  constexpr int kDraws = 200000;
  double sum = 0, squares = 0, lowest = 1, highest = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = stream.uniform(static_cast<uint64_t>(i));
    ASSERT_GE(x, 0.0);
    ASSERT_LT(x, 1.0);
    sum += x;
    squares += x * x;
    lowest = std::min(lowest, x);
    highest = std::max(highest, x);
  }
  EXPECT_NEAR(sum / kDraws, 1.0 / 2, 5 * std::sqrt(1.0 / 12 / kDraws));
  EXPECT_NEAR(squares / kDraws, 1.0 / 3, 5 * std::sqrt(4.0 / 45 / kDraws));
  EXPECT_LT(lowest, 1e-4);
  EXPECT_GT(highest, 1 - 1e-4);
}

TEST(RandomStream, NormalHasTheMomentsAndTailsOfTheNormal) {
  const RandomStream stream(1, "normal");
  constexpr int kDraws = 200000;
  double sum = 0, squares = 0, cubes = 0, fourths = 0;
  int beyond_two = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = stream.normal(static_cast<uint64_t>(i));
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    squares += x * x;
    cubes += x * x * x;
    fourths += x * x * x * x;
    beyond_two += std::abs(x) > 2 ? 1 : 0;
  }
  EXPECT_NEAR(sum / kDraws, 0, 5 * std::sqrt(1.0 / kDraws));
  EXPECT_NEAR(squares / kDraws, 1, 5 * std::sqrt(2.0 / kDraws));
  EXPECT_NEAR(cubes / kDraws, 0, 5 * std::sqrt(15.0 / kDraws));
  EXPECT_NEAR(fourths / kDraws, 3, 5 * std::sqrt(96.0 / kDraws));
  EXPECT_NEAR(beyond_two / double{kDraws}, 0.0455, 0.0025);
}

TEST(RandomStream, NeighboursAndStreamsAreUncorrelated) {
  constexpr int kDraws = 100000;
  const RandomStream a(1, "a"), b(1, "b"), other(2, "a");
  double neighbours = 0, names = 0, seeds = 0, subs = 0;
  for (uint64_t i = 0; i < kDraws; ++i) {
    neighbours += a.normal(i) * a.normal(i + 1);
    names += a.normal(i) * b.normal(i);
    seeds += a.normal(i) * other.normal(i);
    subs += a.normal(i, 0) * a.normal(i, 1);
  }
  const double bound = 5 * std::sqrt(double{kDraws});
  EXPECT_LT(std::abs(neighbours), bound);
  EXPECT_LT(std::abs(names), bound);
  EXPECT_LT(std::abs(seeds), bound);
  EXPECT_LT(std::abs(subs), bound);
}

TEST(RandomStream, BelowFillsEveryBucketEvenly) {
  const RandomStream stream(9, "below");
  constexpr uint64_t kBuckets = 7;
  constexpr int kDraws = 70000;
  std::vector<int> counts(kBuckets, 0);
  for (uint64_t i = 0; i < kDraws; ++i) ++counts.at(stream.below(kBuckets, i));
  double chi_square = 0;
  for (const int count : counts) {
    const double expected = double{kDraws} / kBuckets;
    chi_square += (count - expected) * (count - expected) / expected;
  }
  EXPECT_LT(chi_square, 27.9) << "six degrees of freedom, one in ten thousand";
  for (uint64_t i = 0; i < 100; ++i) EXPECT_EQ(stream.below(1, i), 0U);
  const uint64_t huge = ~uint64_t{0};
  for (uint64_t i = 0; i < 100; ++i) EXPECT_LT(stream.below(huge, i), huge);
}

}  // namespace
}  // namespace cairn
