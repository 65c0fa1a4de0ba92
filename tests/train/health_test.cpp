#include "cairn/train/health.h"

#include <gtest/gtest.h>

#include "cairn/base/random.h"

namespace cairn {
namespace {

// Losses around 3 with a deviation of 0.1.
double calm(uint64_t step) {
  return 3 + 0.1 * RandomStream(1, "health test").normal(step);
}

TEST(SpikeDetector, IsSilentUntilItsWindowIsFull) {
  SpikeDetector detector(4);
  for (size_t i = 0; i < SpikeDetector::kWindow; ++i) EXPECT_EQ(detector.see(1e6 * double(i)), 0);
}

TEST(SpikeDetector, SeesASpikeAndKeepsItOutOfTheWindow) {
  SpikeDetector detector(8);
  for (uint64_t i = 0; i < 500; ++i) EXPECT_FALSE(detector.is_spike(detector.see(calm(i))));
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(detector.is_spike(detector.see(6)));
  EXPECT_FALSE(detector.is_spike(detector.see(3)));
}

TEST(SpikeDetector, FallingLossesAreNoSpikes) {
  SpikeDetector detector(8);
  for (uint64_t i = 0; i < 1000; ++i)
    EXPECT_FALSE(detector.is_spike(detector.see(8 - 0.005 * double(i))));
}

TEST(SpikeDetector, EqualLossesDoNotMakeARipple) {
  SpikeDetector detector(8);
  for (int i = 0; i < 200; ++i) detector.see(2);
  EXPECT_FALSE(detector.is_spike(detector.see(2.001)));
  EXPECT_TRUE(detector.is_spike(detector.see(3)));
}

TEST(SpikeDetector, DecidesTheSameFromARestoredWindow) {
  SpikeDetector one(3), two(3);
  for (uint64_t i = 0; i < 300; ++i) one.see(calm(i));
  two.set_window(one.window());
  for (uint64_t i = 300; i < 400; ++i) EXPECT_EQ(one.see(calm(i)), two.see(calm(i)));
}

}  // namespace
}  // namespace cairn
