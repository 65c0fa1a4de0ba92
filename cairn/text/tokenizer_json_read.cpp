#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/io/base64.h"
#include "cairn/io/json.h"
#include "cairn/text/tokenizer_document.h"
#include "cairn/text/tokenizer_json.h"

namespace cairn {
namespace {

using StepKind = PretokenizerStep::Kind;
using Behavior = PretokenizerStep::Behavior;
using Prepend = PretokenizerStep::Prepend;

constexpr int64_t kMostIds = 1 << 24;
constexpr size_t kLongestMark = 64;   // of a metaspace, in bytes
constexpr int64_t kMostStrips = 256;  // of a decoder

// Words as the `regex` crate finds them, whose \w is the property Alphabetic, marks, decimal
// digits, connectors and joiners (UTS 18).
constexpr std::string_view kWords =
    R"([\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{24B6}-\x{24E9}\x{1F130}-\x{1F149}\x{1F150}-\x{1F169}\x{1F170}-\x{1F189}\x{200C}\x{200D}]+|[^\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{24B6}-\x{24E9}\x{1F130}-\x{1F149}\x{1F150}-\x{1F169}\x{1F170}-\x{1F189}\x{200C}\x{200D}\s]+)";

bool flag(const JsonField& field, std::string_view key, bool otherwise) {
  const auto found = field.find(key);
  return found ? found->as_bool() : otherwise;
}

std::string text_or(const JsonField& field, std::string_view key, std::string_view otherwise) {
  const auto found = field.find(key);
  return found ? found->as_string() : std::string(otherwise);
}

std::string type_of(const JsonField& field) {
  return field.member("type").as_string();
}

[[noreturn]] void refuse_type(const JsonField& field, const std::string& known) {
  field.member("type").fail(known);
}

// {"String": ...} or {"Regex": ...}.
std::string read_pattern(const JsonField& field, bool& is_regex) {
  const JsonField pattern = field.member("pattern");
  is_regex = pattern.has("Regex");
  std::string text = pattern.member(is_regex ? "Regex" : "String").as_string();
  if (text.empty()) pattern.fail("a pattern that is not empty");
  return text;
}

// ---- model ----

void refuse_unless_off(const JsonField& model, std::string_view key) {
  const auto field = model.find(key);
  if (!field) return;
  const Json& value = field->value();
  const bool off = (value.is_string() && value.get_ref<const std::string&>().empty()) ||
                   (value.is_number() && value == 0) || (value.is_boolean() && value == false);
  if (!off) field->fail("null (not supported)");
}

void read_bpe(const JsonField& model, bool byte_level, TokenizerSpec& spec) {
  spec.model = byte_level ? TokenizerModel::byte_level_bpe : TokenizerModel::bpe;
  if (!spec.scores.empty()) model.fail("an object of tokens and their ids as vocab");
  model.member("merges");
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    refuse_unless_off(model, key);
  }
  if (byte_level) refuse_unless_off(model, "byte_fallback");
  spec.ignore_merges = flag(model, "ignore_merges", false);
  spec.byte_fallback = flag(model, "byte_fallback", false);
  if (const auto unknown = model.find("unk_token")) spec.unknown_token = unknown->as_string();
  if (spec.unknown_token.empty()) return;
  if (byte_level) refuse_unless_off(model, "fuse_unk");
  spec.fuse_unknown = flag(model, "fuse_unk", false);
}

void read_unigram(const JsonField& model, TokenizerSpec& spec) {
  spec.model = TokenizerModel::unigram;
  spec.fuse_unknown = true;
  spec.byte_fallback = flag(model, "byte_fallback", false);
  if (spec.scores.size() != spec.vocabulary.size() || spec.scores.empty()) {
    model.fail("an array of [token, score] as vocab");
  }
  if (const auto unknown = model.find("unk_id")) {
    const auto last = static_cast<int64_t>(spec.vocabulary.size()) - 1;
    spec.unknown_token = spec.vocabulary[static_cast<size_t>(unknown->as_integer(0, last))];
  }
}

void read_wordpiece(const JsonField& model, TokenizerSpec& spec) {
  spec.model = TokenizerModel::wordpiece;
  if (!spec.scores.empty()) model.fail("an object of tokens and their ids as vocab");
  spec.unknown_token = text_or(model, "unk_token", "[UNK]");
  spec.continuing_prefix = text_or(model, "continuing_subword_prefix", "##");
  if (const auto longest = model.find("max_input_chars_per_word")) {
    spec.longest_word = longest->as_integer(0, kMostIds);
  }
}

void read_model(const JsonField& model, bool byte_level, TokenizerSpec& spec) {
  model.member("vocab");
  // Files from before 2020 have no type.
  const std::string type = model.has("type") ? type_of(model) : "BPE";
  if (type == "BPE") return read_bpe(model, byte_level, spec);
  if (byte_level) refuse_type(model, "BPE with a ByteLevel pre-tokenizer");
  if (type == "Unigram") return read_unigram(model, spec);
  if (type == "WordPiece") return read_wordpiece(model, spec);
  refuse_type(model, "BPE, Unigram or WordPiece");
}

void read_added_tokens(const JsonField& document, TokenizerSpec& spec) {
  const auto tokens = document.find("added_tokens");
  if (!tokens) return;
  const auto elements = tokens->elements();
  const int64_t limit = id_limit(elements.size() + spec.vocabulary.size());
  for (const JsonField& field : elements) {
    AddedToken token;
    token.id = static_cast<int32_t>(field.member("id").as_integer(0, limit - 1));
    token.content = field.member("content").as_string();
    token.special = flag(field, "special", false);
    token.single_word = flag(field, "single_word", false);
    token.lstrip = flag(field, "lstrip", false);
    token.rstrip = flag(field, "rstrip", false);
    token.normalized = flag(field, "normalized", !token.special);
    if (token.content.empty() || token.content.size() > AddedTokenMatcher::kLongestContent) {
      field.member("content").fail(
          fmt::format("1 to {} bytes", AddedTokenMatcher::kLongestContent));
    }
    spec.added.push_back(std::move(token));
  }
}

// ---- normalizer ----

void read_bert_normalizer(const JsonField& field, TokenizerSpec& spec) {
  const auto add = [&](NormalizerStep::Kind kind) { spec.normalizer.push_back({.kind = kind}); };
  const bool lowercase = flag(field, "lowercase", true);
  if (flag(field, "clean_text", true)) add(NormalizerStep::Kind::clean_text);
  if (flag(field, "handle_chinese_chars", true)) add(NormalizerStep::Kind::isolate_chinese);
  if (flag(field, "strip_accents", lowercase)) {
    add(NormalizerStep::Kind::nfd);
    add(NormalizerStep::Kind::strip_accents);
  }
  if (lowercase) add(NormalizerStep::Kind::lowercase);
}

void read_normalizer(const JsonField& field, TokenizerSpec& spec) {
  using Kind = NormalizerStep::Kind;
  constexpr std::pair<const char*, Kind> kPlain[] = {{"NFC", Kind::nfc},
                                                     {"NFD", Kind::nfd},
                                                     {"NFKC", Kind::nfkc},
                                                     {"NFKD", Kind::nfkd},
                                                     {"Lowercase", Kind::lowercase},
                                                     {"StripAccents", Kind::strip_accents}};
  const std::string type = type_of(field);
  NormalizerStep step;
  for (const auto& [name, kind] : kPlain) {
    if (type == name) return spec.normalizer.push_back({.kind = kind});
  }
  if (type == "Sequence") {
    for (const JsonField& part : field.member("normalizers").elements()) {
      read_normalizer(part, spec);
    }
    return;
  }
  if (type == "BertNormalizer") return read_bert_normalizer(field, spec);
  if (type == "Strip") {
    step.kind = Kind::strip;
    step.left = flag(field, "strip_left", true);
    step.right = flag(field, "strip_right", true);
  } else if (type == "Prepend") {
    step.kind = Kind::prepend;
    step.content = field.member("prepend").as_string();
  } else if (type == "Replace") {
    step.kind = Kind::replace;
    step.pattern = read_pattern(field, step.pattern_is_regex);
    step.content = field.member("content").as_string();
  } else if (type == "Precompiled") {
    const JsonField map = field.member("precompiled_charsmap");
    auto bytes = from_base64(map.as_string());
    if (!bytes) map.fail("base64");
    step = {.kind = Kind::precompiled, .content = std::move(*bytes), .by_grapheme = true};
  } else {
    refuse_type(field,
                "Sequence, NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip, Prepend, Replace, "
                "Precompiled or BertNormalizer");
  }
  spec.normalizer.push_back(std::move(step));
}

// ---- pre-tokenizer ----

Behavior read_behavior(const JsonField& field) {
  const JsonField behavior = field.member("behavior");
  const std::string name = behavior.as_string();
  if (name == "Isolated") return Behavior::isolated;
  if (name == "Removed") return Behavior::removed;
  if (name == "MergedWithPrevious") return Behavior::merged_with_previous;
  if (name == "MergedWithNext") return Behavior::merged_with_next;
  if (name == "Contiguous") return Behavior::contiguous;
  behavior.fail("Isolated, Removed, MergedWithPrevious, MergedWithNext or Contiguous");
}

std::string read_mark(const JsonField& field) {
  const JsonField mark = field.member("replacement");
  std::string text = mark.as_string();
  if (text.empty() || text.size() > kLongestMark) {
    mark.fail(fmt::format("1 to {} bytes", kLongestMark));
  }
  return text;
}

Prepend read_prepend(const JsonField& field) {
  const auto scheme = field.find("prepend_scheme");
  if (!scheme) return flag(field, "add_prefix_space", true) ? Prepend::always : Prepend::never;
  const std::string name = scheme->as_string();
  if (name == "always") return Prepend::always;
  if (name == "first") return Prepend::first;
  if (name == "never") return Prepend::never;
  scheme->fail("always, first or never");
}

void read_byte_level(const JsonField& field, TokenizerSpec& spec) {
  if (flag(field, "add_prefix_space", true)) {
    spec.pretokenizer.push_back({.kind = StepKind::prefix_blank});
  }
  if (flag(field, "use_regex", true)) spec.pretokenizer.push_back({});
}

PretokenizerStep read_step(const JsonField& field, const std::string& type) {
  if (type == "Digits") {
    return {.kind = StepKind::digits, .individual_digits = flag(field, "individual_digits", false)};
  }
  if (type == "Split") {
    PretokenizerStep step{.kind = StepKind::split};
    step.pattern = read_pattern(field, step.pattern_is_regex);
    step.behavior = read_behavior(field);
    step.invert = flag(field, "invert", false);
    return step;
  }
  if (type == "Metaspace") {
    return {.kind = StepKind::metaspace,
            .pattern = read_mark(field),
            .prepend = read_prepend(field),
            .metaspace_splits = flag(field, "split", true)};
  }
  if (type == "Whitespace") {
    return {.kind = StepKind::split,
            .pattern = std::string(kWords),
            .behavior = Behavior::removed,
            .invert = true};
  }
  if (type == "WhitespaceSplit") return {.kind = StepKind::whitespace_split};
  if (type == "Punctuation") {
    return {.kind = StepKind::punctuation,
            .behavior = field.has("behavior") ? read_behavior(field) : Behavior::isolated};
  }
  refuse_type(field,
              "ByteLevel, Sequence, Digits, Split, Metaspace, Whitespace, WhitespaceSplit, "
              "Punctuation or BertPreTokenizer");
}

// Appends the steps of one pre-tokenizer; sets `byte_level` at the ByteLevel step, which is last.
void read_pretokenizer(const JsonField& field, TokenizerSpec& spec, bool& byte_level) {
  const std::string type = type_of(field);
  if (type == "Sequence") {
    for (const JsonField& part : field.member("pretokenizers").elements()) {
      read_pretokenizer(part, spec, byte_level);
    }
    return;
  }
  if (byte_level) field.fail("nothing after the ByteLevel step");
  if (type == "ByteLevel") {
    byte_level = true;
    return read_byte_level(field, spec);
  }
  if (type == "BertPreTokenizer") {
    spec.pretokenizer.push_back({.kind = StepKind::whitespace_split});
    return spec.pretokenizer.push_back({.kind = StepKind::punctuation});
  }
  spec.pretokenizer.push_back(read_step(field, type));
}

// ---- post-processor ----

void read_template(const JsonField& field, TokenizerSpec& spec) {
  const JsonField known = field.member("special_tokens");
  bool text_seen = false;
  for (const JsonField& piece : field.member("single").elements()) {
    if (piece.has("Sequence")) {
      if (text_seen) piece.fail("the text once");
      text_seen = true;
      continue;
    }
    const std::string name = piece.member("SpecialToken").member("id").as_string();
    for (const JsonField& id : known.member(name).member("ids").elements()) {
      const auto value = static_cast<int32_t>(id.as_integer(0, kMostIds));
      (text_seen ? spec.suffix : spec.prefix).push_back(value);
    }
  }
  if (!text_seen) field.member("single").fail("a template that holds the text");
}

// ["[SEP]", 102]
int32_t read_named_id(const JsonField& field) {
  const auto parts = field.elements();
  if (parts.size() != 2) field.fail("a token and its id");
  return static_cast<int32_t>(parts[1].as_integer(0, kMostIds));
}

void read_post_processor(const JsonField& field, TokenizerSpec& spec) {
  const std::string type = type_of(field);
  if (type == "ByteLevel") return;  // moves offsets only
  if (type == "TemplateProcessing") return read_template(field, spec);
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    spec.prefix.push_back(read_named_id(field.member("cls")));
    return spec.suffix.push_back(read_named_id(field.member("sep")));
  }
  if (type != "Sequence") {
    refuse_type(field,
                "ByteLevel, TemplateProcessing, BertProcessing, RobertaProcessing or Sequence");
  }
  for (const JsonField& part : field.member("processors").elements()) {
    read_post_processor(part, spec);
  }
}

