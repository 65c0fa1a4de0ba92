#include "cairn/text/gguf_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>

#include "cairn/base/error.h"
#include "cairn/io/json.h"
#include "cairn/text/merge_scores.h"
#include "cairn/text/pretokenizer.h"
#include "cairn/text/string_index.h"
#include "cairn/text/vocabulary.h"

namespace cairn {
namespace {

using Type = GgufTokenType;

// o200k (GPT-4o): runs of upper case, then of lower case, with one other character before and a
// contraction behind; and Tekken's, which is that without contractions and with single digits.
constexpr std::string_view kGpt4oPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekkenPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

enum class Rule { gpt2, smollm, llama3, qwen2, gpt4o, tekken, plain };
struct Pre {
  std::string_view name;
  Rule rule;
  bool begins = false;  // a word that is a token stays whole, and texts begin with BOS
};
// The first name of a rule is the one that is written.
constexpr Pre kPres[] = {
    {"gpt-2", Rule::gpt2},
    {"mpt", Rule::gpt2},
    {"olmo", Rule::gpt2},
    {"jais", Rule::gpt2},
    {"phi-2", Rule::gpt2},
    {"granite-docling", Rule::gpt2},
    {"smollm", Rule::smollm},
    {"starcoder", Rule::smollm},
    {"refact", Rule::smollm},
    {"command-r", Rule::smollm},
    {"codeshell", Rule::smollm},
    {"exaone", Rule::smollm},
    {"minerva-7b", Rule::smollm},
    {"llama-bpe", Rule::llama3, true},
    {"llama3", Rule::llama3, true},
    {"llama-v3", Rule::llama3, true},
    {"falcon3", Rule::llama3, true},
    {"pixtral", Rule::llama3, true},
    {"lfm2", Rule::llama3, true},
    {"dbrx", Rule::llama3},
    {"smaug-bpe", Rule::llama3},
    {"glm4", Rule::llama3},
    {"chatglm-bpe", Rule::llama3},
    {"qwen2", Rule::qwen2},
    {"deepseek-r1-qwen", Rule::qwen2},
    {"stablelm2", Rule::qwen2},
    {"hunyuan", Rule::qwen2},
    {"gpt-4o", Rule::gpt4o},
    {"tekken", Rule::tekken, true},
    {"default", Rule::plain},
};

std::vector<PretokenizerStep> steps_of(Rule rule) {
  switch (rule) {
    case Rule::gpt2:
      return Pretokenizer::gpt2();
    case Rule::smollm:
      return Pretokenizer::smollm();
    case Rule::llama3:
      return Pretokenizer::by_regex(kLlama3Pattern);
    case Rule::qwen2:
      return Pretokenizer::by_regex(kQwen2Pattern);
    case Rule::gpt4o:
      return Pretokenizer::by_regex(kGpt4oPattern);
    case Rule::tekken:
      return Pretokenizer::by_regex(kTekkenPattern);
    case Rule::plain:
      break;
  }
  std::vector<PretokenizerStep> steps;
  for (const std::string_view pattern :
       {std::string_view(R"([\p{P}\$\+<=>\^~\|]+)"), kGpt2Pattern, std::string_view(R"(\p{N}+)"),
        std::string_view("[0-9][0-9][0-9]")}) {
    steps.push_back(Pretokenizer::by_regex(pattern)[0]);
  }
  return steps;
}

bool begins(std::string_view pre) {
  return std::any_of(std::begin(kPres), std::end(kPres),
                     [&](const Pre& entry) { return entry.name == pre && entry.begins; });
}

[[noreturn]] void refuse(const std::string& key, const std::string& expected,
                         const std::string& found) {
  throw Error({.kind = ErrorKind::data,
               .doing = "reading a GGUF tokenizer",
               .subject = "tokenizer.ggml." + key,
               .expected = expected,
               .found = found});
}

Type type_of(const GgufTokenizer& keys, size_t id) {
  return keys.token_types.empty() ? Type::normal : static_cast<Type>(keys.token_types[id]);
}

void check_lengths(const GgufTokenizer& keys) {
  const size_t size = keys.tokens.size();
  if (size == 0) refuse("tokens", "tokens", "none");
  const auto check = [&](const char* key, size_t length, bool needed) {
    if (length == size || (length == 0 && !needed)) return;
    refuse(key, fmt::format("{} (one a token)", size), std::to_string(length));
  };
  check("scores", keys.scores.size(), keys.model != "gpt2");
  check("token_type", keys.token_types.size(), false);
  for (size_t id = 0; id < keys.token_types.size(); ++id) {
    if (keys.token_types[id] < 0 || keys.token_types[id] > 6) {
      refuse(fmt::format("token_type[{}]", id), "0 to 6", std::to_string(keys.token_types[id]));
    }
  }
}

int32_t id_of(const GgufTokenizer& keys, const char* key, int64_t id) {
  if (id < -1 || id >= static_cast<int64_t>(keys.tokens.size())) {
    refuse(key, fmt::format("an id below {}", keys.tokens.size()), std::to_string(id));
  }
  return static_cast<int32_t>(id);
}

// Tokens; control and user-defined ones are found in the text before the model sees it. Of equal
// spellings the first counts: padding repeats some. Returns the ids by spelling.
StringIndex read_tokens(const GgufTokenizer& keys, TokenizerSpec& spec) {
  spec.vocabulary = keys.tokens;
  StringIndex ids(keys.tokens.size());
  for (size_t i = 0; i < keys.tokens.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const Type type = type_of(keys, i);
    if (keys.tokens[i].empty() || ids.insert(keys.tokens[i], id) >= 0) {
      spec.vocabulary[i].clear();
      continue;
    }
    if (type == Type::control || type == Type::user_defined) {
      spec.added.push_back({.id = id, .content = keys.tokens[i], .special = type == Type::control});
    }
    if (type == Type::unknown || type == Type::unused || type == Type::byte) {
      spec.unmatched.push_back(id);
    }
  }
  return ids;
}

void read_merges(const GgufTokenizer& keys, const StringIndex& ids, TokenizerSpec& spec) {
  spec.merges.reserve(keys.merges.size());
  for (size_t rank = 0; rank < keys.merges.size(); ++rank) {
    const std::string_view merge = keys.merges[rank];
    const size_t blank = merge.find(' ', 1);  // a token may start with one
    const int32_t left = blank == merge.npos ? -1 : ids.find(merge.substr(0, blank));
    const int32_t right = blank == merge.npos ? -1 : ids.find(merge.substr(blank + 1));
    if (left < 0 || right < 0) {
      refuse(fmt::format("merges[{}]", rank), "two tokens, apart by a blank", in_quotes(merge));
    }
    spec.merges.emplace_back(left, right);
  }
}

void read_gpt2(const GgufTokenizer& keys, const StringIndex& ids, TokenizerSpec& spec) {
  spec.model = TokenizerModel::byte_level_bpe;
  const std::string& pre = keys.pre.empty() ? "default" : keys.pre;
  spec.pretokenizer = steps_of_pre(pre);
  if (spec.pretokenizer.empty()) {
    std::string known;
    for (const Pre& entry : kPres) known += (known.empty() ? "" : ", ") + std::string(entry.name);
    refuse("pre", known, in_quotes(pre));
  }
  spec.ignore_merges = begins(pre);
  read_merges(keys, ids, spec);
}

// SentencePiece: blanks become U+2581, perhaps with one in front.
void read_sentencepiece(const GgufTokenizer& keys, TokenizerSpec& spec) {
  using Normal = NormalizerStep::Kind;
  using Decode = DecoderStep::Kind;
  const bool unigram = keys.model == "t5";
  spec.model = unigram ? TokenizerModel::unigram : TokenizerModel::scored_bpe;
  spec.scores.assign(keys.scores.begin(), keys.scores.end());
  const int32_t unknown = id_of(keys, "unknown_token_id", keys.unknown_token_id);
  if (unknown >= 0) spec.unknown_token = keys.tokens[static_cast<size_t>(unknown)];
  spec.fuse_unknown = true;
  spec.byte_fallback = std::any_of(keys.token_types.begin(), keys.token_types.end(),
                                   [](int32_t t) { return t == static_cast<int32_t>(Type::byte); });
  const bool prefix = keys.add_space_prefix.value_or(true);
  if (!keys.precompiled_charsmap.empty()) {
    spec.normalizer.push_back({.kind = Normal::precompiled, .content = keys.precompiled_charsmap});
  }
  if (keys.remove_extra_whitespaces.value_or(false)) {
    spec.normalizer.push_back({.kind = Normal::collapse_blanks});
  }
  const std::string mark(kMetaspace);
  if (prefix) spec.normalizer.push_back({.kind = Normal::prepend, .content = " "});
  spec.normalizer.push_back({.kind = Normal::replace, .pattern = " ", .content = mark});
  spec.pretokenizer.clear();
  spec.decoder = {{.kind = Decode::replace, .pattern = mark, .content = " "},
                  {.kind = Decode::byte_fallback},
                  {.kind = Decode::fuse}};
  if (prefix) spec.decoder.push_back({.kind = Decode::strip, .content = " ", .start = 1});
}

}  // namespace

std::vector<PretokenizerStep> steps_of_pre(std::string_view name) {
  for (const Pre& entry : kPres) {
    if (entry.name == name) return steps_of(entry.rule);
  }
  return {};
}

TokenizerSpec spec_from_gguf(const GgufTokenizer& keys) {
  if (keys.model != "gpt2" && keys.model != "llama" && keys.model != "t5") {
    refuse("model", "gpt2, llama or t5", in_quotes(keys.model));
  }
  check_lengths(keys);
  TokenizerSpec spec;
  const StringIndex ids = read_tokens(keys, spec);
  keys.model == "gpt2" ? read_gpt2(keys, ids, spec) : read_sentencepiece(keys, spec);
  spec.bos_id = id_of(keys, "bos_token_id", keys.bos_token_id);
  spec.eos_id = id_of(keys, "eos_token_id", keys.eos_token_id);
  spec.pad_id = id_of(keys, "padding_token_id", keys.padding_token_id);
  for (const auto& [key, id] : {std::pair("eot_token_id", keys.eot_token_id),
                                std::pair("eom_token_id", keys.eom_token_id)}) {
    if (id >= 0) spec.end_ids.push_back(id_of(keys, key, id));
  }
  const bool with_bos = keys.model == "llama" || begins(keys.pre);
  if (keys.add_bos_token.value_or(with_bos) && spec.bos_id >= 0) spec.prefix = {spec.bos_id};
  if (keys.add_eos_token.value_or(keys.model == "t5") && spec.eos_id >= 0) {
    spec.suffix = {spec.eos_id};
  }
  spec.chat_template = keys.chat_template;
  spec.named_templates = keys.named_templates;
  return spec;
}

namespace {

[[noreturn]] void cannot_write(const std::string& what, const std::string& expected) {
  throw Error({.kind = ErrorKind::usage,
               .doing = "writing a GGUF tokenizer",
               .subject = what,
               .expected = expected});
}

std::string pre_of(const TokenizerSpec& spec) {
  for (const Pre& entry : kPres) {
    if (spec.pretokenizer == steps_of(entry.rule) && spec.ignore_merges == entry.begins) {
      return std::string(entry.name);
    }
  }
  cannot_write("pre_tokenizer", "one that GGUF has a name for");
}

// "<0x0A>"
bool is_byte_token(const std::string& token) {
  return token.size() == 6 && token.compare(0, 3, "<0x") == 0;
}

void write_tokens(const TokenizerSpec& spec, GgufTokenizer& keys) {
  keys.tokens = spec.vocabulary;
  for (const AddedToken& token : spec.added) {
    const auto id = static_cast<size_t>(token.id);
    if (id >= keys.tokens.size()) keys.tokens.resize(id + 1);
    keys.tokens[id] = token.content;
  }
  keys.token_types.assign(keys.tokens.size(), static_cast<int32_t>(Type::normal));
  const auto set = [&](int32_t id, Type type) {
    keys.token_types[static_cast<size_t>(id)] = static_cast<int32_t>(type);
  };
  for (const int32_t id : spec.unmatched) {
    const std::string& token = keys.tokens[static_cast<size_t>(id)];
    const Type other = is_byte_token(token) ? Type::byte : Type::unused;
    set(id, token == spec.unknown_token ? Type::unknown : other);
  }
  for (const AddedToken& token : spec.added) {
    set(token.id, token.special ? Type::control : Type::user_defined);
  }
  for (size_t id = 0; id < keys.tokens.size(); ++id) {  // ids that no token has
    if (!keys.tokens[id].empty()) continue;
    keys.tokens[id] = fmt::format("[PAD{}]", id);
    set(static_cast<int32_t>(id), Type::unused);
  }
}

void write_byte_level(const TokenizerSpec& spec, GgufTokenizer& keys) {
  keys.model = "gpt2";
  keys.pre = pre_of(spec);
  for (const NormalizerStep& step : spec.normalizer) {
    if (step.kind != NormalizerStep::Kind::nfc) cannot_write("normalizer", "NFC or none");
  }
  for (const auto& [left, right] : spec.merges) {
    keys.merges.push_back(spec.vocabulary.at(static_cast<size_t>(left)) + " " +
                          spec.vocabulary.at(static_cast<size_t>(right)));
  }
}

void write_sentencepiece(const TokenizerSpec& spec, GgufTokenizer& keys) {
  using Kind = NormalizerStep::Kind;
  keys.model = spec.model == TokenizerModel::unigram ? "t5" : "llama";
  keys.scores.assign(spec.scores.begin(), spec.scores.end());
  keys.scores.resize(keys.tokens.size(), 0);
  keys.add_space_prefix = false;
  keys.remove_extra_whitespaces = false;
  for (const NormalizerStep& step : spec.normalizer) {
    if (step.kind == Kind::precompiled) keys.precompiled_charsmap = step.content;
    if (step.kind == Kind::collapse_blanks) keys.remove_extra_whitespaces = true;
    if (step.kind == Kind::prepend) keys.add_space_prefix = true;
    if (step.kind == Kind::sentencepiece) {
      keys.precompiled_charsmap = step.content;
      keys.add_space_prefix = step.prefix_blank;
      keys.remove_extra_whitespaces = step.collapse;
    }
  }
}

// Finds nothing once blanks are U+2581.
bool splits_at_blanks(const PretokenizerStep& step) {
  return step.kind == PretokenizerStep::Kind::split && !step.pattern_is_regex &&
         step.pattern == " " && !step.invert;
}

// BPE over characters by merges: what SentencePiece makes of scores, as Hugging Face files have it.
void write_merged(const TokenizerSpec& spec, GgufTokenizer& keys) {
  using Kind = NormalizerStep::Kind;
  const std::string mark(kMetaspace);
  const NormalizerStep prefix{.kind = Kind::prepend, .content = mark};
  const NormalizerStep blanks{.kind = Kind::replace, .pattern = " ", .content = mark};
  const bool prefixed = spec.normalizer == std::vector{prefix, blanks};
  if (!prefixed && spec.normalizer != std::vector{blanks})
    cannot_write("normalizer", "blanks that become U+2581, perhaps with one in front");
  if (!std::all_of(spec.pretokenizer.begin(), spec.pretokenizer.end(), splits_at_blanks))
    cannot_write("pre_tokenizer", "none, or a split at blanks");
  if (!spec.byte_fallback || spec.ignore_merges)
    cannot_write("model", "BPE with byte_fallback and without ignore_merges");
  const auto scores = scores_of_merges(spec);
  if (!scores) cannot_write("model.merges", "every way to halve a token into two (SentencePiece)");
  keys.model = "llama";
  keys.scores.assign(scores->begin(), scores->end());
  keys.scores.resize(keys.tokens.size(), 0);
  keys.add_space_prefix = prefixed;
  keys.remove_extra_whitespaces = false;
  for (size_t id = 0; id < spec.vocabulary.size(); ++id) {
    int32_t& type = keys.token_types[id];
    if (is_byte_token(spec.vocabulary[id])) type = static_cast<int32_t>(Type::byte);
    if (type == static_cast<int32_t>(Type::normal) && spec.vocabulary[id] == spec.unknown_token)
      type = static_cast<int32_t>(Type::unknown);
  }
}

}  // namespace

GgufTokenizer gguf_from_spec(const TokenizerSpec& spec) {
  GgufTokenizer keys;
  write_tokens(spec, keys);
  switch (spec.model) {
    case TokenizerModel::byte_level_bpe:
      write_byte_level(spec, keys);
      break;
    case TokenizerModel::scored_bpe:
    case TokenizerModel::unigram:
      write_sentencepiece(spec, keys);
      break;
    case TokenizerModel::bpe:
      write_merged(spec, keys);
      break;
    case TokenizerModel::wordpiece:
      cannot_write("model", "BPE or unigram");
  }
  keys.bos_token_id = spec.bos_id;
  keys.eos_token_id = spec.eos_id;
  keys.padding_token_id = spec.pad_id;
  if (!spec.end_ids.empty()) keys.eot_token_id = spec.end_ids[0];
  if (spec.end_ids.size() > 1) keys.eom_token_id = spec.end_ids[1];
  if (!spec.unknown_token.empty()) {
    const auto found = std::find(keys.tokens.begin(), keys.tokens.end(), spec.unknown_token);
    if (found != keys.tokens.end()) keys.unknown_token_id = found - keys.tokens.begin();
  }
  keys.add_bos_token = !spec.prefix.empty();
  keys.add_eos_token = !spec.suffix.empty();
  keys.chat_template = spec.chat_template;
  keys.named_templates = spec.named_templates;
  return keys;
}

}  // namespace cairn
