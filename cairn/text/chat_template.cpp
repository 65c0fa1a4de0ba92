#include "cairn/text/chat_template.h"

#include "cairn/base/error.h"

namespace cairn {
namespace {

const std::string& source_of(const Tokenizer& tokenizer) {
  if (tokenizer.spec().chat_template.empty()) {
    throw Error({.kind = ErrorKind::data,
                 .doing = "opening a chat template",
                 .expected = "one in tokenizer_config.json or chat_template.jinja",
                 .found = "none",
                 .hint = "base models have none: give them plain text"});
  }
  return tokenizer.spec().chat_template;
}

}  // namespace

ChatTemplate::ChatTemplate(const Tokenizer& tokenizer)
    : tokenizer_(tokenizer), template_(source_of(tokenizer), "chat template") {}

RenderedChat ChatTemplate::render(const Conversation& conversation) const {
  using jinja::Value;
  jinja::Dict globals;
  const auto add = [&](const char* name, Value value) {
    globals.set(Value(name), std::move(value));
  };
  const auto from_users = [&](const char* name, const std::string& json) {
    add(name, json.empty() ? Value() : jinja::from_json(json, name, true));
  };
  const auto token = [&](const char* name, int32_t id) {
    if (id >= 0) add(name, Value(tokenizer_.token_bytes(id)));
  };
  token("bos_token", tokenizer_.bos_id());
  token("eos_token", tokenizer_.eos_id());
  token("pad_token", tokenizer_.spec().pad_id);
  if (!tokenizer_.spec().unknown_token.empty()) {
    add("unk_token", Value(std::string_view(tokenizer_.spec().unknown_token)));
  }
  if (!conversation.variables.empty()) {
    const Value more = jinja::from_json(conversation.variables, "variables", false);
    if (!more.is_dict()) {
      throw Error({.kind = ErrorKind::data,
                   .doing = "rendering a chat",
                   .subject = "variables",
                   .expected = "a JSON object"});
    }
    for (const auto& [name, value] : more.dict().items) globals.set(name, value);
  }
  from_users("messages", conversation.messages.empty() ? "[]" : conversation.messages);
  from_users("tools", conversation.tools);
  from_users("documents", conversation.documents);
  add("add_generation_prompt", Value(conversation.add_generation_prompt));
  jinja::RenderOptions options;
  options.now = conversation.now;
  return template_.render(globals, options);
}

std::vector<int32_t> ChatTemplate::encode(const RenderedChat& chat) const {
  return tokenizer_.encode(chat.text, {.parse_special = true, .plain = chat.user});
}

}  // namespace cairn
