// The steps alone; whole tokenizers are held to the HF library in test_tokenizer_json.cpp.
#include <utf8proc.h>

#include <cstdlib>
#include <random>

#include "cairn/base/error.h"
#include "cairn/text/char_classes.h"
#include "cairn/text/normalizer.h"
#include "cairn/text/unicode_form.h"

namespace cairn {
namespace {

using Kind = NormalizerStep::Kind;

std::string apply(const NormalizerStep& step, std::string_view text) {
  std::string buffer;
  return std::string(Normalizer({step}).apply(text, buffer));
}

// The whole text through utf8proc, without our table of characters that stay.
std::string whole_form(UnicodeForm form, const std::string& text) {
  const bool composed = form == UnicodeForm::nfc || form == UnicodeForm::nfkc;
  const bool compat = form == UnicodeForm::nfkc || form == UnicodeForm::nfkd;
  utf8proc_uint8_t* made = nullptr;
  const auto options = static_cast<utf8proc_option_t>(
      UTF8PROC_STABLE | (composed ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
      (compat ? UTF8PROC_COMPAT : 0));
  const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                 static_cast<utf8proc_ssize_t>(text.size()), &made, options);
  std::string result(reinterpret_cast<char*>(made), static_cast<size_t>(std::max<long>(size, 0)));
  std::free(made);
  return result;
}

constexpr UnicodeForm kForms[] = {UnicodeForm::nfc, UnicodeForm::nfd, UnicodeForm::nfkc,
                                  UnicodeForm::nfkd};

TEST(UnicodeForm, IsThatOfTheWholeTextForRandomMarksAndJamo) {
  const std::vector<uint32_t> alphabet = {'a',    'e',    ' ',    0xE9,    0x301,   0x323,
                                          0x307,  0x345,  0x1EC7, 0x1100,  0x1161,  0x11A8,
                                          0xAC00, 0xAC01, 0x212B, 0xFB01,  0xBD,    0x3000,
                                          0x0B47, 0x0B3E, 0x0F73, 0x1D15E, 0x2F800, 0x10FFFF};
  std::mt19937 random(3);
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (size_t i = random() % 12; i > 0; --i)
      append_utf8(alphabet[random() % alphabet.size()], text);
    for (const UnicodeForm form : kForms) {
      std::string ours;
      append_in_form(form, text, ours);
      ASSERT_EQ(ours, whole_form(form, text)) << testing::PrintToString(text);
      if (surely_in_form(form, text)) {
        ASSERT_EQ(ours, text);
      }
    }
  }
}

TEST(UnicodeForm, IsThatOfTheWholeTextForEveryCodePoint) {
  std::string text;
  for (uint32_t c = 1; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    append_utf8(c, text);
    text += c % 3 == 0 ? "e" : "";
    if (text.size() < 4000 && c != 0x10FFFF) continue;
    for (const UnicodeForm form : kForms) {
      std::string ours;
      append_in_form(form, text, ours);
      ASSERT_EQ(ours, whole_form(form, text)) << "up to U+" << std::hex << c;
    }
    text.clear();
  }
}

TEST(UnicodeForm, BrokenBytesStayWhereTheyAre) {
  std::string ours;
  append_in_form(UnicodeForm::nfc, "e\u0301\xFF\u0301\xE2\x82 e\u0301", ours);
  EXPECT_EQ(ours, "\u00E9\xFF\u0301\xE2\x82 \u00E9");
}

TEST(UnicodeForm, AMillionMarksInTheWrongOrderTakeNoTime) {
  std::string text = "a";
  for (int i = 0; i < 300000; ++i) text += i % 2 == 0 ? "\u0301" : "\u0323";
  std::string ours;
  append_in_form(UnicodeForm::nfd, text, ours);  // quadratic sorting would take minutes
  EXPECT_EQ(ours.size(), text.size());
  EXPECT_EQ(ours.substr(0, 5), "a\u0323\u0323");
}

TEST(Normalizer, EachStepDoesWhatItsNameSays) {
  EXPECT_EQ(apply({.kind = Kind::lowercase}, "AÉİΣ\xFF"), "aéi\u0307σ\xFF");
  EXPECT_EQ(apply({.kind = Kind::strip}, "\u3000 a b\n"), "a b");
  EXPECT_EQ(apply({.kind = Kind::strip, .right = false}, " a "), "a ");
  EXPECT_EQ(apply({.kind = Kind::strip}, " \n "), "");
  EXPECT_EQ(apply({.kind = Kind::prepend, .content = "_"}, "a"), "_a");
  EXPECT_EQ(apply({.kind = Kind::prepend, .content = "_"}, ""), "");
  EXPECT_EQ(apply({.kind = Kind::replace, .pattern = "ab", .content = "x"}, "abab b"), "xx b");
  EXPECT_EQ(
      apply({.kind = Kind::replace, .pattern = " {2,}", .pattern_is_regex = true, .content = "_"},
            "a   b c"),
      "a_b c");
  EXPECT_EQ(apply({.kind = Kind::collapse_blanks}, "  a   b "), "a b");
  EXPECT_EQ(apply({.kind = Kind::clean_text},
                  "a\tb\x01"
                  "c\uFFFD\u200B"),
            "a bc");
  EXPECT_EQ(apply({.kind = Kind::isolate_chinese}, "a中b"), "a 中 b");
  EXPECT_EQ(apply({.kind = Kind::strip_accents}, "e\u0301"), "e");
}

TEST(Normalizer, TextThatStaysIsNotCopied) {
  const std::string text = "plain words, caf\u00E9";
  std::string buffer;
  EXPECT_EQ(Normalizer({{.kind = Kind::nfc}}).apply(text, buffer).data(), text.data());
}

TEST(Normalizer, ARuleThatBlowsTextUpIsRefused) {
  const Normalizer hostile(
      {{.kind = Kind::replace, .pattern = "a", .content = std::string(1000, 'a')}});
  std::string buffer;
  EXPECT_THROW(hostile.apply(std::string(1 << 16, 'a'), buffer), Error);
}

// A map of one rule, "a" to "xy", in darts-clone's layout.
std::string one_rule_map() {
  const uint32_t root = 1u << 10, a = ('a' ^ 1u);
  std::vector<uint32_t> units(256, 0);
  units[0] = root;                                // children at 1 ^ label
  units[a] = 'a' | 1u << 8 | ((a ^ 200u) << 10);  // has a leaf, at 200
  units[200] = 0x80000000u;                       // value 0
  const uint32_t bytes = 256 * 4;
  std::string map(reinterpret_cast<const char*>(&bytes), 4);
  map.append(reinterpret_cast<const char*>(units.data()), bytes);
  return map.append("xy\0", 3);
}

TEST(PrecompiledMap, ReplacesWhatItHolds) {
  EXPECT_EQ(apply({.kind = Kind::precompiled, .content = one_rule_map()}, "banana"), "bxynxynxy");
  EXPECT_EQ(
      apply({.kind = Kind::precompiled, .content = one_rule_map(), .by_grapheme = true}, "banana"),
      "bxynxynxy");
}

TEST(PrecompiledMap, BrokenOnesAreRefusedOrReadNothingBeyond) {
  const std::string whole = one_rule_map();
  for (size_t bytes = 0; bytes < whole.size(); bytes += bytes < 8 ? 1 : 37) {
    try {
      apply({.kind = Kind::precompiled, .content = whole.substr(0, bytes)}, "banana");
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::data);
    }
  }
  std::mt19937 random(9);
  for (int round = 0; round < 2000; ++round) {
    std::string broken = whole;
    for (int i = 0; i < 8; ++i)
      broken[4 + random() % (broken.size() - 4)] = static_cast<char>(random());
    apply({.kind = Kind::precompiled, .content = broken}, "a banana \xFF z");
  }
}

}  // namespace
}  // namespace cairn
