#include "cairn/infer/stop_matcher.h"

#include <gtest/gtest.h>

#include "cairn/base/error.h"

namespace cairn {
namespace {

TEST(StopMatcher, ShowsNothingOfAStopStringThatArrivesInPieces) {
  StopMatcher matcher({"</end>"});
  EXPECT_EQ(matcher.push("text <"), "text ");
  EXPECT_EQ(matcher.push("/e"), "");
  EXPECT_EQ(matcher.push("nd> more"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.found(), "</end>");
  EXPECT_EQ(matcher.push("more"), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, ReleasesWhatTurnsOutToBeNoStopString) {
  StopMatcher matcher({"</end>"});
  EXPECT_EQ(matcher.push("a </e"), "a ");
  EXPECT_EQ(matcher.push("lse"), "</else");
  EXPECT_EQ(matcher.push("<"), "");
  EXPECT_EQ(matcher.finish(), "<");
  EXPECT_FALSE(matcher.stopped());
}

TEST(StopMatcher, HoldsTheLongestOpenEndOfAllStopStrings) {
  StopMatcher matcher({"aab", "bc"});
  EXPECT_EQ(matcher.push("xaa"), "x");
  EXPECT_EQ(matcher.push("a"), "a");
  EXPECT_EQ(matcher.push("b!"), "");
  EXPECT_EQ(matcher.found(), "aab");
}

TEST(StopMatcher, EndsAtTheStopStringThatIsCompleteFirst) {
  StopMatcher matcher({"world", "lo w"});
  EXPECT_EQ(matcher.push("hello world"), "hel");
  EXPECT_EQ(matcher.found(), "lo w");
  StopMatcher inner({"abcd", "bc"});
  EXPECT_EQ(inner.push("abcd"), "a");
  EXPECT_EQ(inner.found(), "bc");
  StopMatcher longest({"c", "bc"});
  EXPECT_EQ(longest.push("abcd"), "a");
}

TEST(StopMatcher, GivesTheSameTextForEverySplit) {
  for (const std::string text : {"abababcabab", "xabcdbc", "abab"})
    for (size_t cut = 0; cut <= text.size(); ++cut)
      for (size_t second = cut; second <= text.size(); ++second) {
        const std::vector<std::string> stops = {"ababc", "abcd", "bcd", "never"};
        StopMatcher whole(stops), pieces(stops);
        std::string expected = whole.push(text);
        expected += whole.finish();
        std::string shown = pieces.push(text.substr(0, cut));
        shown += pieces.push(text.substr(cut, second - cut));
        shown += pieces.push(text.substr(second));
        shown += pieces.finish();
        EXPECT_EQ(shown, expected) << text << " cut at " << cut << " and " << second;
      }
}

TEST(StopMatcher, WithoutStopStringsPassesEverythingAtOnce) {
  StopMatcher matcher({});
  EXPECT_EQ(matcher.push("anything"), "anything");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, RefusesAnEmptyStopString) {
  EXPECT_THROW(StopMatcher({"a", ""}), Error);
}

}  // namespace
}  // namespace cairn
