// A conversation with a model: messages in, answers out. The text that the model has read stays in
// its caches between the turns: of each new prompt only what differs from it is processed.
//
//   Chat chat(model);
//   chat.set_system("You answer in one sentence.");
//   ChatReply reply = chat.say("What is a cairn?", options, show);
//
// When the conversation outgrows the context, its oldest exchanges are forgotten (the system
// message never), or the turn is refused: ChatOptions::overflow decides, and a reply says what was
// forgotten. All messages stay in messages().
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/base/file.h"
#include "cairn/infer/generate.h"
#include "cairn/infer/text_model.h"
#include "cairn/text/chat_template.h"

namespace cairn {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
  bool operator==(const ChatMessage&) const = default;
};

enum class ChatOverflow { forget, refuse };

struct ChatOptions {
  ChatOverflow overflow = ChatOverflow::forget;
  std::string chat_template;  // its name, where the model has several
  std::string variables;      // a JSON object of what else the template asks for (enable_thinking)
};

struct ChatReply {
  Generation generation;
  size_t cached_tokens = 0;       // of the prompt, that were in the caches
  size_t forgotten_messages = 0;  // left out of the prompt from this turn on
};

// One conversation. The model must outlive it; one call at a time on all chats of a model.
class Chat {
 public:
  // Throws Error (data) when the model has no chat template or one that is not understood.
  explicit Chat(TextModel& model, ChatOptions options = {});

  const std::vector<ChatMessage>& messages() const { return messages_; }

  // Adds the message and the model's answer, whose text is generation.text. An answer that was
  // cancelled before its first word takes the message back. Throws what generate() and the template
  // throw, and Error (usage) when the prompt does not fit into the context; then nothing has
  // changed.
  ChatReply say(std::string text, const GenerateOptions& how, TextCallback on_text);
  // Answers the last message of the user once more, in place of the last answer. Throws Error
  // (usage) when there is none.
  ChatReply regenerate(const GenerateOptions& how, TextCallback on_text);
  // Takes the last message of the user and its answer back; false when there is none.
  bool undo();
  // Sets, replaces or (empty) removes the system message.
  void set_system(std::string text);
  // Forgets all but the system message.
  void reset();

  // A conversation as a JSON file, {"messages": [{"role": ..., "content": ...}, ...]}.
  void save(const Path& path) const;
  // Replaces the conversation. Throws Error (data) and keeps the old one when the file is not one.
  void load(const Path& path);

 private:
  ChatReply answer(const GenerateOptions& how, TextCallback on_text);
  std::vector<int32_t> prompt(size_t first) const;
  std::vector<int32_t> fitting_prompt(size_t max_tokens, size_t& forgotten);
  size_t keep_common_start(std::span<const int32_t> prompt);
  bool has_system() const;

  TextModel& model_;
  ChatOptions options_;
  ChatTemplate template_;
  Session session_;
  std::vector<ChatMessage> messages_;
  size_t first_ = 0;  // of the messages in the prompt, the system message aside
};

}  // namespace cairn
