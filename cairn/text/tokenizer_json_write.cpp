#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/io/base64.h"
#include "cairn/io/json.h"
#include "cairn/text/sentencepiece.h"
#include "cairn/text/tokenizer_json.h"

namespace cairn {
namespace {

using StepKind = PretokenizerStep::Kind;
using Prepend = PretokenizerStep::Prepend;

[[noreturn]] void cannot_write(const char* what, const char* expected) {
  throw Error({.kind = ErrorKind::usage,
               .doing = "writing tokenizer.json",
               .subject = what,
               .expected = expected});
}

// One part alone, several as a Sequence, none as null.
Json sequence(Json parts, const char* member) {
  if (parts.empty()) return nullptr;
  if (parts.size() == 1) return std::move(parts[0]);
  return {{"type", "Sequence"}, {member, std::move(parts)}};
}

Json pattern_json(const std::string& pattern, bool is_regex) {
  return {{is_regex ? "Regex" : "String", pattern}};
}

// ---- normalizer ----

Json replace_json(const std::string& pattern, bool is_regex, const std::string& content) {
  return {{"type", "Replace"}, {"pattern", pattern_json(pattern, is_regex)}, {"content", content}};
}

Json bert_json(bool clean, bool chinese) {
  return {{"type", "BertNormalizer"},
          {"clean_text", clean},
          {"handle_chinese_chars", chinese},
          {"strip_accents", false},
          {"lowercase", false}};
}

void append_normalizer(const NormalizerStep& step, Json& parts) {
  using Kind = NormalizerStep::Kind;
  const auto plain = [&](const char* type) { parts.push_back({{"type", type}}); };
  switch (step.kind) {
    case Kind::nfc:
      return plain("NFC");
    case Kind::nfd:
      return plain("NFD");
    case Kind::nfkc:
      return plain("NFKC");
    case Kind::nfkd:
      return plain("NFKD");
    case Kind::lowercase:
      return plain("Lowercase");
    case Kind::strip_accents:
      return plain("StripAccents");
    case Kind::strip:
      return parts.push_back(
          {{"type", "Strip"}, {"strip_left", step.left}, {"strip_right", step.right}});
    case Kind::prepend:
      return parts.push_back({{"type", "Prepend"}, {"prepend", step.content}});
    case Kind::replace:
      return parts.push_back(replace_json(step.pattern, step.pattern_is_regex, step.content));
    case Kind::precompiled:
      return parts.push_back(
          {{"type", "Precompiled"}, {"precompiled_charsmap", to_base64(step.content)}});
    case Kind::collapse_blanks:  // has no name there; two rules do the same
      parts.push_back(replace_json(R"(\A +| +\z)", true, ""));
      return parts.push_back(replace_json(" {2,}", true, " "));
    case Kind::clean_text:
      return parts.push_back(bert_json(true, false));
    case Kind::isolate_chinese:
      return parts.push_back(bert_json(false, true));
    case Kind::sentencepiece:
      cannot_write("normalizer", "one of tokenizer.json (SentencePiece's knows the text's ends)");
  }
}

Json normalizer_json(const TokenizerSpec& spec) {
  Json parts = Json::array();
  for (const NormalizerStep& step : spec.normalizer) append_normalizer(step, parts);
  return sequence(std::move(parts), "normalizers");
}

// ---- pre-tokenizer ----

const char* behavior_name(PretokenizerStep::Behavior behavior) {
  switch (behavior) {
    case PretokenizerStep::Behavior::isolated:
      return "Isolated";
    case PretokenizerStep::Behavior::removed:
      return "Removed";
    case PretokenizerStep::Behavior::merged_with_previous:
      return "MergedWithPrevious";
    case PretokenizerStep::Behavior::merged_with_next:
      return "MergedWithNext";
    case PretokenizerStep::Behavior::contiguous:
      break;
  }
  return "Contiguous";
}

Json metaspace_json(const std::string& mark, Prepend prepend, bool splits) {
  const char* const scheme = prepend == Prepend::always  ? "always"
                             : prepend == Prepend::first ? "first"
                                                         : "never";
  return {
      {"type", "Metaspace"}, {"replacement", mark}, {"prepend_scheme", scheme}, {"split", splits}};
}

Json step_json(const PretokenizerStep& step) {
  switch (step.kind) {
    case StepKind::digits:
      return {{"type", "Digits"}, {"individual_digits", step.individual_digits}};
    case StepKind::split:
      return {{"type", "Split"},
              {"pattern", pattern_json(step.pattern, step.pattern_is_regex)},
              {"behavior", behavior_name(step.behavior)},
              {"invert", step.invert}};
    case StepKind::metaspace:
      return metaspace_json(step.pattern, step.prepend, step.metaspace_splits);
    case StepKind::whitespace_split:
      return {{"type", "WhitespaceSplit"}};
    case StepKind::punctuation:
      return {{"type", "Punctuation"}, {"behavior", behavior_name(step.behavior)}};
    case StepKind::gpt2:
    case StepKind::prefix_blank:
      break;
  }
  cannot_write("pre_tokenizer", "the GPT-2 rule and the prefix blank as the last steps");
}

Json byte_level_json(bool add_prefix_space, bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

Json pretokenizer_json(const TokenizerSpec& spec) {
  size_t count = spec.pretokenizer.size();
  Json parts = Json::array();
  Json last;
  if (spec.model == TokenizerModel::byte_level_bpe) {
    const auto ends_with = [&](StepKind kind) {
      const bool found = count > 0 && spec.pretokenizer[count - 1].kind == kind;
      count -= found ? 1 : 0;
      return found;
    };
    const bool regex = ends_with(StepKind::gpt2);
    last = byte_level_json(ends_with(StepKind::prefix_blank), regex);
  }
  for (size_t i = 0; i < count; ++i) parts.push_back(step_json(spec.pretokenizer[i]));
  if (!last.is_null()) parts.push_back(std::move(last));
  return sequence(std::move(parts), "pretokenizers");
}

// ---- decoder ----

Json decoder_step_json(const DecoderStep& step) {
  using Kind = DecoderStep::Kind;
  switch (step.kind) {
    case Kind::byte_level:
      return byte_level_json(true, true);
    case Kind::byte_fallback:
      return {{"type", "ByteFallback"}};
    case Kind::fuse:
      return {{"type", "Fuse"}};
    case Kind::replace:
      return replace_json(step.pattern, false, step.content);
    case Kind::strip:
      return {
          {"type", "Strip"}, {"content", step.content}, {"start", step.start}, {"stop", step.stop}};
    case Kind::metaspace:
      return metaspace_json(step.pattern, step.prepend, step.metaspace_splits);
    case Kind::wordpiece:
      break;
  }
  return {{"type", "WordPiece"}, {"prefix", step.pattern}, {"cleanup", step.cleanup}};
}

Json decoder_json(const TokenizerSpec& spec) {
  Json parts = Json::array();
  for (const DecoderStep& step : spec.decoder) parts.push_back(decoder_step_json(step));
  if (parts.empty()) return {{"type", "Fuse"}};  // null would put blanks between tokens
  return sequence(std::move(parts), "decoders");
}

// ---- post-processor ----

std::string spelling_of(const TokenizerSpec& spec, int32_t id) {
  for (const AddedToken& token : spec.added) {
    if (token.id == id) return token.content;
  }
  return spec.vocabulary.at(static_cast<size_t>(id));
}

Json post_processor_json(const TokenizerSpec& spec) {
  if (spec.prefix.empty() && spec.suffix.empty()) {
    return spec.model == TokenizerModel::byte_level_bpe ? byte_level_json(true, true) : Json();
  }
  Json single = Json::array();
  Json pair = Json::array();
  Json known = Json::object();
  const auto add_token = [&](int32_t id, int part) {
    const std::string name = spelling_of(spec, id);
    known[name] = {{"id", name}, {"ids", {id}}, {"tokens", {name}}};
    const Json piece = {{"SpecialToken", {{"id", name}, {"type_id", part}}}};
    if (part == 0) single.push_back(piece);
    pair.push_back(piece);
  };
  const auto add_sequence = [&](const char* name, int part) {
    for (const int32_t id : spec.prefix) add_token(id, part);
    const Json piece = {{"Sequence", {{"id", name}, {"type_id", part}}}};
    if (part == 0) single.push_back(piece);
    pair.push_back(piece);
    for (const int32_t id : spec.suffix) add_token(id, part);
  };
  add_sequence("A", 0);
  add_sequence("B", 1);
  return {{"type", "TemplateProcessing"},
          {"single", std::move(single)},
          {"pair", std::move(pair)},
          {"special_tokens", std::move(known)}};
}

Json added_token_json(const AddedToken& token) {
  return {{"content", token.content}, {"single_word", token.single_word},
          {"lstrip", token.lstrip},   {"rstrip", token.rstrip},
          {"special", token.special}, {"normalized", token.normalized}};
}

// ---- model ----

Json vocabulary_json(const TokenizerSpec& spec) {
  Json vocabulary = Json::object();
  for (size_t id = 0; id < spec.vocabulary.size(); ++id) {
    if (!spec.vocabulary[id].empty()) vocabulary[spec.vocabulary[id]] = id;
  }
  return vocabulary;
}

Json merges_json(const TokenizerSpec& spec) {
  Json merges = Json::array();
  for (const auto& [left, right] : spec.merges) {
    const std::string& a = spec.vocabulary.at(static_cast<size_t>(left));
    const std::string& b = spec.vocabulary.at(static_cast<size_t>(right));
    if (a.find(' ') != std::string::npos || b.find(' ') != std::string::npos) {
      merges.push_back(Json::array({a, b}));
    } else {
      merges.push_back(fmt::format("{} {}", a, b));
    }
  }
  return merges;
}

Json unigram_json(const TokenizerSpec& spec) {
  Json vocabulary = Json::array();
  Json unknown;
  for (size_t id = 0; id < spec.vocabulary.size(); ++id) {
    vocabulary.push_back(Json::array({spec.vocabulary[id], spec.scores.at(id)}));
    if (!spec.unknown_token.empty() && spec.vocabulary[id] == spec.unknown_token) unknown = id;
  }
  return {{"type", "Unigram"},
          {"unk_id", std::move(unknown)},
          {"vocab", std::move(vocabulary)},
          {"byte_fallback", spec.byte_fallback}};
}

Json model_json(const TokenizerSpec& spec) {
  if (spec.model == TokenizerModel::unigram) return unigram_json(spec);
  if (spec.model == TokenizerModel::wordpiece) {
    return {{"type", "WordPiece"},
            {"unk_token", spec.unknown_token},
            {"continuing_subword_prefix", spec.continuing_prefix},
            {"max_input_chars_per_word", spec.longest_word},
            {"vocab", vocabulary_json(spec)}};
  }
  if (spec.model == TokenizerModel::scored_bpe) {
    cannot_write("model", "merges by rank (a model of scores has no equal there)");
  }
  Json unknown;
  if (!spec.unknown_token.empty()) unknown = spec.unknown_token;
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", std::move(unknown)},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", spec.fuse_unknown},
          {"byte_fallback", spec.byte_fallback},
          {"ignore_merges", spec.ignore_merges},
          {"vocab", vocabulary_json(spec)},
          {"merges", merges_json(spec)}};
}

}  // namespace

