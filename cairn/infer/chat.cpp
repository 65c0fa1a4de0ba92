#include "cairn/infer/chat.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/io/json.h"

namespace cairn {
namespace {

constexpr uint64_t kLargestFile = uint64_t{1} << 28;

// Room that a prompt leaves for the answer.
size_t reserved(size_t max_tokens, size_t context) {
  return std::clamp<size_t>(max_tokens, 1, std::max<size_t>(1, context / 8));
}

Json to_json(const ChatMessage& message) {
  return {{"role", message.role}, {"content", message.content}};
}

}  // namespace

Chat::Chat(TextModel& model, ChatOptions options)
    : model_(model),
      options_(std::move(options)),
      template_(model.tokenizer(), options_.chat_template),
      session_(model.engine().start()) {}

bool Chat::has_system() const {
  return !messages_.empty() && messages_.front().role == "system";
}

ChatReply Chat::say(std::string text, const GenerateOptions& how, TextCallback on_text) {
  messages_.push_back({"user", std::move(text)});
  try {
    ChatReply reply = answer(how, on_text);
    if (messages_.back().role == "user") messages_.pop_back();  // cancelled before it began
    return reply;
  } catch (...) {
    if (messages_.back().role == "user") messages_.pop_back();
    throw;
  }
}

ChatReply Chat::regenerate(const GenerateOptions& how, TextCallback on_text) {
  const std::vector<ChatMessage> before = messages_;
  if (!messages_.empty() && messages_.back().role == "assistant") messages_.pop_back();
  if (messages_.empty() || messages_.back().role != "user") {
    messages_ = before;
    throw Error({.kind = ErrorKind::usage,
                 .doing = "answering again",
                 .expected = "a message to answer",
                 .found = "none"});
  }
  try {
    ChatReply reply = answer(how, on_text);
    if (messages_.back().role == "user") messages_ = before;
    return reply;
  } catch (...) {
    messages_ = before;
    throw;
  }
}

bool Chat::undo() {
  size_t last = messages_.size();
  while (last > 0 && messages_[last - 1].role != "user") --last;
  if (last == 0) return false;
  messages_.resize(last - 1);
  first_ = std::min(first_, messages_.size());
  return true;
}

void Chat::set_system(std::string text) {
  if (has_system()) messages_.erase(messages_.begin());
  if (!text.empty()) messages_.insert(messages_.begin(), {"system", std::move(text)});
  first_ = 0;
}

void Chat::reset() {
  messages_.resize(has_system() ? 1 : 0);
  first_ = 0;
}

void Chat::save(const Path& path) const {
  Json list = Json::array();
  for (const ChatMessage& message : messages_) list.push_back(to_json(message));
  // What a model says may be no UTF-8, which JSON cannot hold.
  const Json document = {{"messages", std::move(list)}};
  write_file_atomically(path, document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

void Chat::load(const Path& path) {
  const Json document = read_json(path, kLargestFile);
  const JsonField file(document, path.string());
  std::vector<ChatMessage> messages;
  for (const JsonField& entry : file.member("messages").elements()) {
    const std::string role = entry.member("role").as_string();
    const bool known =
        role == "user" || role == "assistant" || (role == "system" && messages.empty());
    if (!known) entry.member("role").fail("user or assistant (system: the first one only)");
    messages.push_back({role, entry.member("content").as_string()});
  }
  messages_ = std::move(messages);
  first_ = 0;
}

// The tokens of the system message and of the messages from `first` on.
std::vector<int32_t> Chat::prompt(size_t first) const {
  Json list = Json::array();
  if (has_system()) list.push_back(to_json(messages_.front()));
  for (size_t i = std::max<size_t>(first, has_system() ? 1 : 0); i < messages_.size(); ++i)
    list.push_back(to_json(messages_[i]));
  Conversation conversation;
  conversation.messages = list.dump(-1, ' ', false, Json::error_handler_t::replace);
  conversation.variables = options_.variables;
  return template_.encode(template_.render(conversation));
}

// Forgets oldest exchanges when the prompt leaves no room for an answer: so many that the rest
// takes half of the context, so that not every turn from now on has to read everything anew.
std::vector<int32_t> Chat::fitting_prompt(size_t max_tokens, size_t& forgotten) {
  const size_t context = model_.engine().context();
  std::vector<int32_t> tokens = prompt(first_);
  if (tokens.size() + reserved(max_tokens, context) <= context) return tokens;
  size_t first = first_;
  if (options_.overflow == ChatOverflow::forget) {
    const auto next_exchange = [&] {  // messages_.size() - 1, the one to answer, at the latest
      size_t next = std::max<size_t>(first + 1, has_system() ? 2 : 1);
      while (next + 1 < messages_.size() && messages_[next].role != "user") ++next;
      return std::min(next, messages_.size() - 1);
    };
    while (tokens.size() > context / 2 && first + 1 < messages_.size()) {
      const size_t next = next_exchange();
      if (next == first) break;
      forgotten += next - std::max<size_t>(first, has_system() ? 1 : 0);
      first = next;
      tokens = prompt(first);
    }
  }
  if (tokens.size() >= context)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "reading the conversation",
                 .expected = fmt::format("fewer than {} tokens (the context)", context),
                 .found = std::to_string(tokens.size()),
                 .hint = options_.overflow == ChatOverflow::forget
                             ? "shorten the message, or use a model with a longer context"
                             : "forget its beginning (/reset), or shorten the message"});
  first_ = first;
  return tokens;
}

// Cuts what the session has read down to the start that it shares with the prompt, of which at
// least the last token is left to read; returns its length.
size_t Chat::keep_common_start(std::span<const int32_t> prompt) {
  const std::span<const int32_t> known = session_.tokens();
  const auto [end, unused] =
      std::mismatch(known.begin(), known.end(), prompt.begin(), prompt.end());
  return session_.keep(std::min(static_cast<size_t>(end - known.begin()), prompt.size() - 1));
}

ChatReply Chat::answer(const GenerateOptions& how, TextCallback on_text) {
  ChatReply reply;
  const std::vector<int32_t> tokens = fitting_prompt(how.max_tokens, reply.forgotten_messages);
  reply.cached_tokens = keep_common_start(tokens);
  const std::span<const int32_t> fresh = std::span(tokens).subspan(reply.cached_tokens);
  reply.generation = generate(session_, model_.tokenizer(), fresh, how, on_text);
  const bool nothing =
      reply.generation.reason == StopReason::cancelled && reply.generation.text.empty();
  if (!nothing) messages_.push_back({"assistant", reply.generation.text});
  return reply;
}

}  // namespace cairn
