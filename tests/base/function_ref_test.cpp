#include "cairn/base/function_ref.h"

#include <gtest/gtest.h>

#include <memory>

namespace cairn {
namespace {

int twice(FunctionRef<int(int)> function, int value) {
  return function(function(value));
}

TEST(FunctionRef, CallsWhatItBorrows) {
  int calls = 0;
  auto counting = [&calls](int value) {
    ++calls;
    return value * 3;
  };
  EXPECT_EQ(twice(counting, 2), 18);
  EXPECT_EQ(calls, 2) << "the callable itself, not a copy";
  const auto constant = [](int value) { return value - 1; };
  EXPECT_EQ(twice(constant, 2), 0);
}

TEST(FunctionRef, PassesReferencesAndMoveOnlyValues) {
  auto take = [](std::unique_ptr<int> value, int& out) { out = *value; };
  const FunctionRef<void(std::unique_ptr<int>, int&)> reference = take;
  int out = 0;
  reference(std::make_unique<int>(5), out);
  EXPECT_EQ(out, 5);
}

}  // namespace
}  // namespace cairn
