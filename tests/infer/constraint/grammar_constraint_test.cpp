// Masks beside the obvious: every token tried byte by byte from the text so far.
#include "cairn/infer/constraint/grammar_constraint.h"

#include <gtest/gtest.h>

#include "cairn/base/random.h"
#include "cairn/text/byte_level.h"
#include "cairn/text/grammar/gbnf.h"
#include "cairn/text/grammar/json_schema.h"

namespace cairn {
namespace {

constexpr int32_t kEnd = 0;

// All bytes, tokens that span symbols and characters, one twice over, and an end.
Tokenizer test_tokenizer() {
  TokenizerSpec spec;
  spec.vocabulary.push_back("<|end|>");
  spec.added.push_back({.id = kEnd, .content = "<|end|>", .special = true});
  for (int byte = 0; byte < 256; ++byte)
    spec.vocabulary.push_back(to_byte_level(std::string(1, static_cast<char>(byte))));
  for (const char* text : {"{\"", "\":", "\": ", "\", \"", "}}", "true", "rue", "12", "1,", "ab",
                           "abc", "\"}", "a\":[", "\xC3\xA9", "\xA9\"", "\xF0\x9F", "]]", " \n "})
    spec.vocabulary.push_back(to_byte_level(text));
  spec.eos_id = kEnd;
  return Tokenizer(spec);
}

class GrammarConstraintTest : public testing::Test {
 protected:
  GrammarConstraint constraint(Grammar grammar) {
    automaton = std::make_shared<GrammarAutomaton>(std::move(grammar), "test");
    return GrammarConstraint(automaton, trie, tokenizer, std::vector<int32_t>{kEnd});
  }
  // Whether the bytes lead anywhere in the grammar.
  bool alive(const std::string& text) const {
    GrammarStates states(automaton);
    uint32_t at = states.start();
    for (const char byte : text) at = states.step(at, static_cast<uint8_t>(byte));
    return at != GrammarStates::kDead;
  }
  TokenMask obvious_mask(const std::string& text, bool complete) const {
    TokenMask mask(tokenizer.vocab_size());
    for (int32_t id = 1; id < static_cast<int32_t>(tokenizer.vocab_size()); ++id)
      if (alive(text + std::string(tokenizer.token_bytes(id)))) mask.insert(id);
    if (complete) mask.insert(kEnd);
    return mask;
  }
  int32_t id_of(const char* text) const { return tokenizer.id_of(to_byte_level(text)); }

  Tokenizer tokenizer = test_tokenizer();
  std::shared_ptr<const VocabularyTrie> trie =
      std::make_shared<VocabularyTrie>(tokenizer, tokenizer.vocab_size());
  std::shared_ptr<const GrammarAutomaton> automaton;
};

TEST_F(GrammarConstraintTest, MasksAreWhatTryingEveryTokenFinds) {
  const Grammar grammars[] = {
      any_json_object(),
      parse_gbnf("root ::= [^a-z\"\\x80-\\U0010ffff]* (\"abc\" | \"\xC3\xA9\") root?", "test"),
      grammar_from_json_schema(R"({"properties": {"a": {"type": "array", "items":
          {"type": "integer", "maximum": 129}}, "abc": {"type": "string", "maxLength": 3}}})",
                               "test"),
  };
  for (size_t g = 0; g < 3; ++g) {
    GrammarConstraint tested = constraint(grammars[g]);
    const RandomStream stream(g, "masks");
    std::string text;
    for (uint64_t i = 0; i < 60; ++i) {
      const TokenMask mask = tested.allowed();
      ASSERT_EQ(mask, obvious_mask(text, tested.complete())) << text;
      std::vector<int32_t> choices;
      mask.for_each([&](int32_t id) { choices.push_back(id); });
      ASSERT_FALSE(choices.empty()) << text;
      for (int32_t id = 0; id < static_cast<int32_t>(tokenizer.vocab_size()); ++id)
        if (!mask.contains(id)) {
          ASSERT_FALSE(tested.accept(id)) << text << " " << id;
        }
      const int32_t id = choices[stream.below(choices.size(), i)];
      ASSERT_TRUE(tested.accept(id));
      if (id == kEnd) {
        EXPECT_TRUE(tested.finished());
        EXPECT_TRUE(tested.allowed().empty());
        tested.reset();
        text.clear();
      } else {
        text += tokenizer.token_bytes(id);
      }
    }
  }
}

TEST_F(GrammarConstraintTest, RollingBackIsNeverHavingSaid) {
  GrammarConstraint tested = constraint(any_json_object());
  ASSERT_TRUE(tested.accept(id_of("{\"")));
  const TokenMask mask = tested.allowed();
  ASSERT_TRUE(tested.accept(id_of("a\":[")));
  ASSERT_TRUE(tested.accept(id_of("12")));
  EXPECT_FALSE(tested.accept(id_of("\":")));
  tested.rollback(2);
  EXPECT_EQ(tested.allowed(), mask);
  ASSERT_TRUE(tested.accept(id_of("ab")));
  tested.rollback(100);
  EXPECT_FALSE(tested.complete());
  ASSERT_TRUE(tested.accept(id_of("{")));
  ASSERT_TRUE(tested.accept(id_of("}")));
  EXPECT_TRUE(tested.complete());
  EXPECT_TRUE(tested.finished());
  ASSERT_TRUE(tested.accept(kEnd));
  tested.rollback(1);
  EXPECT_TRUE(tested.allowed().contains(kEnd));
}

TEST_F(GrammarConstraintTest, StaysWithinItsMemoryOnLongTexts) {
  // Deeper and deeper lists: no state is ever seen twice.
  GrammarConstraint tested =
      constraint(grammar_from_json_schema(R"({"type": "array", "items": {"$ref": "#"}})", "test"));
  for (int i = 0; i < 3000; ++i) {
    ASSERT_TRUE(tested.accept(id_of("[")));
    if (i % 100 == 0) {
      ASSERT_TRUE(tested.allowed().contains(id_of("]")));
    }
  }
  for (int i = 0; i < 1500; ++i) ASSERT_TRUE(tested.accept(id_of("]]")));
  EXPECT_TRUE(tested.finished());
}

TEST_F(GrammarConstraintTest, ControlTokensAreNeverText) {
  // The grammar would take the letters of the end token.
  GrammarConstraint tested = constraint(parse_gbnf("root ::= [^x]{3,}", "test"));
  EXPECT_FALSE(tested.allowed().contains(kEnd));
  EXPECT_FALSE(tested.accept(kEnd));
  ASSERT_TRUE(tested.accept(id_of("abc")));
  EXPECT_TRUE(tested.allowed().contains(kEnd));
}

}  // namespace
}  // namespace cairn
