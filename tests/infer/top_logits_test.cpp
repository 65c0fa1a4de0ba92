#include "cairn/infer/top_logits.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "cairn/base/random.h"

namespace cairn {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Spread, of few heights, or with many at -infinity.
std::vector<float> random_logits(size_t count, uint64_t shape) {
  const RandomStream stream(shape, "top logits");
  std::vector<float> logits(count);
  for (size_t i = 0; i < count; ++i) {
    logits[i] = static_cast<float>(stream.normal(i));
    if (shape % 3 == 1) logits[i] = std::floor(logits[i]);
    if (shape % 3 == 2 && stream.below(4, i, 1) != 0) logits[i] = -kInfinity;
  }
  return logits;
}

// All in the order of sampling, then the first k by id.
std::vector<int32_t> highest(const std::vector<float>& logits, size_t k) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < logits.size(); ++i)
    if (logits[i] > -kInfinity) ids.push_back(static_cast<int32_t>(i));
  std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  ids.resize(std::min(k, ids.size()));
  std::sort(ids.begin(), ids.end());
  return ids;
}

void expect_highest(const TopLogits& top, const std::vector<float>& logits, size_t k) {
  const std::vector<int32_t> expected = highest(logits, k);
  ASSERT_EQ(top.candidates().size(), expected.size()) << k;
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(top.candidates()[i].id, expected[i]) << k;
    EXPECT_EQ(top.candidates()[i].logit, logits[static_cast<size_t>(expected[i])]);
  }
}

TEST(TopLogits, TheSameAreKeptHoweverLogitsAreCutAndWhoeverSeesThem) {
  for (uint64_t shape = 0; shape < 6; ++shape) {
    const std::vector<float> logits = random_logits(1003, shape);
    for (const size_t k : {1, 2, 40, 256, 1003, 2000}) {
      for (const size_t piece : {size_t{7}, size_t{16}, size_t{512}, logits.size()}) {
        std::vector<TopLogits> threads(3);
        for (TopLogits& own : threads) own.begin(k);
        for (size_t at = 0, i = 0; at < logits.size(); at += piece, ++i)
          threads[i % 3].add({logits.data() + at, std::min(piece, logits.size() - at)},
                             static_cast<int32_t>(at));
        TopLogits all;
        all.begin(k);
        for (const size_t thread : {2, 0, 1}) all.add(threads[thread]);
        all.sort();
        expect_highest(all, logits, k);
      }
    }
  }
}

TEST(TopLogits, BeginsAnew) {
  TopLogits top;
  top.begin(3);
  top.add(View1<const float>(std::vector<float>{9, 8, 7, kInfinity}.data(), 4), 0);
  EXPECT_TRUE(top.fault());
  const std::vector<float> logits = {1, 3, 2};
  top.begin(2);
  top.add({logits.data(), 3}, 0);
  top.sort();
  expect_highest(top, logits, 2);
  EXPECT_FALSE(top.fault());
}

TEST(TopLogits, NamesTheLowestIdWhoseLogitIsNoNumber) {
  for (const float bad : {std::nanf(""), kInfinity})
    for (const size_t place : {0, 15, 16, 100, 1002}) {
      std::vector<float> logits = random_logits(1003, 0);
      logits[1002] = logits[place] = bad;
      TopLogits low, high, all;
      for (TopLogits* top : {&low, &high, &all}) top->begin(1);
      low.add({logits.data(), 512}, 0);
      high.add({logits.data() + 512, 491}, 512);
      all.add(high);
      all.add(low);
      ASSERT_TRUE(all.fault());
      EXPECT_EQ(all.fault()->id, static_cast<int32_t>(place));
      EXPECT_EQ(std::isnan(all.fault()->logit), std::isnan(bad));
    }
}

}  // namespace
}  // namespace cairn
