#include "cairn/text/tokenizer_json.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/io/json.h"

namespace cairn {
namespace {

using StepKind = PretokenizerStep::Kind;

constexpr uint64_t kLargestFile = uint64_t{1} << 28;
constexpr int64_t kMostIds = 1 << 24;

// ---- reading ----

bool flag(const JsonField& field, std::string_view key, bool otherwise) {
  const auto found = field.find(key);
  return found ? found->as_bool() : otherwise;
}

std::string type_of(const JsonField& field) {
  return field.member("type").as_string();
}

[[noreturn]] void refuse_type(const JsonField& field, const std::string& known) {
  field.member("type").fail(known);
}

// Ids may have gaps, but not so many that a small file asks for a large table.
int64_t id_limit(size_t entries) {
  return std::min<int64_t>(kMostIds, 65536 + 4 * static_cast<int64_t>(entries));
}

void read_vocabulary(const JsonField& model, size_t added, TokenizerSpec& spec) {
  const JsonField vocabulary = model.member("vocab");
  const Json& entries = vocabulary.value();
  if (!entries.is_object()) vocabulary.fail("an object of tokens and their ids");
  const int64_t limit = id_limit(entries.size() + added);
  for (auto entry = entries.begin(); entry != entries.end(); ++entry) {
    const Json& id = entry.value();
    const bool fits = id.is_number_integer() && id >= 0 && id < limit;
    if (!fits) {
      vocabulary.member(entry.key()).fail(fmt::format("an id in [0, {})", limit));
    }
    const auto at = id.get<size_t>();
    if (at >= spec.vocabulary.size()) spec.vocabulary.resize(at + 1);
    if (!spec.vocabulary[at].empty()) {
      vocabulary.member(entry.key())
          .fail("an id of its own", "token \"" + spec.vocabulary[at] + "\" has it too");
    }
    if (entry.key().empty()) vocabulary.fail("tokens that are not empty");
    spec.vocabulary[at] = entry.key();
  }
}

// The two tokens of one entry of `merges`; empty when it has not two.
std::pair<std::string_view, std::string_view> merge_parts(const Json& entry) {
  if (entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_string()) {
    return {entry[0].get_ref<const std::string&>(), entry[1].get_ref<const std::string&>()};
  }
  if (!entry.is_string()) return {};
  const std::string_view text = entry.get_ref<const std::string&>();
  const size_t blank = text.find(' ');
  if (blank == std::string_view::npos || text.find(' ', blank + 1) != std::string_view::npos) {
    return {};
  }
  return {text.substr(0, blank), text.substr(blank + 1)};
}

void read_merges(const JsonField& model, TokenizerSpec& spec) {
  const JsonField merges = model.member("merges");
  const Json& entries = merges.value();
  if (!entries.is_array()) merges.fail("an array of merges");
  StringIds ids;
  for (size_t id = 0; id < spec.vocabulary.size(); ++id) {
    if (!spec.vocabulary[id].empty()) ids.emplace(spec.vocabulary[id], static_cast<int32_t>(id));
  }
  spec.merges.reserve(entries.size());
  for (size_t rank = 0; rank < entries.size(); ++rank) {
    const auto [left, right] = merge_parts(entries[rank]);
    const auto left_id = ids.find(left);
    const auto right_id = ids.find(right);
    if (left_id == ids.end() || right_id == ids.end()) {
      merges.elements()[rank].fail("two tokens of the vocabulary, \"a b\" or [\"a\", \"b\"]");
    }
    spec.merges.emplace_back(left_id->second, right_id->second);
  }
}

void refuse_unless_off(const JsonField& model, std::string_view key) {
  const auto field = model.find(key);
  if (!field) return;
  const Json& value = field->value();
  const bool off = (value.is_string() && value.get_ref<const std::string&>().empty()) ||
                   (value.is_number() && value == 0) || (value.is_boolean() && value == false);
  if (!off) field->fail("null (not supported)");
}

void read_model(const JsonField& model, size_t added, TokenizerSpec& spec) {
  // Files from before 2020 have no type.
  if (model.has("type") && type_of(model) != "BPE") refuse_type(model, "BPE");
  for (const char* key :
       {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"}) {
    refuse_unless_off(model, key);
  }
  spec.ignore_merges = flag(model, "ignore_merges", false);
  if (const auto unknown = model.find("unk_token")) spec.unknown_token = unknown->as_string();
  if (!spec.unknown_token.empty()) refuse_unless_off(model, "fuse_unk");
  read_vocabulary(model, added, spec);
  read_merges(model, spec);
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

PretokenizerStep read_split(const JsonField& field) {
  PretokenizerStep step{.kind = StepKind::split};
  const JsonField pattern = field.member("pattern");
  step.pattern_is_regex = pattern.has("Regex");
  step.pattern = pattern.member(step.pattern_is_regex ? "Regex" : "String").as_string();
  if (step.pattern.empty()) pattern.fail("a pattern that is not empty");
  const JsonField behavior = field.member("behavior");
  const bool invert = flag(field, "invert", false);
  const std::string name = behavior.as_string();
  step.keep_only_matches = name == "Removed" && invert;
  if (name != "Isolated" && !step.keep_only_matches) {
    behavior.fail("Isolated, or Removed with invert (others are not supported)");
  }
  return step;
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
    spec.add_prefix_space = flag(field, "add_prefix_space", true);
    if (spec.add_prefix_space && !spec.pretokenizer.empty()) {
      field.member("add_prefix_space").fail("false after another step");
    }
    if (flag(field, "use_regex", true)) spec.pretokenizer.push_back({});
  } else if (type == "Digits") {
    spec.pretokenizer.push_back(
        {.kind = StepKind::digits, .individual_digits = flag(field, "individual_digits", false)});
  } else if (type == "Split") {
    spec.pretokenizer.push_back(read_split(field));
  } else {
    refuse_type(field, "ByteLevel, Sequence, Digits or Split");
  }
}

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

void read_post_processor(const JsonField& field, TokenizerSpec& spec) {
  const std::string type = type_of(field);
  if (type == "ByteLevel") return;  // moves offsets only
  if (type == "TemplateProcessing") return read_template(field, spec);
  if (type != "Sequence") refuse_type(field, "ByteLevel, TemplateProcessing or Sequence");
  for (const JsonField& part : field.member("processors").elements()) {
    read_post_processor(part, spec);
  }
}

void read_decoder(const JsonField& field) {
  const std::string type = type_of(field);
  if (type == "ByteLevel") return;
  if (type != "Sequence") refuse_type(field, "ByteLevel");
  for (const JsonField& part : field.member("decoders").elements()) read_decoder(part);
}

void read_normalizer(const JsonField& field) {
  if (type_of(field) != "Sequence") refuse_type(field, "null (normalizers are not supported)");
  for (const JsonField& part : field.member("normalizers").elements()) read_normalizer(part);
}

// "<s>" or {"content": "<s>", ...}.
std::string token_text(const JsonField& field) {
  return field.value().is_object() ? field.member("content").as_string() : field.as_string();
}

// ---- writing ----

Json step_json(const PretokenizerStep& step) {
  if (step.kind == StepKind::digits) {
    return {{"type", "Digits"}, {"individual_digits", step.individual_digits}};
  }
  return {{"type", "Split"},
          {"pattern", {{step.pattern_is_regex ? "Regex" : "String", step.pattern}}},
          {"behavior", step.keep_only_matches ? "Removed" : "Isolated"},
          {"invert", step.keep_only_matches}};
}

Json byte_level_json(bool add_prefix_space, bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

Json pretokenizer_json(const TokenizerSpec& spec) {
  Json steps = Json::array();
  bool regex = false;
  for (const PretokenizerStep& step : spec.pretokenizer) {
    if (regex) {
      throw Error({.kind = ErrorKind::usage,
                   .doing = "writing tokenizer.json",
                   .subject = "pre_tokenizer",
                   .expected = "the GPT-2 rule as the last step"});
    }
    regex = step.kind == StepKind::gpt2;
    if (!regex) steps.push_back(step_json(step));
  }
  Json last = byte_level_json(spec.add_prefix_space, regex);
  if (steps.empty()) return last;
  steps.push_back(std::move(last));
  return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

std::string spelling_of(const TokenizerSpec& spec, int32_t id) {
  for (const AddedToken& token : spec.added) {
    if (token.id == id) return token.content;
  }
  return spec.vocabulary.at(static_cast<size_t>(id));
}

Json post_processor_json(const TokenizerSpec& spec) {
  if (spec.prefix.empty() && spec.suffix.empty()) return byte_level_json(true, true);
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

Json model_json(const TokenizerSpec& spec) {
  Json vocabulary = Json::object();
  for (size_t id = 0; id < spec.vocabulary.size(); ++id) {
    if (!spec.vocabulary[id].empty()) vocabulary[spec.vocabulary[id]] = id;
  }
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
  Json unknown;
  if (!spec.unknown_token.empty()) unknown = spec.unknown_token;
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", std::move(unknown)},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", spec.ignore_merges},
          {"vocab", std::move(vocabulary)},
          {"merges", std::move(merges)}};
}

}  // namespace

TokenizerSpec parse_tokenizer_json(std::string_view text, const std::string& source) {
  const Json json = parse_json(text, source);
  const JsonField document(json, source);
  TokenizerSpec spec;
  spec.pretokenizer.clear();
  if (const auto normalizer = document.find("normalizer")) read_normalizer(*normalizer);
  const auto added = document.find("added_tokens");
  read_model(document.member("model"), added ? added->value().size() : 0, spec);
  read_added_tokens(document, spec);
  bool byte_level = false;
  read_pretokenizer(document.member("pre_tokenizer"), spec, byte_level);
  if (!byte_level) document.member("pre_tokenizer").fail("a ByteLevel step");
  if (const auto post = document.find("post_processor")) read_post_processor(*post, spec);
  if (const auto decoder = document.find("decoder")) read_decoder(*decoder);
  return spec;
}

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
    if (named.member("name").as_string() == "default") {
      spec.chat_template = named.member("template").as_string();
    }
  }
}

Tokenizer load_tokenizer(const Path& path) {
  const Path file = std::filesystem::is_directory(path) ? path / "tokenizer.json" : path;
  TokenizerSpec spec = parse_tokenizer_json(read_file(file, kLargestFile), file.string());
  const Path config = file.parent_path() / "tokenizer_config.json";
  if (std::filesystem::exists(config)) {
    parse_tokenizer_config(read_file(config, kLargestFile), config.string(), spec);
  }
  const Path chat = file.parent_path() / "chat_template.jinja";
  if (std::filesystem::exists(chat)) spec.chat_template = read_file(chat, kLargestFile);
  return Tokenizer(std::move(spec));
}

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
                     {"normalizer", nullptr},
                     {"pre_tokenizer", pretokenizer_json(spec)},
                     {"post_processor", post_processor_json(spec)},
                     {"decoder", byte_level_json(true, true)},
                     {"model", model_json(spec)}});
}

std::string tokenizer_config(const TokenizerSpec& spec) {
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false},
                 {"added_tokens_decoder", Json::object()}};
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
  return write_json(config);
}

void save_tokenizer(const TokenizerSpec& spec, const Path& folder) {
  make_folders(folder);
  write_file_atomically(folder / "tokenizer.json", tokenizer_json(spec));
  write_file_atomically(folder / "tokenizer_config.json", tokenizer_config(spec));
}

}  // namespace cairn
