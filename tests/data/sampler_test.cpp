#include "cairn/data/sampler.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <set>

#include "cairn/base/error.h"

namespace cairn {
namespace {

TEST(Permutation, HitsEveryIndexExactlyOnce) {
  for (const uint64_t size : {1, 2, 3, 4, 5, 16, 17, 1000, 4097}) {
    const Permutation permutation(size, 11, 0);
    std::set<uint64_t> seen;
    for (uint64_t i = 0; i < size; ++i) {
      EXPECT_LT(permutation(i), size);
      seen.insert(permutation(i));
    }
    EXPECT_EQ(seen.size(), size);
  }
}

TEST(Permutation, SeedsAndKeysGiveOtherOrders) {
  const Permutation a(1000, 1, 0), b(1000, 2, 0), c(1000, 1, 1);
  int same_b = 0, same_c = 0, fixed = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    same_b += a(i) == b(i) ? 1 : 0;
    same_c += a(i) == c(i) ? 1 : 0;
    fixed += a(i) == i ? 1 : 0;
  }
  EXPECT_LT(same_b, 12);
  EXPECT_LT(same_c, 12);
  EXPECT_LT(fixed, 12);
}

RC_GTEST_PROP(Permutation, IsABijectionForAnySizeSeedAndEpoch, ()) {
  const auto size = *rc::gen::inRange<uint64_t>(1, 5000);
  const Permutation permutation(size, *rc::gen::arbitrary<uint64_t>(),
                                *rc::gen::arbitrary<uint64_t>());
  std::vector<bool> seen(size, false);
  for (uint64_t i = 0; i < size; ++i) {
    const uint64_t image = permutation(i);
    RC_ASSERT(image < size);
    RC_ASSERT(!seen[image]);
    seen[image] = true;
  }
}

TEST(Permutation, NeighboursLandFarApart) {
  // The mean distance of two independent uniform draws is a third of the range.
  const uint64_t size = 100'000;
  const Permutation permutation(size, 9, 2);
  double sum = 0;
  for (uint64_t i = 0; i + 1 < size; ++i) {
    const auto a = static_cast<double>(permutation(i)), b = static_cast<double>(permutation(i + 1));
    sum += std::abs(a - b);
  }
  EXPECT_NEAR(sum / static_cast<double>(size) / static_cast<double>(size), 1.0 / 3, 0.01);
}

TEST(Permutation, WorksForHugeSizes) {
  const Permutation permutation(uint64_t{1} << 62, 5, 3);
  EXPECT_LT(permutation(1'000'000'000'000ULL), uint64_t{1} << 62);
}

TEST(Sampler, EverySampleOfAnEpochExactlyOnceOverAnyNumberOfRanks) {
  const Sampler sampler({101, 7, 0, 55}, 10, 3);
  EXPECT_EQ(sampler.samples_per_epoch(), 10U + 0U + 0U + 5U);
  for (const uint64_t ranks : {1, 3, 5}) {
    std::set<std::pair<size_t, uint64_t>> seen;
    for (uint64_t rank = 0; rank < ranks; ++rank) {
      for (uint64_t k = rank; k < sampler.samples_per_epoch(); k += ranks) {
        const SamplePlace place = sampler.place(k);
        EXPECT_EQ(place.offset % 10, 0U);
        EXPECT_LE(place.offset + 11, place.shard == 0 ? 101U : 55U);
        seen.insert({place.shard, place.offset});
      }
    }
    EXPECT_EQ(seen.size(), sampler.samples_per_epoch());
  }
}

RC_GTEST_PROP(Sampler, CoversEachShardInWindowsThatStayInside, ()) {
  const auto sizes = *rc::gen::container<std::vector<uint64_t>>(rc::gen::inRange<uint64_t>(0, 400));
  const auto length = *rc::gen::inRange<uint64_t>(1, 30);
  uint64_t windows = 0;
  for (const uint64_t tokens : sizes) windows += tokens == 0 ? 0 : (tokens - 1) / length;
  if (windows == 0) {
    RC_ASSERT_THROWS_AS(Sampler(sizes, length, 1), Error);
    return;
  }
  const Sampler sampler(sizes, length, 1);
  RC_ASSERT(sampler.samples_per_epoch() == windows);
  const auto epoch = *rc::gen::inRange<uint64_t>(0, 1'000'000'000);
  std::set<std::pair<size_t, uint64_t>> seen;
  for (uint64_t k = epoch * windows; k < (epoch + 1) * windows; ++k) {
    const SamplePlace place = sampler.place(k);
    RC_ASSERT(place.offset + length + 1 <= sizes[place.shard]);
    RC_ASSERT(place.offset % length == 0);
    RC_ASSERT(seen.insert({place.shard, place.offset}).second);
  }
}

TEST(Sampler, EpochsAreShuffledAnew) {
  const Sampler sampler({10001}, 10, 3);
  int same = 0;
  for (uint64_t k = 0; k < 1000; ++k)
    same += sampler.place(k).offset == sampler.place(k + 1000).offset ? 1 : 0;
  EXPECT_LT(same, 12);
}

TEST(Sampler, FindsSampleABillionWithoutWalkingThere) {
  const Sampler sampler({100001}, 100, 3);
  EXPECT_EQ(sampler.epoch_of(1'000'000'000), 1'000'000U);
  EXPECT_LT(sampler.place(1'000'000'000).offset, 100001U);
}

TEST(Sampler, RefusesAShardShorterThanASequence) {
  EXPECT_THROW(Sampler({10}, 10, 0), Error);
}

}  // namespace
}  // namespace cairn
