#include "cairn/base/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

namespace cairn {
namespace {

TEST(Error, SaysWhatWasDoneToWhatAndWhatWasExpectedAndFound) {
  const Error error({.kind = ErrorKind::data,
                     .doing = "loading granite.safetensors",
                     .subject = "tensor norm.weight",
                     .expected = "[512]",
                     .found = "[2048]",
                     .hint = "is config.json from another model?"});
  EXPECT_STREQ(error.what(),
               "loading granite.safetensors: tensor norm.weight\n"
               "  expected [512], found [2048]\n"
               "  is config.json from another model?");
  EXPECT_EQ(error.problem().found, "[2048]");
}

TEST(Error, LeavesOutTheEmptyParts) {
  EXPECT_STREQ(Error({.doing = "resting"}).what(), "resting");
  EXPECT_STREQ(Error({.doing = "d", .found = "f"}).what(), "d\n  found f");
  EXPECT_STREQ(Error({.doing = "d", .expected = "e"}).what(), "d\n  expected e");
  EXPECT_STREQ(Error({.doing = "d", .subject = "s", .hint = "h"}).what(), "d: s\n  h");
}

TEST(Error, KindsAreTheExitCodesOfTheProgram) {
  EXPECT_EQ(Error({.doing = "d"}).exit_code(), 1);
  EXPECT_EQ(Error({.kind = ErrorKind::usage, .doing = "d"}).exit_code(), 2);
  EXPECT_EQ(Error({.kind = ErrorKind::data, .doing = "d"}).exit_code(), 3);
  EXPECT_EQ(Error({.kind = ErrorKind::diverged, .doing = "d"}).exit_code(), 4);
  EXPECT_EQ(Error({.kind = ErrorKind::checkpoint, .doing = "d"}).exit_code(), 5);
}

TEST(Error, ACopyKeepsTheMessage) {
  const auto copy = [] {
    const Error error({.doing = "a message longer than any small-string buffer would hold"});
    return Error(error);
  }();
  EXPECT_STREQ(copy.what(), "a message longer than any small-string buffer would hold");
}

TEST(Error, ErrnoValuesAreDescribed) {
  EXPECT_EQ(describe_errno(ENOSPC), "No space left on device");
  EXPECT_THAT(describe_errno(99999), testing::HasSubstr("99999"));
}

}  // namespace
}  // namespace cairn
