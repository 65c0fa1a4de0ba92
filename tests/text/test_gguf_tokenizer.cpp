#include "cairn/base/error.h"
#include "cairn/text/gguf_tokenizer.h"
#include "cairn/text/pretokenizer.h"
#include "cairn/text/tokenizer.h"
#include "cairn/text/tokenizer_json.h"
#include "tests/support/files.h"
#include "tests/support/golden.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int32_t kNormal = 1, kUnknown = 2, kControl = 3, kUser = 4, kByte = 6;

// A SentencePiece vocabulary by hand: pieces of "hello", bytes for "!" only.
GgufTokenizer small_llama() {
  GgufTokenizer keys;
  keys.model = "llama";
  keys.tokens = {"<unk>", "<s>", "</s>", "\u2581", "h",        "e",      "l",  "o",
                 "he",    "ll",  "llo",  "lo",     "\u2581he", "<0x21>", "<b>"};
  keys.scores = {0, 0, 0, -9, -10, -11, -12, -13, -1, -2, -3, -1.5, -4, 0, 0};
  keys.token_types = {kUnknown, kControl, kControl, kNormal, kNormal, kNormal, kNormal, kNormal,
                      kNormal,  kNormal,  kNormal,  kNormal, kNormal, kByte,   kUser};
  keys.bos_token_id = 1;
  keys.eos_token_id = 2;
  keys.unknown_token_id = 0;
  return keys;
}

TEST(GgufTokenizer, ScoresDecideWhichNeighboursMergeFirst) {
  const Tokenizer tokenizer(spec_from_gguf(small_llama()));
  // "he" (-1) first, then "lo" (-1.5) before "ll" (-2); "l" and "lo" are a token together, too.
  EXPECT_THAT(tokenizer.encode("hello"), ElementsAre(12, 10));
  EXPECT_THAT(tokenizer.encode("lol"), ElementsAre(3, 11, 6));
  EXPECT_THAT(tokenizer.encode("hello", {.add_special = true}), ElementsAre(1, 12, 10));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("hello hello")), "hello hello");
}

TEST(GgufTokenizer, WhatHasNoPieceBecomesBytesOrUnknown) {
  const Tokenizer tokenizer(spec_from_gguf(small_llama()));
  EXPECT_THAT(tokenizer.encode("h!"), ElementsAre(3, 4, 13));
  EXPECT_THAT(tokenizer.encode("h\u00e9\u00e9"), ElementsAre(3, 4, 0));
  EXPECT_THAT(tokenizer.encode("<0x21>").back(), 0);  // spelled out it is no byte
}

TEST(GgufTokenizer, UserDefinedTokensAreAlwaysFoundAndControlTokensOnRequest) {
  const Tokenizer tokenizer(spec_from_gguf(small_llama()));
  EXPECT_THAT(tokenizer.encode("<b>"), ElementsAre(14));
  EXPECT_THAT(tokenizer.encode("</s>", {.parse_special = true}), ElementsAre(2));
  for (const int32_t id : tokenizer.encode("</s>")) EXPECT_NE(id, 2);
  EXPECT_TRUE(tokenizer.ends_text(2));
}

TEST(GgufTokenizer, ASpacePrefixIsLeftOutWhenTheKeySaysSo) {
  GgufTokenizer keys = small_llama();
  keys.add_space_prefix = false;
  const Tokenizer tokenizer(spec_from_gguf(keys));
  EXPECT_THAT(tokenizer.encode("he"), ElementsAre(8));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(" he")), " he");
}

TEST(GgufTokenizer, UnigramSumsScores) {
  GgufTokenizer keys = small_llama();
  keys.model = "t5";
  keys.remove_extra_whitespaces = true;
  const Tokenizer tokenizer(spec_from_gguf(keys));
  // "\u2581he" + "llo" is -7; every other cut is lower.
  EXPECT_THAT(tokenizer.encode("  hello  "), ElementsAre(12, 10));
  EXPECT_THAT(tokenizer.encode("hello", {.add_special = true}), ElementsAre(12, 10, 2));
}

TEST(GgufTokenizer, ByteLevelTokenizersSurviveTheKeys) {
  for (const char* name : {"gpt2.json", "smollm.json", "llama3.json"}) {
    const Tokenizer tokenizer = load_tokenizer(golden_folder() / "tokenizer" / name);
    const GgufTokenizer keys = gguf_from_spec(tokenizer.spec());
    const Tokenizer again(spec_from_gguf(keys));
    for (const char* text :
         {"Hello world's 12345\n\n  \u00e9t\u00e9", "for (i = 0;)", "a<|endoftext|>"}) {
      EXPECT_EQ(again.encode(text), tokenizer.encode(text)) << name;
      EXPECT_EQ(again.encode(text, {.parse_special = true}),
                tokenizer.encode(text, {.parse_special = true}))
          << name;
    }
  }
}

TEST(GgufTokenizer, SentencePieceKeysSurviveTheSpec) {
  const GgufTokenizer keys = small_llama();
  const GgufTokenizer again = gguf_from_spec(spec_from_gguf(keys));
  EXPECT_EQ(again.tokens, keys.tokens);
  EXPECT_EQ(again.scores, keys.scores);
  EXPECT_EQ(again.token_types, keys.token_types);
  EXPECT_EQ(again.add_space_prefix, true);
  EXPECT_EQ(again.unknown_token_id, 0);
}

