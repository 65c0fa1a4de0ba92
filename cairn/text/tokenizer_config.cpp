#include "cairn/text/tokenizer_json.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/io/gguf.h"
#include "cairn/io/json.h"
#include "cairn/text/gguf_keys.h"

namespace cairn {
namespace {

constexpr uint64_t kLargestFile = uint64_t{1} << 28;

// "<s>" or {"content": "<s>", ...}.
std::string token_text(const JsonField& field) {
  return field.value().is_object() ? field.member("content").as_string() : field.as_string();
}

}  // namespace

void parse_tokenizer_config(std::string_view text, const std::string& source, TokenizerSpec& spec) {
  const Json json = parse_json(text, source);
  const JsonField config(json, source);
  const auto id_of = [&](const char* key) {
    const auto field = config.find(key);
    if (!field) return -1;
    const std::string token = token_text(*field);
    for (const AddedToken& added : spec.added) {
      if (added.content == token) return added.id;
    }
    const auto found = std::find(spec.vocabulary.begin(), spec.vocabulary.end(), token);
    if (token.empty() || found == spec.vocabulary.end()) field->fail("a token of the tokenizer");
    return static_cast<int32_t>(found - spec.vocabulary.begin());
  };
  spec.bos_id = id_of("bos_token");
  spec.eos_id = id_of("eos_token");
  spec.pad_id = id_of("pad_token");
  if (const auto length = config.find("model_max_length")) {
    // transformers writes 1e30 where it knows no limit.
    const double value = length->as_number();
    spec.model_max_length = value >= 1 && value < 1e15 ? static_cast<int64_t>(value) : 0;
  }
  const auto chat = config.find("chat_template");
  if (!chat) return;
  if (!chat->value().is_array()) {
    spec.chat_template = chat->as_string();
    return;
  }
  for (const JsonField& named : chat->elements()) {
    const std::string name = named.member("name").as_string();
    if (name.empty()) named.member("name").fail("a name");
    std::string source = named.member("template").as_string();
    if (name == "default")
      spec.chat_template = std::move(source);
    else
      spec.named_templates[name] = std::move(source);
  }
}

Tokenizer load_tokenizer(const Path& path) {
  if (is_gguf(path)) return Tokenizer(tokenizer_from_gguf(GgufArchive(path)));
  const Path file = std::filesystem::is_directory(path) ? path / "tokenizer.json" : path;
  TokenizerSpec spec = parse_tokenizer_json(read_file(file, kLargestFile), file.string());
  const Path config = file.parent_path() / "tokenizer_config.json";
  if (std::filesystem::exists(config)) {
    parse_tokenizer_config(read_file(config, kLargestFile), config.string(), spec);
  }
  const Path chat = file.parent_path() / "chat_template.jinja";
  if (std::filesystem::exists(chat)) spec.chat_template = read_file(chat, kLargestFile);
  const Path more = file.parent_path() / "additional_chat_templates";
  if (std::filesystem::is_directory(more))
    for (const auto& entry : std::filesystem::directory_iterator(more))
      if (entry.path().extension() == ".jinja")
        spec.named_templates[entry.path().stem().string()] = read_file(entry.path(), kLargestFile);
  return Tokenizer(std::move(spec));
}

}  // namespace cairn
