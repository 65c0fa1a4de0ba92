#include <random>

#include "cairn/base/error.h"
#include "cairn/text/pretokenizer.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using Words = std::vector<std::string>;

Words words_of(const Pretokenizer& pretokenizer, std::string_view text) {
  Words words;
  pretokenizer.for_each_word(text, [&](std::string_view word) { words.emplace_back(word); });
  return words;
}

PretokenizerStep regex_step(std::string_view pattern) {
  return {.kind = PretokenizerStep::Kind::split, .pattern = std::string(pattern)};
}

// The same rules through PCRE2 alone.
Pretokenizer gpt2_by_pcre2() {
  return Pretokenizer({regex_step(kGpt2Pattern)});
}
Pretokenizer smollm_by_pcre2() {
  return Pretokenizer({regex_step(R"(\p{N})"), regex_step(kGpt2Pattern)});
}
// The pattern in a group, so that it is not known by hand.
Pretokenizer through_pcre2(std::string_view pattern) {
  return Pretokenizer({regex_step("(?:" + std::string(pattern) + ")")});
}

struct Pair {
  Pretokenizer by_hand;
  Pretokenizer by_pcre2;
};

std::vector<Pair>& pairs() {
  static std::vector<Pair> both = [] {
    std::vector<Pair> made;
    made.push_back({Pretokenizer(Pretokenizer::gpt2()), gpt2_by_pcre2()});
    made.push_back({Pretokenizer(Pretokenizer::smollm()), smollm_by_pcre2()});
    made.push_back(
        {Pretokenizer(Pretokenizer::by_regex(kLlama3Pattern)), through_pcre2(kLlama3Pattern)});
    made.push_back(
        {Pretokenizer(Pretokenizer::by_regex(kQwen2Pattern)), through_pcre2(kQwen2Pattern)});
    return made;
  }();
  return both;
}

void expect_equal(std::string_view text) {
  for (const Pair& pair : pairs()) {
    ASSERT_EQ(words_of(pair.by_hand, text), words_of(pair.by_pcre2, text))
        << testing::PrintToString(text);
  }
}

TEST(Pretokenizer, SplitsEnglishAndCodeAsGpt2Does) {
  const Pretokenizer gpt2;
  EXPECT_THAT(words_of(gpt2, "I'll say: it's 42km!\n\n  return x;"),
              ElementsAre("I", "'ll", " say", ":", " it", "'s", " 42", "km", "!", "\n\n ",
                          " return", " x", ";"));
  EXPECT_THAT(words_of(gpt2, "a  \t b \n"), ElementsAre("a", "  \t", " b", " \n"));
  EXPECT_THAT(words_of(gpt2, "don'T we''ve"), ElementsAre("don", "'", "T", " we", "''", "ve"));
  EXPECT_THAT(words_of(gpt2, ""), ElementsAre());
}

TEST(Pretokenizer, SmollmSplitsEveryDigitFirst) {
  const Pretokenizer smollm(Pretokenizer::smollm());
  EXPECT_THAT(words_of(smollm, "x12  3 4"), ElementsAre("x", "1", "2", "  ", "3", " ", "4"));
}

TEST(Pretokenizer, MatchesPcre2OnRandomStringsOfAwkwardCharacters) {
  const std::vector<std::string> alphabet = {" ",           " ",      "\n",
                                             "\r",          "\t",     "'",
                                             "s",           "t",      "re",
                                             "ve",          "ll",     "d",
                                             "m",           "A",      "z",
                                             "0",           "9",      "_",
                                             "-",           ".",      std::string(1, '\0'),
                                             "é",           "ß",      "中",
                                             "あ",          "٣",      "½",
                                             "Ⅷ",           "\u00A0", "\u3000",
                                             "\u2028",      "\u0085", "\u200B",
                                             "\u180E",      "\u0301", "😀",
                                             "👩‍💻", "𝒜",      "𝟘",
                                             "\xFF",        "\xC3",   "\xE2\x82",
                                             "\xF0\x9F",    "\x80",   "\xED\xA0\x80",
                                             "\xC0\xAF",    "\uFFFF", "\U0010FFFF",
                                             "\v",          "\f",     "\x1C",
                                             "\x7F"};
  std::mt19937 random(20240607);
  for (int round = 0; round < 40000; ++round) {
    std::string text;
    const size_t length = random() % 14;
    for (size_t i = 0; i < length; ++i) text += alphabet[random() % alphabet.size()];
    expect_equal(text);
    if (HasFatalFailure()) return;
  }
}

TEST(Pretokenizer, MatchesPcre2OnRandomBytes) {
  std::mt19937 random(7);
  for (int round = 0; round < 20000; ++round) {
    std::string text(random() % 24, '\0');
    for (char& c : text) c = static_cast<char>(random());
    expect_equal(text);
    if (HasFatalFailure()) return;
  }
}

TEST(Pretokenizer, MatchesPcre2OnEveryCodePointAloneAndBetweenLetters) {
  std::string text;
  std::string alone;
  for (uint32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    append_utf8(c, alone);
    alone += c % 2 == 0 ? "\n" : ".";
    text += "a";
    append_utf8(c, text);
    text += "b ";
    append_utf8(c, text);
    text += "\n";
    if (text.size() > 60000 || c == 0x10FFFF) {
      expect_equal(text);
      expect_equal(alone);
      if (HasFatalFailure()) return;
      text.clear();
      alone.clear();
    }
  }
}