// The model of small_llama as a list of merges, the way Hugging Face files have such models.
TokenizerSpec merged_llama() {
  TokenizerSpec spec = spec_from_gguf(small_llama());
  spec.model = TokenizerModel::bpe;
  spec.normalizer.front().content = "\u2581";
  spec.merges = {{4, 5}, {6, 7}, {6, 6}, {6, 11}, {9, 7}, {3, 8}};  // best score first
  spec.scores.clear();
  spec.unmatched.clear();
  return spec;
}

TEST(GgufTokenizer, MergesOfCharactersBecomeScores) {
  const Tokenizer tokenizer(merged_llama());
  const GgufTokenizer keys = gguf_from_spec(tokenizer.spec());
  EXPECT_EQ(keys.model, "llama");
  EXPECT_EQ(keys.token_types, small_llama().token_types);
  EXPECT_EQ(keys.add_space_prefix, true);
  const auto score = [&](size_t id) { return keys.scores[id]; };
  EXPECT_GT(score(8), score(11)) << "he, then lo";
  EXPECT_GT(score(11), score(9)) << "lo, then ll";
  EXPECT_GT(score(10), score(12)) << "llo, then he behind a blank";
  const Tokenizer again(spec_from_gguf(keys));
  for (const char* text : {"hello", "lol", "lllloo hehello!", "", " ", "!!h?<b>o", "hello<b>lo"}) {
    EXPECT_EQ(again.encode(text), tokenizer.encode(text)) << text;
    EXPECT_EQ(again.encode(text, {.parse_special = true}),
              tokenizer.encode(text, {.parse_special = true}))
        << text;
  }
}

TEST(GgufTokenizer, TokensWhoseMergesInterleaveShareAScore) {
  TokenizerSpec spec = merged_llama();
  spec.merges = {{4, 5}, {6, 7}, {6, 11}, {6, 6}, {9, 7}, {3, 8}};  // llo, ll, llo
  const GgufTokenizer keys = gguf_from_spec(spec);
  EXPECT_EQ(keys.scores[9], keys.scores[10]);
  EXPECT_GT(keys.scores[11], keys.scores[9]);
  EXPECT_GT(keys.scores[9], keys.scores[12]);
}

TEST(GgufTokenizer, MergesThatNoScoresGiveAreRefused) {
  const auto refusal = [](const TokenizerSpec& spec) {
    return message_of([&] { gguf_from_spec(spec); }, ErrorKind::usage);
  };
  TokenizerSpec spec = merged_llama();
  spec.merges.pop_back();
  EXPECT_THAT(refusal(spec), HasSubstr("model.merges"));
  spec = merged_llama();
  spec.normalizer.push_back({.kind = NormalizerStep::Kind::lowercase});
  EXPECT_THAT(refusal(spec), HasSubstr("normalizer"));
  spec = merged_llama();
  spec.pretokenizer = Pretokenizer::gpt2();
  EXPECT_THAT(refusal(spec), HasSubstr("pre_tokenizer"));
  spec = merged_llama();
  spec.byte_fallback = false;
  EXPECT_THAT(refusal(spec), HasSubstr("byte_fallback"));
}

TEST(GgufTokenizer, EveryNamedPreTokenizerHasARule) {
  EXPECT_EQ(steps_of_pre("smollm"), Pretokenizer::smollm());
  EXPECT_EQ(steps_of_pre("qwen2"), Pretokenizer::by_regex(kQwen2Pattern));
  EXPECT_EQ(steps_of_pre("default").size(), 4u);
  for (const char* name : {"gpt-4o", "tekken"}) {
    std::vector<std::string> words;
    Pretokenizer(steps_of_pre(name)).for_each_word("HelloWorld abc", [&](std::string_view word) {
      words.emplace_back(word);
    });
    EXPECT_THAT(words, ElementsAre("Hello", "World", " abc")) << name;
  }
  EXPECT_TRUE(steps_of_pre("unheard-of").empty());
}

std::string refusal(const GgufTokenizer& keys) {
  try {
    Tokenizer{spec_from_gguf(keys)};
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::data);
    return error.what();
  }
  return "accepted";
}

TEST(GgufTokenizer, WhatDoesNotFitIsRefusedByItsKey) {
  GgufTokenizer keys = small_llama();
  keys.model = "rwkv";
  EXPECT_THAT(refusal(keys), HasSubstr("tokenizer.ggml.model"));
  keys = small_llama();
  keys.scores.pop_back();
  EXPECT_THAT(refusal(keys), HasSubstr("tokenizer.ggml.scores"));
  keys = small_llama();
  keys.token_types[3] = 99;
  EXPECT_THAT(refusal(keys), HasSubstr("token_type[3]"));
  keys = small_llama();
  keys.eos_token_id = 15;
  EXPECT_THAT(refusal(keys), HasSubstr("eos_token_id"));
  keys = small_llama();
  keys.model = "gpt2";
  keys.pre = "unheard-of";
  EXPECT_THAT(refusal(keys), HasSubstr("smollm"));
  keys.pre = "gpt-2";
  keys.merges = {"h e", "h q"};
  EXPECT_THAT(refusal(keys), HasSubstr("merges[1]"));
  keys = small_llama();
  keys.scores[5] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(refusal(keys), HasSubstr("finite"));
}

}  // namespace
}  // namespace cairn
