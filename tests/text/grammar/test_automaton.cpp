// The automaton beside the slow matcher: which texts are whole, and that every start of one, and
// nothing else, is alive.
#include "cairn/text/grammar/automaton.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "cairn/base/random.h"
#include "cairn/text/char_classes.h"
#include "cairn/text/grammar/gbnf.h"
#include "cairn/text/grammar/states.h"
#include "cairn/text/grammar/utf8_ranges.h"
#include "tests/support/files.h"
#include "tests/text/grammar/slow_grammar.h"

namespace cairn {
namespace {

GrammarStates states_of(const Grammar& grammar) {
  return GrammarStates(std::make_shared<GrammarAutomaton>(grammar, "test"));
}

uint32_t read(GrammarStates& states, std::string_view text) {
  uint32_t at = states.start();
  for (const char byte : text) at = states.step(at, static_cast<uint8_t>(byte));
  return at;
}

// Whether some text of the alphabet, up to `longer` more letters, completes `text`.
bool can_go_on(const Grammar& grammar, const std::string& text, std::string_view alphabet,
               int longer) {
  if (SlowMatcher(grammar, text).matches()) return true;
  if (longer == 0) return false;
  for (const char letter : alphabet)
    if (can_go_on(grammar, text + letter, alphabet, longer - 1)) return true;
  return false;
}

// All texts up to a length over the alphabet.
std::vector<std::string> texts(std::string_view alphabet, size_t longest) {
  std::vector<std::string> all = {""};
  for (size_t begin = 0, length = 0; length < longest; ++length) {
    const size_t end = all.size();
    for (; begin < end; ++begin)
      for (const char letter : alphabet) all.push_back(all[begin] + letter);
  }
  return all;
}

TEST(GrammarAutomaton, FindsWhatTheSlowMatcherFinds) {
  const char* grammars[] = {
      "root ::= \"a\" | \"ab\" | \"ba\" root",
      "root ::= (\"a\" | \"ab\" | \"b\"){2,3}",
      "root ::= (\"a\"* \"b\"?)* \"b\"",  // empty repetitions of empty parts
      "root ::= (\"\" | \"a\" | \"\"?)+ x\nx ::= | \"b\" x",
      "root ::= root \"a\" | \"b\" | root \"b\" \"b\"",      // left recursion
      "root ::= root | \"a\" root | \"ab\"",                 // and one that says nothing
      "root ::= \"a\" root \"b\" | \"a\"?",                  // nesting
      "root ::= x x x\nx ::= \"a\" | \"\" | \"b\" x \"a\"",  // empty rules
      "root ::= [ab] y [^a] | y\ny ::= z\nz ::= \"ab\" z | \"b\"",
      "root ::= x | y\nx ::= \"a\" x\ny ::= \"b\" | \"a\" y \"a\"",  // x never ends
  };
  for (const char* text : grammars) {
    const Grammar grammar = parse_gbnf(text, "test");
    GrammarStates states = states_of(grammar);
    size_t whole = 0;
    for (const std::string& candidate : texts("ab", 6)) {
      const uint32_t at = read(states, candidate);
      const bool expected = SlowMatcher(grammar, candidate).matches();
      ASSERT_EQ(states.complete(at), expected) << text << "\n" << candidate;
      whole += expected ? 1 : 0;
      if (candidate.size() <= 4) {
        ASSERT_EQ(at != GrammarStates::kDead, can_go_on(grammar, candidate, "ab", 5))
            << text << "\n"
            << candidate;
      }
    }
    EXPECT_GT(whole, 0U) << text;
  }
}

// Random grammars of three rules.
std::string random_grammar(uint64_t seed) {
  const RandomStream stream(seed, "grammar");
  uint64_t draw = 0;
  const auto below = [&](uint64_t n) { return stream.below(n, draw++); };
  std::string text;
  const std::vector<std::string> names = {"root", "x", "y"};
  const std::vector<std::string> atoms = {"\"a\"", "\"b\"", "\"ab\"", "[ab]",
                                          "\"\"",  "x",     "y",      "x"};
  const std::vector<std::string> marks = {"", "", "", "?", "*", "+", "{2}", "{0,2}"};
  for (const std::string& name : names) {
    text += name + " ::= ";
    for (uint64_t a = 0, alternatives = 1 + below(3); a < alternatives; ++a) {
      if (a > 0) text += " | ";
      for (uint64_t p = 0, parts = 1 + below(3); p < parts; ++p)
        text += atoms[below(atoms.size())] + marks[below(marks.size())] + " ";
    }
    text += "\n";
  }
  return text;
}

TEST(GrammarAutomaton, RandomGrammarsMatchAsTheSlowMatcherSays) {
  size_t read_grammars = 0;
  const std::vector<std::string> candidates = texts("ab", 5);
  for (uint64_t seed = 0; seed < 250; ++seed) {
    const std::string text = random_grammar(seed);
    const Grammar grammar = parse_gbnf(text, "random");
    try {
      GrammarStates states = states_of(grammar);
      ++read_grammars;
      for (const std::string& candidate : candidates)
        ASSERT_EQ(states.complete(read(states, candidate)),
                  SlowMatcher(grammar, candidate).matches())
            << text << "\n"
            << candidate;
    } catch (const Error& error) {
      // Left recursion through other rules, or nothing that ends.
      EXPECT_THAT(error.what(), testing::AnyOf(testing::HasSubstr("calls itself first"),
                                               testing::HasSubstr("without end")));
    }
  }
  EXPECT_GT(read_grammars, 100U);
}

TEST(GrammarAutomaton, RefusesWhatItCannotRead) {
  const auto refusal = [](const char* text) {
    return message_of([&] { states_of(parse_gbnf(text, "g")); });
  };
  EXPECT_THAT(refusal("root ::= \"a\" root"), testing::HasSubstr("without end"));
  EXPECT_THAT(
      refusal("root ::= x \"a\" | \"b\"\nx ::= root \"c\" | \"d\""),
      testing::AllOf(testing::HasSubstr("calls itself first"), testing::HasSubstr("\"x\"")));
  EXPECT_THAT(refusal("root ::= x\nx ::= \"\"? x \"a\" | \"b\""), testing::HasSubstr("\"x\""));
  EXPECT_THAT(refusal("root ::= ((\"a\"{1000}){1000}){1000}"), testing::HasSubstr("at most"));
}

TEST(GrammarAutomaton, CharactersMayBeCutAnywhere) {
  const Grammar grammar =
      parse_gbnf("root ::= [\xC3\xA9\xF0\x9F\xA6\x99-\xF0\x9F\xA6\x9B]+", "test");
  GrammarStates states = states_of(grammar);
  const std::string llama = "\xF0\x9F\xA6\x99";
  for (size_t cut = 1; cut < 4; ++cut) {
    const uint32_t at = read(states, llama.substr(0, cut));
    EXPECT_NE(at, GrammarStates::kDead);
    EXPECT_FALSE(states.complete(at));
  }
  EXPECT_TRUE(states.complete(read(states, llama)));
  EXPECT_EQ(read(states, "\xF0\x9F\xA6\x98"), GrammarStates::kDead);
  EXPECT_EQ(read(states, "\xC3\xA8"), GrammarStates::kDead);
}

TEST(Utf8Ranges, HoldExactlyTheirCharacters) {
  for (const auto& [low, high] : std::vector<std::pair<uint32_t, uint32_t>>{{0, 0x10FFFF},
                                                                            {0x7E, 0x81},
                                                                            {0x7FF, 0x800},
                                                                            {0xD7FF, 0xE000},
                                                                            {0x3FFF, 0x12345},
                                                                            {0xFFFF, 0x10001},
                                                                            {0x20AC, 0x20AC},
                                                                            {0xD800, 0xDFFF}}) {
    std::vector<std::vector<ByteRange>> parts;
    for_each_utf8_range({low, high}, [&](std::span<const ByteRange> bytes) {
      parts.emplace_back(bytes.begin(), bytes.end());
    });
    for (uint32_t code = 0; code <= kLastCharacter; code += code < 0x3000 ? 1 : 37) {
      if (code >= 0xD800 && code < 0xE000) continue;
      std::string utf8;
      append_utf8(code, utf8);
      size_t found = 0;
      for (const auto& part : parts) {
        bool inside = part.size() == utf8.size();
        for (size_t i = 0; inside && i < part.size(); ++i)
          inside = part[i].low <= static_cast<uint8_t>(utf8[i]) &&
                   static_cast<uint8_t>(utf8[i]) <= part[i].high;
        found += inside ? 1 : 0;
      }
      ASSERT_EQ(found, code >= low && code <= high ? 1U : 0U) << low << " " << high << " " << code;
    }
  }
}

TEST(GrammarStates, ForgettingKeepsWhatIsNamed) {
  const Grammar grammar = parse_gbnf("root ::= \"(\" root \")\" | \"a\"+", "test");
  GrammarStates states = states_of(grammar);
  std::vector<uint32_t> kept = {read(states, "((("), read(states, "((aa"), GrammarStates::kDead};
  for (int i = 0; i < 1000; ++i) read(states, std::string(static_cast<size_t>(i), '('));
  const size_t before = states.bytes();
  states.forget(kept);
  EXPECT_LT(states.bytes(), before / 10);
  uint32_t at = kept[0];
  for (const char byte : std::string("a)))")) at = states.step(at, static_cast<uint8_t>(byte));
  EXPECT_TRUE(states.complete(at));
  at = states.step(states.step(kept[1], ')'), ')');
  EXPECT_TRUE(states.complete(at));
  EXPECT_EQ(kept[2], GrammarStates::kDead);
  EXPECT_TRUE(states.complete(read(states, "(a)")));
}

TEST(GrammarStates, HostileGrammarsEndInAnError) {
  // Every "a" may begin or end any of many calls: the states grow without end.
  const Grammar grammar = parse_gbnf(
      "root ::= x{50}\nx ::= y? y? y? y?\ny ::= \"a\" x \"a\" | \"a\" root \"b\" | \"a\"", "test");
  const auto automaton = std::make_shared<GrammarAutomaton>(grammar, "test");
  GrammarStates states(automaton, size_t{1} << 22);
  EXPECT_THROW(read(states, std::string(4000, 'a')), Error);
}

}  // namespace
}  // namespace cairn
