// Conversations to text and tokens by a model's own chat template (Jinja, jinja/template.h), safe
// against injection: what users wrote never becomes a control token, however it is spelled.
//
//   const ChatTemplate chat(tokenizer);
//   const RenderedChat text = chat.render({.messages = R"([{"role": "user", "content": "Hi"}])"});
//   const std::vector<int32_t> ids = chat.encode(text);
#pragma once

#include <ctime>
#include <optional>
#include <string>
#include <vector>

#include "cairn/text/jinja/template.h"
#include "cairn/text/tokenizer.h"

namespace cairn {

// A conversation as JSON texts, in the forms of the OpenAI interface; the order of keys stays.
struct Conversation {
  std::string messages;   // an array of {"role": ..., "content": ..., ...}
  std::string tools;      // an array, or empty for none
  std::string documents;  // an array, or empty for none
  std::string variables;  // an object of what else the template asks for (enable_thinking)
  bool add_generation_prompt = true;
  std::time_t now = std::time(nullptr);  // what strftime_now tells
};

using RenderedChat = jinja::Rendered;

// Immutable after construction; any thread may use it.
class ChatTemplate {
 public:
  // The template of that name. Without a name the usual one, and where there are tools the one that
  // is called "tool_use", if any. Throws Error: data when there is no template or one is not
  // understood, with line and column; usage when there is none of the name.
  explicit ChatTemplate(const Tokenizer& tokenizer, const std::string& name = "");

  // Every text inside messages, tools and documents counts as written by users, but for the usual
  // roles; `variables` and the template itself do not. Throws Error (data) for JSON that is none,
  // what the template refuses, and templates that take too long or too much.
  RenderedChat render(const Conversation& conversation) const;

  // The tokens: special ones only where the template wrote them whole. The tokenizer adds no
  // beginning or end of its own: templates write them.
  std::vector<int32_t> encode(const RenderedChat& chat) const;

  // The variables that the template looks at and does not set itself, sorted.
  const std::vector<std::string>& variables() const { return template_.variables(); }
  // The names that a template may be asked for by, sorted; the usual one is "default".
  static std::vector<std::string> names(const Tokenizer& tokenizer);

 private:
  Tokenizer tokenizer_;
  jinja::Template template_;
  std::optional<jinja::Template> with_tools_;
};

}  // namespace cairn
