#include "cairn/infer/logprobs.h"

#include <gtest/gtest.h>

#include <cmath>

namespace cairn {
namespace {

TEST(TokenLogprobs, AreTheLogSoftmaxWithTheLikeliestFirst) {
  const std::vector<float> logits = {1, 3, -2, 3, 0.5F, -INFINITY};
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  const TokenLogprobs found = token_logprobs({logits.data(), logits.size()}, 4, 3);
  EXPECT_EQ(found.chosen.id, 4);
  EXPECT_NEAR(found.chosen.logprob, 0.5 - std::log(sum), 1e-12);
  ASSERT_EQ(found.top.size(), 3U);
  EXPECT_EQ(found.top[0].id, 1);
  EXPECT_EQ(found.top[1].id, 3);
  EXPECT_EQ(found.top[2].id, 0);
  EXPECT_NEAR(found.top[2].logprob, 1 - std::log(sum), 1e-12);
  EXPECT_TRUE(token_logprobs({logits.data(), logits.size()}, 0, 0).top.empty());
  EXPECT_EQ(token_logprobs({logits.data(), logits.size()}, 0, 99).top.size(), 5U);
}

}  // namespace
}  // namespace cairn
