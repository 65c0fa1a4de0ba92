#include "cairn/text/gguf_keys.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "cairn/base/error.h"

namespace cairn {
namespace {

constexpr std::string_view kPrefix = "tokenizer.ggml.";
constexpr std::string_view kTemplate = "tokenizer.chat_template";
constexpr std::string_view kNamedTemplate = "tokenizer.chat_template.";  // and the name
constexpr std::string_view kTemplateNames = "tokenizer.chat_templates";

std::string full(std::string_view name) {
  return std::string(kPrefix) + std::string(name);
}

struct IdKey {
  const char* name;
  int64_t GgufTokenizer::*member;
};
constexpr std::array kIds = {
    IdKey{"bos_token_id", &GgufTokenizer::bos_token_id},
    IdKey{"eos_token_id", &GgufTokenizer::eos_token_id},
    IdKey{"unknown_token_id", &GgufTokenizer::unknown_token_id},
    IdKey{"padding_token_id", &GgufTokenizer::padding_token_id},
    IdKey{"eot_token_id", &GgufTokenizer::eot_token_id},
    IdKey{"eom_token_id", &GgufTokenizer::eom_token_id},
};

struct FlagKey {
  const char* name;
  std::optional<bool> GgufTokenizer::*member;
};
constexpr std::array kFlags = {
    FlagKey{"add_bos_token", &GgufTokenizer::add_bos_token},
    FlagKey{"add_eos_token", &GgufTokenizer::add_eos_token},
    FlagKey{"add_space_prefix", &GgufTokenizer::add_space_prefix},
    FlagKey{"remove_extra_whitespaces", &GgufTokenizer::remove_extra_whitespaces},
};

std::vector<std::string> strings_of(const GgufValue& value) {
  const std::vector<std::string_view> views = value.as_strings();
  return {views.begin(), views.end()};
}

void read_lists(const GgufArchive& archive, GgufTokenizer& keys) {
  keys.tokens = strings_of(archive.at(full("tokens")));
  if (const auto scores = archive.find(full("scores"))) keys.scores = scores->as_floats();
  if (const auto merges = archive.find(full("merges"))) keys.merges = strings_of(*merges);
  const auto types = archive.find(full("token_type"));
  if (!types) return;
  for (const int64_t type : types->as_integers())
    keys.token_types.push_back(static_cast<int32_t>(std::clamp<int64_t>(type, -1, 100)));
}

// The character map is an array of bytes.
void read_charsmap(const GgufArchive& archive, GgufTokenizer& keys) {
  const auto map = archive.find(full("precompiled_charsmap"));
  if (!map) return;
  const bool bytes = map->is_array() &&
                     (map->element_kind() == GgufKind::u8 || map->element_kind() == GgufKind::i8);
  if (!bytes) map->fail("an array of bytes");
  const std::span<const std::byte> content = map->bytes();
  keys.precompiled_charsmap.assign(reinterpret_cast<const char*>(content.data()), content.size());
}

GgufTokenizer read_keys(const GgufArchive& archive) {
  GgufTokenizer keys;
  keys.model = archive.at(full("model")).as_string();
  if (const auto pre = archive.find(full("pre"))) keys.pre = pre->as_string();
  read_lists(archive, keys);
  read_charsmap(archive, keys);
  const int64_t last = static_cast<int64_t>(keys.tokens.size()) - 1;
  for (const IdKey& id : kIds)
    if (const auto value = archive.find(full(id.name)))
      keys.*id.member = value->as_integer(0, last);
  for (const FlagKey& flag : kFlags)
    if (const auto value = archive.find(full(flag.name))) keys.*flag.member = value->as_bool();
  if (const auto text = archive.find(kTemplate)) keys.chat_template = text->as_string();
  const GgufFile& file = archive.metadata();
  for (size_t i = 0; i < file.metadata_count(); ++i) {
    const GgufValue value = file.metadata(i);
    if (value.key().size() > kNamedTemplate.size() &&
        value.key().substr(0, kNamedTemplate.size()) == kNamedTemplate)
      keys.named_templates.emplace(value.key().substr(kNamedTemplate.size()), value.as_string());
  }
  return keys;
}

}  // namespace

TokenizerSpec tokenizer_from_gguf(const GgufArchive& archive) {
  const GgufTokenizer keys = read_keys(archive);
  try {
    return spec_from_gguf(keys);
  } catch (const Error& error) {  // which knows the key, but not the file
    Problem problem = error.problem();
    problem.doing = "loading " + archive.path().string();
    throw Error(std::move(problem));
  }
}

void tokenizer_to_gguf(const TokenizerSpec& spec, size_t rows, GgufMetadata& metadata) {
  GgufTokenizer keys = gguf_from_spec(spec);
  for (size_t id = keys.tokens.size(); id < rows; ++id) {
    keys.tokens.push_back(fmt::format("[PAD{}]", id));
    keys.token_types.push_back(static_cast<int32_t>(GgufTokenType::unused));
    if (!keys.scores.empty()) keys.scores.push_back(0);
  }
  metadata.set_string(full("model"), keys.model);
  if (!keys.pre.empty()) metadata.set_string(full("pre"), keys.pre);
  metadata.set_strings(full("tokens"), keys.tokens);
  if (!keys.scores.empty()) metadata.set_f32s(full("scores"), keys.scores);
  metadata.set_i32s(full("token_type"), keys.token_types);
  if (!keys.merges.empty()) metadata.set_strings(full("merges"), keys.merges);
  for (const IdKey& id : kIds)
    if (keys.*id.member >= 0)
      metadata.set_u32(full(id.name), static_cast<uint32_t>(keys.*id.member));
  for (const FlagKey& flag : kFlags)
    if (keys.*flag.member) metadata.set_bool(full(flag.name), *(keys.*flag.member));
  const auto* map = reinterpret_cast<const uint8_t*>(keys.precompiled_charsmap.data());
  if (!keys.precompiled_charsmap.empty())
    metadata.set_u8s(full("precompiled_charsmap"), {map, keys.precompiled_charsmap.size()});
  if (!keys.chat_template.empty()) metadata.set_string(kTemplate, keys.chat_template);
  std::vector<std::string> names;
  for (const auto& [name, source] : keys.named_templates) {
    metadata.set_string(std::string(kNamedTemplate) + name, source);
    names.push_back(name);
  }
  if (!names.empty()) metadata.set_strings(kTemplateNames, names);
}

}  // namespace cairn