TEST(Pretokenizer, WordsJoinedAreTheTextWhateverTheBytes) {
  std::mt19937 random(11);
  const std::vector<Pretokenizer> all = {
      Pretokenizer(), Pretokenizer(Pretokenizer::smollm()), gpt2_by_pcre2(),
      Pretokenizer({regex_step("[a-m]+"),
                    {.kind = PretokenizerStep::Kind::digits, .individual_digits = false}})};
  for (int round = 0; round < 2000; ++round) {
    std::string text(random() % 64, '\0');
    for (char& c : text) c = static_cast<char>(random() % 3 ? random() : 'a' + random() % 26);
    for (const Pretokenizer& pretokenizer : all) {
      std::string joined;
      for (const std::string& word : words_of(pretokenizer, text)) {
        EXPECT_FALSE(word.empty());
        joined += word;
      }
      ASSERT_EQ(joined, text);
    }
  }
}

TEST(Pretokenizer, CutsBeforeABlankChangeNoWord) {
  std::mt19937 random(5);
  const std::string alphabet = "ab1.'s \n\t";
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (size_t i = random() % 16; i > 0; --i) text += alphabet[random() % alphabet.size()];
    for (size_t cut = 1; cut < text.size(); ++cut) {
      const bool allowed = (text[cut] == ' ' || text[cut] == '\n') && text[cut - 1] > ' ';
      if (!allowed) continue;
      for (const Pair& pair : pairs()) {
        if (!pair.by_hand.cuts_before_space()) continue;
        Words apart = words_of(pair.by_hand, std::string_view(text).substr(0, cut));
        const Words rest = words_of(pair.by_hand, std::string_view(text).substr(cut));
        apart.insert(apart.end(), rest.begin(), rest.end());
        ASSERT_EQ(apart, words_of(pair.by_hand, text)) << text;
      }
    }
  }
}

TEST(Pretokenizer, Llama3RuleSplitsLikeThePublishedPattern) {
  const Pretokenizer llama3({regex_step(
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)")});
  EXPECT_THAT(words_of(llama3, "It'S 12345 (ok);\n\n  x"),
              ElementsAre("It", "'S", " ", "123", "45", " (", "ok", ");\n\n", " ", " x"));
}

TEST(Pretokenizer, StringPatternsAreTakenLiterally) {
  const Pretokenizer split(
      {{.kind = PretokenizerStep::Kind::split, .pattern = "a.b", .pattern_is_regex = false}});
  EXPECT_THAT(words_of(split, "xa.bxaxb"), ElementsAre("x", "a.b", "xaxb"));
}

TEST(Pretokenizer, RemovedWithInvertKeepsOnlyMatches) {
  const Pretokenizer split({{.kind = PretokenizerStep::Kind::split,
                             .pattern = "[a-z]+",
                             .behavior = PretokenizerStep::Behavior::removed,
                             .invert = true}});
  EXPECT_THAT(words_of(split, "ab1cd--e"), ElementsAre("ab", "cd", "e"));
}

TEST(SplitRegex, WhiteSpaceIsTheUnicodeProperty) {
  // PCRE2's own \s holds U+180E, which has not been white space since Unicode 6.3.
  std::vector<std::string> spaces;
  SplitRegex(R"(\s|[\sx])").for_each_match("\u180E \u0085\u3000x", [&](std::string_view match) {
    spaces.emplace_back(match);
  });
  EXPECT_THAT(spaces, ElementsAre(" ", "\u0085", "\u3000", "x"));
  EXPECT_EQ(CharClasses::instance().of(0x180E), CharClass::other);
}

TEST(SplitRegex, RefusesWhatIsNotARegularExpression) {
  for (const char* pattern : {"(", "[a", "\\p{Nope}", "a{2,1}", "\xFF"}) {
    EXPECT_THROW(SplitRegex{pattern}, Error) << pattern;
  }
}

TEST(SplitRegex, AHostilePatternEndsInAnErrorOrAnAnswer) {
  const SplitRegex hostile("(a+)+(b|c)$");
  try {
    hostile.for_each_match(std::string(40, 'a'), [](std::string_view) {});
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::data);
  }
}

TEST(CharClasses, NoPlaneBeyondTheTableHasLettersNumbersOrSpaces) {
  std::string text;
  for (uint32_t c = 0x40000; c <= 0x10FFFF; ++c) append_utf8(c, text);
  size_t matches = 0;
  SplitRegex(R"([\p{L}\p{N}\s])").for_each_match(text, [&](std::string_view) { ++matches; });
  EXPECT_EQ(matches, 0u);
}

TEST(CharClasses, DecodesWhatIsWellFormedAndNothingElse) {
  for (uint32_t c = 0; c <= 0x10FFFF; c += c < 0x3000 ? 1 : 97) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    append_utf8(c, text);
    const DecodedChar whole = decode_char(text.data(), text.data() + text.size());
    ASSERT_EQ(whole.code_point, c);
    ASSERT_EQ(whole.length, text.size());
    for (size_t cut = 1; cut < text.size(); ++cut) {
      const DecodedChar part = decode_char(text.data(), text.data() + cut);
      ASSERT_EQ(part.code_point, kInvalidByte);
      ASSERT_EQ(part.length, 1u);
    }
  }
  for (const char* bad : {"\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80", "\xF0\x80\x80\x80",
                          "\xF4\x90\x80\x80", "\xF8\x88\x80\x80\x80", "\x80", "\xFF"}) {
    EXPECT_FALSE(is_utf8(bad));
  }
}

}  // namespace
}  // namespace cairn
