#include "cairn/text/chat_template.h"

#include <algorithm>

#include "cairn/base/error.h"
#include "cairn/io/json.h"

namespace cairn {
namespace {

constexpr const char* kUsual = "default";
constexpr const char* kWithTools = "tool_use";

[[noreturn]] void refuse_name(const Tokenizer& tokenizer, const std::string& name) {
  std::string list;
  for (const std::string& known : ChatTemplate::names(tokenizer))
    list += (list.empty() ? "" : ", ") + known;
  throw Error({.kind = ErrorKind::usage,
               .doing = "opening a chat template",
               .subject = "its name",
               .expected = "one of " + list,
               .found = name.empty() ? "none, and no default" : in_quotes(name),
               .hint = "cairn tokenizer info MODEL lists them"});
}

const std::string& source_of(const Tokenizer& tokenizer, const std::string& name) {
  const TokenizerSpec& spec = tokenizer.spec();
  if (spec.chat_template.empty() && spec.named_templates.empty()) {
    throw Error({.kind = ErrorKind::data,
                 .doing = "opening a chat template",
                 .expected = "one in tokenizer_config.json or chat_template.jinja",
                 .found = "none",
                 .hint = "base models have none: give them plain text"});
  }
  const bool usual = name.empty() || name == kUsual;
  if (usual && !spec.chat_template.empty()) return spec.chat_template;
  const auto named = spec.named_templates.find(name);
  if (named == spec.named_templates.end()) refuse_name(tokenizer, name);
  return named->second;
}

}  // namespace

ChatTemplate::ChatTemplate(const Tokenizer& tokenizer, const std::string& name)
    : tokenizer_(tokenizer), template_(source_of(tokenizer, name), "chat template") {
  const auto tools = tokenizer.spec().named_templates.find(kWithTools);
  if (name.empty() && tools != tokenizer.spec().named_templates.end())
    with_tools_.emplace(tools->second, "chat template tool_use");
}

std::vector<std::string> ChatTemplate::names(const Tokenizer& tokenizer) {
  std::vector<std::string> names;
  for (const auto& [name, source] : tokenizer.spec().named_templates) names.push_back(name);
  if (!tokenizer.spec().chat_template.empty()) names.emplace_back(kUsual);
  std::sort(names.begin(), names.end());
  return names;
}

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
  const bool tools = with_tools_ && !conversation.tools.empty() && conversation.tools != "[]";
  return (tools ? *with_tools_ : template_).render(globals, options);
}

std::vector<int32_t> ChatTemplate::encode(const RenderedChat& chat) const {
  return tokenizer_.encode(chat.text, {.parse_special = true, .plain = chat.user});
}

}  // namespace cairn
