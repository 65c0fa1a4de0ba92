#include "cairn/infer/chat.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cairn/text/byte_level.h"
#include "cairn/text/tokenizer_json.h"
#include "tests/infer/model_files.h"
#include "tests/support/files.h"

namespace cairn {
namespace {

constexpr std::string_view kTemplate =
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}";

// A random model of bytes whose answers nobody understands, with a chat template.
class ChatTest : public testing::Test {
 protected:
  ChatTest() {
    TokenizerSpec spec;
    for (int byte = 0; byte < 256; ++byte)
      spec.vocabulary.push_back(to_byte_level(std::string(1, static_cast<char>(byte))));
    spec.vocabulary.insert(spec.vocabulary.end(), {"<|start|>", "<|end|>"});
    spec.added.push_back({.id = 256, .content = "<|start|>", .special = true});
    spec.added.push_back({.id = 257, .content = "<|end|>", .special = true});
    spec.eos_id = 257;
    ModelConfig config = small_config();
    config.vocab_size = 258;
    save_model(random_model(config), folder / "model");
    save_tokenizer(spec, folder / "model");
    write_file_atomically(folder / "model" / "chat_template.jinja", kTemplate);
  }

  TextModel& open(size_t context = 0) {
    model.emplace(folder / "model", team, EngineOptions{.context = context});
    return *model;
  }
  GenerateOptions greedy(size_t tokens = 12) const {
    GenerateOptions how;
    how.sampling.temperature = 0;
    how.max_tokens = tokens;
    how.ignore_eos = true;
    // Letters only: what is no UTF-8 would come back to the model as U+FFFD.
    for (int32_t id = 0; id < 258; ++id)
      if (id < 'A' || id > 'z') how.sampling.logit_bias.push_back({id, -INFINITY});
    return how;
  }
  // What the model answers to a text that it reads from the beginning.
  std::string fresh_answer(const std::string& prompt, size_t tokens = 12) {
    Session session = model->engine().start();
    const auto ids = model->tokenizer().encode(prompt, {.parse_special = true});
    return generate(session, model->tokenizer(), ids, greedy(tokens)).text;
  }

