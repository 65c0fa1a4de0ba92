#include "cairn/text/grammar/gbnf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/files.h"
#include "tests/text/grammar/slow_grammar.h"

namespace cairn {
namespace {

bool matches(std::string_view grammar, std::string_view text) {
  const Grammar parsed = parse_gbnf(grammar, "test");
  return SlowMatcher(parsed, text).matches();
}

std::string refusal(std::string_view grammar) {
  return message_of([&] { parse_gbnf(grammar, "bad.gbnf"); });
}

TEST(Gbnf, ReadsLiteralsClassesAndRepetitions) {
  const char* grammar = "root ::= \"a\\n\\x41\\u00e9\" [a-c\\]^-]+ [^0-9\\n]? .{2} | ( \"x\" | )";
  EXPECT_TRUE(matches(grammar,
                      "a\nA\xC3\xA9"
                      "b^-]zz"));
  EXPECT_TRUE(matches(grammar,
                      "a\nA\xC3\xA9"
                      "b\xF0\x9F\xA6\x99"
                      "99"));
  EXPECT_TRUE(matches(grammar, "x"));
  EXPECT_TRUE(matches(grammar, ""));
  EXPECT_FALSE(matches(grammar, "xx"));
  EXPECT_FALSE(matches(grammar,
                       "a\nA\xC3\xA9"
                       "bz"));
}

TEST(Gbnf, CountsRepetitions) {
  for (const auto& [bounds, least, most] :
       std::vector<std::tuple<std::string, size_t, size_t>>{{"{3}", 3, 3},
                                                            {"{2,}", 2, 9},
                                                            {"{,2}", 0, 2},
                                                            {"{ 1 , 4 }", 1, 4},
                                                            {"*", 0, 9},
                                                            {"+", 1, 9},
                                                            {"?", 0, 1},
                                                            {"{0}", 0, 0}})
    for (size_t n = 0; n < 7; ++n)
      EXPECT_EQ(
          matches("root ::= \"ab\"" + bounds, std::string("abababababababab").substr(0, 2 * n)),
          n >= least && n <= most)
          << bounds << n;
}

TEST(Gbnf, RulesEndWithTheirLineButInGroupsAndBehindBars) {
  const char* grammar =
      "# a comment\n"
      "root ::= one |\n"
      "         two  # another\n"
      "\n"
      "one ::=\n"
      "  ( \"1\"\n"
      "    three )\r\n"
      "two ::= \"2\"\n"
      "three ::= \"3\"";
  EXPECT_TRUE(matches(grammar, "13"));
  EXPECT_TRUE(matches(grammar, "2"));
  EXPECT_FALSE(matches(grammar, "1"));
}

TEST(Gbnf, RefusesWithLineAndColumn) {
  using testing::AllOf;
  using testing::HasSubstr;
  EXPECT_THAT(refusal("root ::= \"a\n"),
              AllOf(HasSubstr("bad.gbnf"), HasSubstr("line 1, column 10")));
  EXPECT_THAT(refusal("root ::= a\na ::= b c"),
              AllOf(HasSubstr("line 2, column 7"), HasSubstr("\"b\"")));
  EXPECT_THAT(refusal("root ::= \"a\"\nroot ::= \"b\""), HasSubstr("line 2, column 1"));
  EXPECT_THAT(refusal("a ::= \"a\""), HasSubstr("root"));
  EXPECT_THAT(refusal("root ::= (\"a\""), HasSubstr("\")\""));
  EXPECT_THAT(refusal("root ::= \"a\")"), HasSubstr("column 13"));
  EXPECT_THAT(refusal("root ::= [z-a]"), HasSubstr("fall"));
  EXPECT_THAT(refusal("root ::= \"a\"{3,2}"), HasSubstr("fall"));
  EXPECT_THAT(refusal("root ::= \"a\"{999999999}"), HasSubstr("at most"));
  EXPECT_THAT(refusal("root ::= \"\\q\""), HasSubstr("column 11"));
  EXPECT_THAT(refusal("root ::= \"\\ud800\""), HasSubstr("surrogate"));
  EXPECT_THAT(refusal("root ::= \"\xFF\""), HasSubstr("UTF-8"));
  EXPECT_THAT(refusal("root = \"a\""), HasSubstr("::="));
  EXPECT_THAT(refusal(""), HasSubstr("root"));
  EXPECT_THAT(refusal("root ::= \"a\"+*?+*"), HasSubstr("at most 4"));
  EXPECT_THAT(refusal("root ::= " + std::string(1000, '(')), HasSubstr("levels"));
}

TEST(Gbnf, EveryStartOfAGrammarIsReadOrRefused) {
  const std::string grammar =
      "root ::= (\"a\\u00e9\" | [^b-d]{1,3} x)* # note\nx ::= \"\\n\" .? root \xC3\xA9";
  size_t refused = 0;
  for (size_t length = 0; length <= grammar.size(); ++length) {
    try {
      parse_gbnf(grammar.substr(0, length), "cut");
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, grammar.size() / 2);
}

}  // namespace
}  // namespace cairn
