#include "cairn/infer/generate.h"

#include <gtest/gtest.h>

#include "cairn/base/error.h"
#include "cairn/text/byte_level.h"
#include "tests/infer/model_files.h"

namespace cairn {
namespace {

constexpr int32_t kEos = 256;

// One token a byte, and one that ends a text.
Tokenizer byte_tokenizer() {
  TokenizerSpec spec;
  for (int byte = 0; byte < 256; ++byte)
    spec.vocabulary.push_back(to_byte_level(std::string(1, static_cast<char>(byte))));
  spec.vocabulary.push_back("<|end|>");
  spec.added.push_back({.id = kEos, .content = "<|end|>", .special = true});
  spec.eos_id = kEos;
  return Tokenizer(spec);
}

// A model that says `text`, byte after byte, and then the end: its embedding tells the tokens
// apart, its layers add nothing, its head knows for each token the next. No byte may occur twice.
Model reciter(std::string_view text, size_t vocab_size = 257) {
  ModelConfig config;
  config.vocab_size = vocab_size;
  config.hidden_size = 260;
  config.intermediate_size = 8;
  config.layers = 1;
  config.heads = 2;
  config.kv_heads = 1;
  config.head_dim = 16;
  config.context_length = 64;
  config.tie_embeddings = false;
  Model model(config);
  for (const Parameter& parameter : model.parameters())
    if (parameter.spec.shape.size() == 1)
      for (float& gain : model.values(parameter)) gain = 1;
  const View2<float> embedding = model.matrix("model.embed_tokens.weight");
  const View2<float> head = model.matrix("lm_head.weight");
  for (size_t id = 0; id < 257; ++id) embedding[id][id] = 1;
  for (size_t i = 0; i < text.size(); ++i) {
    const size_t next = i + 1 < text.size() ? static_cast<uint8_t>(text[i + 1]) : kEos;
    head[next][static_cast<uint8_t>(text[i])] = 10;
  }
  return model;
}

struct Recital {
  Generation generation;
  std::vector<std::string> pieces;  // those that were not empty
};

Recital recite(std::string_view text, const GenerateOptions& options, size_t vocab_size = 257,
               size_t stop_after = 1000) {
  const Tokenizer tokenizer = byte_tokenizer();
  ThreadTeam team(1);
  Engine engine(reciter(text, vocab_size), team);
  Session session = engine.start();
  Recital recital;
  const auto collect = [&](std::string_view piece) {
    if (!piece.empty()) recital.pieces.emplace_back(piece);
    return recital.pieces.size() < stop_after;
  };
  const std::vector<int32_t> prompt = {static_cast<uint8_t>(text[0])};
  recital.generation = generate(session, tokenizer, prompt, options, collect);
  return recital;
}

GenerateOptions greedy() {
  GenerateOptions options;
  options.sampling.temperature = 0;
  return options;
}

TEST(Generate, EndsWithTheEndOfText) {
  const Recital recital = recite("abcdef", greedy());
  EXPECT_EQ(recital.generation.text, "bcdef");
  EXPECT_EQ(recital.generation.reason, StopReason::eos);
  EXPECT_EQ(recital.generation.tokens.back(), kEos);
  EXPECT_EQ(recital.generation.tokens.size(), 6U);
  EXPECT_EQ(recital.generation.read_tokens, 5U);
  EXPECT_EQ(recital.pieces, (std::vector<std::string>{"b", "c", "d", "e", "f"}));
}

TEST(Generate, EndsAtMostTokens) {
  GenerateOptions options = greedy();
  options.max_tokens = 3;
  const Recital recital = recite("abcdef", options);
  EXPECT_EQ(recital.generation.text, "bcd");
  EXPECT_EQ(recital.generation.reason, StopReason::max_tokens);
  options.max_tokens = 0;
  EXPECT_EQ(recite("abcdef", options).generation.text, "");
}

TEST(Generate, EndsBeforeAStopStringAndShowsNothingOfIt) {
  GenerateOptions options = greedy();
  options.stops = {"de"};
  const Recital recital = recite("abcdef", options);
  EXPECT_EQ(recital.generation.text, "bc");
  EXPECT_EQ(recital.generation.reason, StopReason::stop_string);
  EXPECT_EQ(recital.pieces, (std::vector<std::string>{"b", "c"}));
}

TEST(Generate, ShowsHeldTextWhenNoStopStringComes) {
  GenerateOptions options = greedy();
  options.stops = {"efX"};
  EXPECT_EQ(recite("abcdef", options).generation.text, "bcdef");
}

TEST(Generate, NeverShowsHalfACharacter) {
  const Recital recital = recite("a\xE2\x82\xAC!", greedy());  // the euro sign
  EXPECT_EQ(recital.pieces, (std::vector<std::string>{"\xE2\x82\xAC", "!"}));
}

TEST(Generate, EndsWhenTheContextIsFull) {
  GenerateOptions options = greedy();
  options.ignore_eos = true;
  options.max_tokens = 1000;
  const Recital recital = recite("ab", options);
  EXPECT_EQ(recital.generation.reason, StopReason::context_full);
  EXPECT_EQ(recital.generation.tokens.size(), 64U);  // the last one needs no room
}

TEST(Generate, EndsWhenTheCallbackSaysSo) {
  const Recital recital = recite("abcdef", greedy(), 257, 2);
  EXPECT_EQ(recital.generation.reason, StopReason::cancelled);
  EXPECT_EQ(recital.generation.text, "bc");
}

TEST(Generate, NeverDrawsAnIdThatTheTokenizerDoesNotKnow) {
  // Rows beyond the tokenizer are as likely as all others at the end of the recital.
  GenerateOptions options;
  options.sampling.temperature = 1e6;
  options.ignore_eos = true;
  options.max_tokens = 60;
  const Recital recital = recite("ab", options, 4096);
  for (const int32_t id : recital.generation.tokens) EXPECT_LE(id, kEos);
}

TEST(Generate, TheSameSeedGivesTheSameText) {
  GenerateOptions options;
  options.sampling = {.temperature = 1.5, .seed = 4};
  options.ignore_eos = true;
  const auto first = recite("abcdef", options).generation.tokens;
  EXPECT_EQ(recite("abcdef", options).generation.tokens, first);
  options.sampling.seed = 5;
  EXPECT_NE(recite("abcdef", options).generation.tokens, first);
}

TEST(GenerateEach, GivesEveryPromptWhatItWouldGetByItself) {
  ModelConfig config = small_config();
  config.vocab_size = 257;
  config.context_length = 700;
  const Model model = random_model(config);
  const Tokenizer tokenizer = byte_tokenizer();
  ThreadTeam team(2, true);
  Engine engine(model, team);
  GenerateOptions options;
  options.max_tokens = 12;
  options.ignore_eos = true;
  options.sampling.seed = 4;
  const auto all = [](std::string_view) { return true; };
  const std::vector<int32_t> start = random_tokens(600, 256);
  std::vector<std::vector<int32_t>> prompts(4, start);
  prompts[0].push_back(5);
  prompts[1].resize(590);  // ends within what the others share
  prompts[3].insert(prompts[3].end(), {5, 6, 7});
  for (const bool nothing_shared : {false, true}) {
    if (nothing_shared) prompts[2][0] ^= 1;
    const auto made = generate_each(engine, tokenizer, prompts, options, all);
    ASSERT_EQ(made.size(), prompts.size());
    for (size_t i = 0; i < prompts.size(); ++i) {
      Session session = engine.start();
      const Generation alone = generate(session, tokenizer, prompts[i], options);
      EXPECT_EQ(made[i].tokens, alone.tokens) << i;
      EXPECT_EQ(made[i].text, alone.text);
      EXPECT_EQ(made[i].prompt_tokens, prompts[i].size());
    }
  }
  EXPECT_TRUE(generate_each(engine, tokenizer, {}, options, all).empty());
  prompts[1].clear();
  EXPECT_THROW(generate_each(engine, tokenizer, prompts, options, all), Error);
}

TEST(GenerateEach, EndsAllTextsWhenTheCallbackSaysSo) {
  const Model model = reciter("abcdef");
  const Tokenizer tokenizer = byte_tokenizer();
  ThreadTeam team(1);
  Engine engine(model, team);
  const std::vector<std::vector<int32_t>> prompts = {{'a'}, {'b'}, {'a'}};
  size_t calls = 0;
  const auto few = [&](std::string_view) { return ++calls < 8; };
  const auto made = generate_each(engine, tokenizer, prompts, {}, few);
  EXPECT_EQ(made[0].text, "bcdef");
  EXPECT_EQ(made[0].reason, StopReason::eos);
  EXPECT_EQ(made[1].reason, StopReason::cancelled);
  EXPECT_EQ(made[2].reason, StopReason::cancelled);
  EXPECT_TRUE(made[2].tokens.empty());
  EXPECT_EQ(calls, 8U);
}

TEST(Generate, GoesOnBehindASession) {
  const Tokenizer tokenizer = byte_tokenizer();
  ThreadTeam team(1);
  Engine engine(reciter("abcdef"), team);
  Session session = engine.start();
  GenerateOptions options = greedy();
  options.max_tokens = 2;
  EXPECT_EQ(generate(session, tokenizer, std::vector<int32_t>{'a'}, options).text, "bc");
  EXPECT_EQ(session.length(), 2U);  // "c" was drawn and not read
  EXPECT_EQ(generate(session, tokenizer, std::vector<int32_t>{'c'}, options).text, "de");
}

TEST(Generate, RefusesAnEmptyPromptAndOneBeyondTheContext) {
  const Tokenizer tokenizer = byte_tokenizer();
  ThreadTeam team(1);
  Engine engine(reciter("ab"), team);
  Session session = engine.start();
  EXPECT_THROW(generate(session, tokenizer, {}, greedy()), Error);
  EXPECT_THROW(generate(session, tokenizer, std::vector<int32_t>(65, 'a'), greedy()), Error);
  EXPECT_EQ(session.length(), 0U);
}

TEST(EncodePrompt, AnEmptyTextBeginsWithTheToken) {
  EXPECT_EQ(encode_prompt(byte_tokenizer(), ""), std::vector<int32_t>{kEos});
  EXPECT_EQ(encode_prompt(byte_tokenizer(), "a<|end|>"), (std::vector<int32_t>{'a', kEos}));
}

}  // namespace
}  // namespace cairn