  TempFolder folder;
  ThreadTeam team{1};
  std::optional<TextModel> model;
};

const auto ignore_text = [](std::string_view) { return true; };

TEST_F(ChatTest, AnswersAsIfItReadTheWholeConversationAnewAndReadsOnlyWhatIsNew) {
  Chat chat(open());
  chat.set_system("Be brief.");
  const ChatReply first = chat.say("Hi", greedy(), ignore_text);
  const std::string start =
      "<|start|>system\nBe brief.<|end|><|start|>user\nHi<|end|>"
      "<|start|>assistant\n";
  EXPECT_EQ(first.generation.text, fresh_answer(start));
  EXPECT_EQ(first.cached_tokens, 0U);

  const ChatReply second = chat.say("And?", greedy(), ignore_text);
  EXPECT_EQ(second.generation.text,
            fresh_answer(start + first.generation.text +
                         "<|end|><|start|>user\nAnd?<|end|><|start|>assistant\n"));
  // All that was read in the first turn: the prompt and the answer but for its last token.
  EXPECT_EQ(second.cached_tokens,
            first.generation.prompt_tokens + first.generation.tokens.size() - 1);
  EXPECT_EQ(chat.messages().size(), 5U);
}

TEST_F(ChatTest, RegenerateReadsOneTokenAndUndoTakesAnExchangeBack) {
  Chat chat(open());
  EXPECT_FALSE(chat.undo());
  EXPECT_THROW(chat.regenerate(greedy(), ignore_text), Error);
  const ChatReply first = chat.say("Hi", greedy(), ignore_text);
  const ChatReply again = chat.regenerate(greedy(), ignore_text);
  EXPECT_EQ(again.generation.text, first.generation.text);
  EXPECT_EQ(again.generation.prompt_tokens, 1U);
  EXPECT_EQ(chat.messages().size(), 2U);
  EXPECT_TRUE(chat.undo());
  EXPECT_TRUE(chat.messages().empty());
  EXPECT_EQ(chat.say("Hi", greedy(), ignore_text).generation.text, first.generation.text);
}

TEST_F(ChatTest, ANewSystemMessageAndResetChangeWhatIsRead) {
  Chat chat(open());
  const ChatReply plain = chat.say("Hi", greedy(), ignore_text);
  chat.set_system("Rhyme.");
  EXPECT_EQ(chat.messages().front(), (ChatMessage{"system", "Rhyme."}));
  chat.reset();
  EXPECT_EQ(chat.messages().size(), 1U);
  const ChatReply reply = chat.say("Hi", greedy(), ignore_text);
  EXPECT_EQ(reply.generation.text,
            fresh_answer("<|start|>system\nRhyme.<|end|><|start|>user\nHi<|end|>"
                         "<|start|>assistant\n"));
  chat.set_system("");
  chat.reset();
  EXPECT_EQ(chat.say("Hi", greedy(), ignore_text).generation.text, plain.generation.text);
}

TEST_F(ChatTest, AnAnswerThatIsCancelledIsKeptAndOneThatNeverBeganIsNot) {
  Chat chat(open());
  size_t shown = 0;
  const auto stop_soon = [&](std::string_view piece) { return (shown += piece.size()) < 3; };
  const ChatReply cut = chat.say("Hi", greedy(100), stop_soon);
  EXPECT_EQ(cut.generation.reason, StopReason::cancelled);
  EXPECT_EQ(chat.messages().back().content, cut.generation.text);
  const size_t before = chat.messages().size();
  const auto stop_now = [](std::string_view) { return false; };
  GenerateOptions how = greedy();
  // Everything it says could become the stop string: nothing is shown.
  how.stops = {chat.say("x", how, ignore_text).generation.text + "~"};
  chat.undo();
  const ChatReply none = chat.say("x", how, stop_now);
  EXPECT_EQ(none.generation.text, "");
  EXPECT_EQ(chat.messages().size(), before);
}

TEST_F(ChatTest, ForgetsTheOldestExchangesAndSaysSo) {
  Chat chat(open(200));
  chat.set_system("S");
  size_t forgotten = 0;
  for (int turn = 0; turn < 8; ++turn) {
    const ChatReply reply = chat.say("message " + std::to_string(turn), greedy(), ignore_text);
    forgotten += reply.forgotten_messages;
    EXPECT_LE(reply.cached_tokens + reply.generation.prompt_tokens, 200U);
    if (reply.forgotten_messages > 0) {
      EXPECT_LE(reply.cached_tokens + reply.generation.prompt_tokens, 100U) << "half is left";
    }
  }
  EXPECT_GT(forgotten, 3U);
  EXPECT_EQ(forgotten % 2, 0U) << "whole exchanges";
  EXPECT_EQ(chat.messages().size(), 17U) << "nothing is lost from the conversation itself";
}

TEST_F(ChatTest, RefusesWhatDoesNotFitAndKeepsTheConversation) {
  open(120);
  Chat forgetful(*model);
  EXPECT_THAT(message_of([&] { forgetful.say(std::string(130, 'a'), greedy(), ignore_text); },
                         ErrorKind::usage),
              testing::HasSubstr("fewer than 120 tokens"));
  EXPECT_TRUE(forgetful.messages().empty());
  EXPECT_NO_THROW(forgetful.say("a", greedy(), ignore_text));

  Chat strict(*model, {.overflow = ChatOverflow::refuse});
  static_cast<void>(strict.say(std::string(40, 'b'), greedy(), ignore_text));
  EXPECT_THROW(strict.say(std::string(60, 'c'), greedy(), ignore_text), Error);
  EXPECT_EQ(strict.messages().size(), 2U);
  EXPECT_NO_THROW(strict.say("d", greedy(3), ignore_text));
}

TEST_F(ChatTest, SavesAndLoadsTheConversation) {
  Chat chat(open());
  chat.set_system("Zeile \"eins\"\nzwei");
  static_cast<void>(chat.say("Grüße", greedy(), ignore_text));
  chat.save(folder / "talk.json");
  Chat other(*model);
  other.load(folder / "talk.json");
  ASSERT_EQ(other.messages().size(), 3U);
  EXPECT_EQ(other.messages()[1], chat.messages()[1]);
  EXPECT_NO_THROW(other.say("more", greedy(), ignore_text));
  for (const char* bad : {"{}", "{\"messages\": [{\"role\": \"tool\", \"content\": \"\"}]}",
                          "{\"messages\": [{\"role\": \"user\"}]}", "not JSON"}) {
    write_file_atomically(folder / "bad.json", bad);
    EXPECT_THAT(message_of([&] { other.load(folder / "bad.json"); }),
                testing::HasSubstr("bad.json"));
    EXPECT_EQ(other.messages().size(), 5U);
  }
}

TEST_F(ChatTest, TheModelsRecommendationsAreRead) {
  write_file_atomically(folder / "model" / "generation_config.json",
                        R"({"eos_token_id": [257, 7], "temperature": 0.6, "top_k": 20,
                            "do_sample": true, "max_length": 100})");
  const GenerationDefaults& defaults = open().defaults();
  EXPECT_EQ(defaults.end_ids, (std::vector<int32_t>{257, 7}));
  SamplingOptions options;
  defaults.apply(options);
  EXPECT_EQ(options.temperature, 0.6);
  EXPECT_EQ(options.top_k, 20);
  EXPECT_EQ(options.top_p, 1);
  write_file_atomically(folder / "model" / "generation_config.json", R"({"top_p": 2})");
  EXPECT_THAT(
      message_of([&] { open().defaults().apply(options); }),
      testing::AllOf(testing::HasSubstr("generation_config.json"), testing::HasSubstr("top_p")));
}

TEST_F(ChatTest, AModelWithoutATemplateIsRefused) {
  std::filesystem::remove(folder / "model" / "chat_template.jinja");
  EXPECT_THAT(message_of([&] { Chat chat(open()); }), testing::HasSubstr("chat template"));
}

}  // namespace
}  // namespace cairn