// ---- decoder ----

DecoderStep read_decoder_step(const JsonField& field, const std::string& type) {
  using Kind = DecoderStep::Kind;
  if (type == "ByteLevel") return {.kind = Kind::byte_level};
  if (type == "ByteFallback") return {.kind = Kind::byte_fallback};
  if (type == "Fuse") return {.kind = Kind::fuse};
  if (type == "Replace") {
    bool is_regex = false;
    std::string pattern = read_pattern(field, is_regex);
    if (is_regex) field.member("pattern").fail("a String");
    return {.kind = Kind::replace,
            .pattern = std::move(pattern),
            .content = field.member("content").as_string()};
  }
  if (type == "Strip") {
    std::string content = field.member("content").as_string();
    if (content.empty()) field.member("content").fail("one character");
    return {.kind = Kind::strip,
            .content = std::move(content),
            .start = static_cast<int32_t>(field.member("start").as_integer(0, kMostStrips)),
            .stop = static_cast<int32_t>(field.member("stop").as_integer(0, kMostStrips))};
  }
  if (type == "Metaspace") {
    return {.kind = Kind::metaspace,
            .pattern = read_mark(field),
            .prepend = read_prepend(field),
            .metaspace_splits = flag(field, "split", true)};
  }
  if (type == "WordPiece") {
    return {.kind = Kind::wordpiece,
            .pattern = text_or(field, "prefix", "##"),
            .cleanup = flag(field, "cleanup", true)};
  }
  refuse_type(field,
              "ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace, WordPiece or Sequence");
}