std::string tokenizer_json(const TokenizerSpec& spec) {
  Json added = Json::array();
  for (const AddedToken& token : spec.added) {
    added.push_back(added_token_json(token));
    added.back()["id"] = token.id;
  }
  return write_json({{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", std::move(added)},
                     {"normalizer", normalizer_json(spec)},
                     {"pre_tokenizer", pretokenizer_json(spec)},
                     {"post_processor", post_processor_json(spec)},
                     {"decoder", decoder_json(spec)},
                     {"model", model_json(spec)}});
}

std::string tokenizer_config(const TokenizerSpec& spec) {
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false},
                 {"added_tokens_decoder", Json::object()}};
  if (is_sentencepiece(spec)) {
    const bool unigram = spec.model == TokenizerModel::unigram;
    config["tokenizer_class"] = unigram ? "T5Tokenizer" : "LlamaTokenizer";
    config["add_bos_token"] = !spec.prefix.empty();
    config["add_eos_token"] = !spec.suffix.empty();
    config["legacy"] = false;              // blanks after added tokens as in the model's library
    if (unigram) config["extra_ids"] = 0;  // all are listed
  }
  const auto name = [&](const char* key, int32_t id) {
    if (id >= 0) config[key] = spelling_of(spec, id);
  };
  name("bos_token", spec.bos_id);
  name("eos_token", spec.eos_id);
  name("pad_token", spec.pad_id);
  if (!spec.unknown_token.empty()) config["unk_token"] = spec.unknown_token;
  for (const AddedToken& token : spec.added) {
    config["added_tokens_decoder"][std::to_string(token.id)] = added_token_json(token);
  }
  if (spec.model_max_length > 0) config["model_max_length"] = spec.model_max_length;
  if (!spec.chat_template.empty()) config["chat_template"] = spec.chat_template;
  if (!spec.named_templates.empty()) {
    Json list = Json::array();
    const auto add = [&](const std::string& called, const std::string& source) {
      list.push_back({{"name", called}, {"template", source}});
    };
    if (!spec.chat_template.empty()) add("default", spec.chat_template);
    for (const auto& [called, source] : spec.named_templates) add(called, source);
    config["chat_template"] = std::move(list);
  }
  return write_json(config);
}

}  // namespace cairn
