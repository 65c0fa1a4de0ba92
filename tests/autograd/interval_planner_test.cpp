#include "cairn/autograd/interval_planner.h"

#include <gtest/gtest.h>

#include "cairn/base/random.h"

namespace cairn {
namespace {

TEST(IntervalPlanner, BuffersNeverAliveTogetherShareMemory) {
  std::vector<BufferInterval> buffers = {{.bytes = 1000, .first = 0, .last = 1},
                                         {.bytes = 1000, .first = 2, .last = 3}};
  EXPECT_EQ(place_buffers(buffers), 1024U);
  EXPECT_EQ(buffers[0].offset, buffers[1].offset);
}

TEST(IntervalPlanner, OthersUseTheRoomOfAFixedBufferWhileItIsNotAlive) {
  std::vector<BufferInterval> buffers = {
      {.bytes = 640, .first = 0, .last = 1},
      {.bytes = 640, .first = 1, .last = 2},
      {.bytes = 1280, .first = 2, .last = 3, .offset = 128, .fixed = true}};
  EXPECT_EQ(place_buffers(buffers), 1408U + 640U);
  EXPECT_EQ(buffers[0].offset, 0U);
  EXPECT_EQ(buffers[1].offset, 1408U);
  EXPECT_EQ(buffers[2].offset, 128U);
}

TEST(IntervalPlanner, BuffersAliveTogetherNeverOverlap) {
  const RandomStream random(1, "intervals");
  for (uint64_t trial = 0; trial < 50; ++trial) {
    std::vector<BufferInterval> buffers;
    for (uint64_t i = 0; i < 40; ++i) {
      const size_t first = random.below(30, i, trial);
      buffers.push_back({.bytes = random.below(5000, i + 100, trial),
                         .first = first,
                         .last = first + random.below(10, i + 200, trial)});
    }
    const size_t total = place_buffers(buffers);
    for (const BufferInterval& a : buffers) {
      EXPECT_EQ(a.offset % 64, 0U);
      EXPECT_LE(a.offset + a.bytes, total);
      for (const BufferInterval& b : buffers) {
        if (&a == &b || a.bytes == 0 || b.bytes == 0) continue;
        const bool together = a.first <= b.last && b.first <= a.last;
        const bool overlap = a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
        EXPECT_FALSE(together && overlap);
      }
    }
  }
}

}  // namespace
}  // namespace cairn
