#include "cairn/text/gguf_vocabulary.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "cairn/base/error.h"
#include "cairn/base/suggest.h"
#include "cairn/io/json.h"
#include "cairn/text/llama3_rule.h"
#include "cairn/text/pretokenizer.h"
#include "cairn/text/string_index.h"

namespace cairn {
namespace {

enum TokenType : int32_t { kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5 };

enum class Rule { gpt2, digits_gpt2, llama3, qwen2 };

// The first name of a rule is the one that is written.
struct RuleName {
  std::string_view name;
  Rule rule;
};
constexpr std::array kRules = {
    RuleName{"gpt-2", Rule::gpt2},
    RuleName{"smollm", Rule::digits_gpt2},
    RuleName{"llama-bpe", Rule::llama3},
    RuleName{"qwen2", Rule::qwen2},
    RuleName{"mpt", Rule::gpt2},
    RuleName{"olmo", Rule::gpt2},
    RuleName{"jais", Rule::gpt2},
    RuleName{"phi-2", Rule::gpt2},
    RuleName{"starcoder", Rule::digits_gpt2},
    RuleName{"refact", Rule::digits_gpt2},
    RuleName{"command-r", Rule::digits_gpt2},
    RuleName{"codeshell", Rule::digits_gpt2},
    RuleName{"exaone", Rule::digits_gpt2},
    RuleName{"minerva-7b", Rule::digits_gpt2},
    RuleName{"llama3", Rule::llama3},
    RuleName{"llama-v3", Rule::llama3},
    RuleName{"falcon3", Rule::llama3},
    RuleName{"pixtral", Rule::llama3},
    RuleName{"deepseek-r1-qwen", Rule::qwen2},
    RuleName{"stablelm2", Rule::qwen2},
};

std::vector<PretokenizerStep> steps_of(Rule rule) {
  if (rule == Rule::gpt2) return Pretokenizer::gpt2();
  if (rule == Rule::digits_gpt2) return Pretokenizer::smollm();
  return Pretokenizer::by_regex(rule == Rule::llama3 ? kLlama3Pattern : kQwen2Pattern);
}

Rule read_rule(const GgufArchive& archive) {
  const GgufValue value = archive.at("tokenizer.ggml.pre");
  const std::string name(value.as_string());
  std::vector<std::string> names;
  for (const RuleName& known : kRules) {
    if (known.name == name) return known.rule;
    names.emplace_back(known.name);
  }
  value.fail("a known pre-tokenizer: gpt-2, smollm, llama-bpe, qwen2 or one of their other names",
             did_you_mean(name, names));
}

std::vector<std::pair<int32_t, int32_t>> read_merges(const GgufArchive& archive,
                                                     const std::vector<std::string>& tokens) {
  StringIndex ids(tokens.size());
  for (size_t id = 0; id < tokens.size(); ++id) ids.insert(tokens[id], static_cast<int32_t>(id));
  const GgufValue value = archive.at("tokenizer.ggml.merges");
  std::vector<std::pair<int32_t, int32_t>> merges;
  for (const std::string_view merge : value.as_strings()) {
    const size_t blank = merge.find(' ', 1);  // the left part may begin with one
    const int32_t left = ids.find(merge.substr(0, blank));
    const int32_t right = blank == std::string_view::npos ? -1 : ids.find(merge.substr(blank + 1));
    if (left < 0 || right < 0)
      value.fail(fmt::format("merge {} to be two tokens and a blank", merges.size()),
                 "it is " + in_quotes(merge));
    merges.emplace_back(left, right);
  }
  return merges;
}

int32_t read_id(const GgufArchive& archive, const char* name, size_t tokens) {
  const auto value = archive.find(fmt::format("tokenizer.ggml.{}_token_id", name));
  if (!value) return -1;
  return static_cast<int32_t>(value->as_integer(0, static_cast<int64_t>(tokens) - 1));
}

bool read_flag(const GgufArchive& archive, const char* key, bool otherwise) {
  const auto value = archive.find(key);
  return value ? value->as_bool() : otherwise;
}

void read_special(const GgufArchive& archive, Rule rule, TokenizerSpec& spec) {
  const size_t tokens = spec.vocabulary.size();
  spec.bos_id = read_id(archive, "bos", tokens);
  spec.eos_id = read_id(archive, "eos", tokens);
  spec.pad_id = read_id(archive, "padding", tokens);
  const int32_t unknown = read_id(archive, "unknown", tokens);
  if (unknown >= 0) spec.unknown_token = spec.vocabulary[static_cast<size_t>(unknown)];
  const bool bos = read_flag(archive, "tokenizer.ggml.add_bos_token", rule == Rule::llama3);
  if (bos && spec.bos_id >= 0) spec.prefix = {spec.bos_id};
  const bool eos = read_flag(archive, "tokenizer.ggml.add_eos_token", false);
  if (eos && spec.eos_id >= 0) spec.suffix = {spec.eos_id};
  if (const auto value = archive.find("tokenizer.chat_template"))
    spec.chat_template = value->as_string();
}

const RuleName& name_of(const TokenizerSpec& spec) {
  for (const RuleName& known : kRules)
    if (spec.pretokenizer == steps_of(known.rule) &&
        (spec.ignore_merges == (known.rule == Rule::llama3)))
      return known;
  throw Error({.kind = ErrorKind::usage,
               .doing = "writing a tokenizer to GGUF",
               .subject = "pre-tokenizer",
               .expected = "the rule of GPT-2, SmolLM, Llama 3 or Qwen2",
               .found = "another one",
               .hint = "GGUF names its rules, and has no name for this one"});
}

}  // namespace

TokenizerSpec byte_level_bpe_from_gguf(const GgufArchive& archive) {
  const GgufValue model = archive.at("tokenizer.ggml.model");
  if (model.as_string() != "gpt2") model.fail("\"gpt2\"", "other tokenizers are not supported yet");
  const Rule rule = read_rule(archive);
  TokenizerSpec spec;
  spec.pretokenizer = steps_of(rule);
  spec.ignore_merges = rule == Rule::llama3;
  const GgufValue tokens = archive.at("tokenizer.ggml.tokens");
  for (const std::string_view token : tokens.as_strings()) spec.vocabulary.emplace_back(token);
  const auto types = archive.find("tokenizer.ggml.token_type");
  const std::vector<int64_t> kinds =
      types ? types->as_integers() : std::vector<int64_t>(spec.vocabulary.size(), kNormal);
  if (kinds.size() != spec.vocabulary.size())
    types->fail(fmt::format("{} elements, as many as tokens", spec.vocabulary.size()));
  for (size_t id = 0; id < kinds.size(); ++id) {
    if (kinds[id] == kUnused) spec.vocabulary[id].clear();
    if (kinds[id] != kControl && kinds[id] != kUserDefined) continue;
    AddedToken added;
    added.id = static_cast<int32_t>(id);
    added.content = spec.vocabulary[id];
    added.special = kinds[id] == kControl;
    spec.added.push_back(std::move(added));
  }
  spec.merges = read_merges(archive, spec.vocabulary);
  read_special(archive, rule, spec);
  return spec;
}

void byte_level_bpe_to_gguf(const TokenizerSpec& spec, size_t rows, GgufMetadata& metadata) {
  metadata.set_string("tokenizer.ggml.model", "gpt2");
  metadata.set_string("tokenizer.ggml.pre", name_of(spec).name);
  std::vector<std::string> tokens = spec.vocabulary;
  std::vector<int32_t> types(tokens.size(), kNormal);
  for (const AddedToken& added : spec.added) {
    const auto id = static_cast<size_t>(added.id);
    if (id >= tokens.size()) tokens.resize(id + 1), types.resize(id + 1, kNormal);
    tokens[id] = added.content;
    types[id] = added.special ? kControl : kUserDefined;
  }
  if (rows > tokens.size()) tokens.resize(rows), types.resize(rows, kNormal);
  for (size_t id = 0; id < tokens.size(); ++id)
    if (tokens[id].empty()) tokens[id] = fmt::format("[PAD{}]", id), types[id] = kUnused;
  std::vector<std::string> merges;
  for (const auto& [left, right] : spec.merges)
    merges.push_back(tokens[static_cast<size_t>(left)] + " " + tokens[static_cast<size_t>(right)]);
  metadata.set_strings("tokenizer.ggml.tokens", tokens);
  metadata.set_i32s("tokenizer.ggml.token_type", types);
  metadata.set_strings("tokenizer.ggml.merges", merges);
  const auto id = [&](const char* name, int32_t value) {
    if (value >= 0)
      metadata.set_u32(fmt::format("tokenizer.ggml.{}_token_id", name),
                       static_cast<uint32_t>(value));
  };
  id("bos", spec.bos_id);
  id("eos", spec.eos_id);
  id("padding", spec.pad_id);
  const auto unknown = std::find(tokens.begin(), tokens.end(), spec.unknown_token);
  if (!spec.unknown_token.empty() && unknown != tokens.end())
    id("unknown", static_cast<int32_t>(unknown - tokens.begin()));
  metadata.set_bool("tokenizer.ggml.add_space_prefix", false);
  metadata.set_bool("tokenizer.ggml.add_bos_token",
                    spec.bos_id >= 0 && spec.prefix == std::vector{spec.bos_id});
  metadata.set_bool("tokenizer.ggml.add_eos_token",
                    spec.eos_id >= 0 && spec.suffix == std::vector{spec.eos_id});
  if (!spec.chat_template.empty())
    metadata.set_string("tokenizer.chat_template", spec.chat_template);
}

}  // namespace cairn
