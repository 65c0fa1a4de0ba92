#include "cairn/kernels/routing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace cairn {
namespace {

using testing::ElementsAre;

struct Choice {
  std::vector<int32_t> experts;
  std::vector<float> weights;
};

Choice choose(const std::vector<float>& logits, size_t count) {
  Choice choice{std::vector<int32_t>(count), std::vector<float>(count)};
  choose_experts({logits.data(), logits.size()}, count, choice.experts.data(),
                 choice.weights.data());
  return choice;
}

TEST(Routing, TheHighestLogitsAreChosenInFallingOrder) {
  const Choice choice = choose({0.5F, 3, -2, 1, 2}, 3);
  EXPECT_THAT(choice.experts, ElementsAre(1, 4, 3));
  const double sum = std::exp(3.0) + std::exp(2.0) + std::exp(1.0);
  for (size_t i = 0; i < 3; ++i)
    EXPECT_NEAR(choice.weights[i], std::exp(3.0 - static_cast<double>(i)) / sum, 1e-6);
}

TEST(Routing, OfEqualLogitsTheLowestNumberComesFirst) {
  EXPECT_THAT(choose({1, 2, 2, 2}, 2).experts, ElementsAre(1, 2));
  EXPECT_THAT(choose({0, 0, 0}, 3).experts, ElementsAre(0, 1, 2));
}

TEST(Routing, AllExpertsMayBeChosenAndHugeLogitsDoNotOverflow) {
  const Choice choice = choose({1e30F, -1e30F}, 2);
  EXPECT_THAT(choice.experts, ElementsAre(0, 1));
  EXPECT_THAT(choice.weights, ElementsAre(1, 0));
}

}  // namespace
}  // namespace cairn