void read_decoder(const JsonField& field, TokenizerSpec& spec) {
  const std::string type = type_of(field);
  if (type != "Sequence") return spec.decoder.push_back(read_decoder_step(field, type));
  for (const JsonField& part : field.member("decoders").elements()) read_decoder(part, spec);
}

}  // namespace

TokenizerSpec parse_tokenizer_json(std::string_view text, const std::string& source) {
  TokenizerSpec spec;
  spec.pretokenizer.clear();
  spec.decoder.clear();
  const Json json = read_tokenizer_document(text, source, spec);
  const JsonField document(json, source);
  bool byte_level = false;
  if (const auto steps = document.find("pre_tokenizer")) {
    read_pretokenizer(*steps, spec, byte_level);
  }
  read_model(document.member("model"), byte_level, spec);
  if (const auto normalizer = document.find("normalizer")) read_normalizer(*normalizer, spec);
  read_added_tokens(document, spec);
  if (const auto post = document.find("post_processor")) read_post_processor(*post, spec);
  if (const auto decoder = document.find("decoder")) {
    read_decoder(*decoder, spec);
  } else if (byte_level) {
    spec.decoder.push_back({});
  } else {  // the HF library then joins tokens by blanks
    spec.decoder.push_back({.kind = DecoderStep::Kind::wordpiece, .cleanup = false});
  }
  return spec;
}

}  // namespace cairn
