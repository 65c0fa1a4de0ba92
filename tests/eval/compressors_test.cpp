#include "cairn/eval/compressors.h"

#include <gtest/gtest.h>

#include "cairn/base/error.h"

namespace cairn {
namespace {

TEST(Compressors, CountsWhatTheProgramWrites) {
  const std::string text(300'000, 'x');  // more than a pipe holds
  EXPECT_EQ(compressed_bytes({"cat", {"cat"}}, text), 300'000U);
  EXPECT_EQ(compressed_bytes({"cat", {"cat"}}, ""), 0U);
}

TEST(Compressors, GzipFindsRepetition) {
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "the same line again\n";
  const auto bytes = compressed_bytes(reference_compressors()[0], text);
  if (!bytes) GTEST_SKIP() << "no gzip here";
  EXPECT_GT(*bytes, 20U);
  EXPECT_LT(*bytes, 1000U);
}

TEST(Compressors, AMissingProgramIsNoError) {
  EXPECT_EQ(compressed_bytes({"none", {"a-program-that-does-not-exist"}}, "x"), std::nullopt);
}

TEST(Compressors, AProgramThatFailsIs) {
  EXPECT_THROW(compressed_bytes({"false", {"false"}}, "x"), Error);
}

}  // namespace
}  // namespace cairn
