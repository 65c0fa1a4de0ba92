#include "cairn/text/tokenizer_json.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/io/gguf.h"
#include "cairn/io/json.h"
#include "cairn/text/gguf_keys.h"
#include "cairn/text/sentencepiece.h"
#include "cairn/text/tokenizer_document.h"

namespace cairn {
namespace {

constexpr uint64_t kLargestFile = uint64_t{1} << 28;

// "<s>" or {"content": "<s>", ...}.
std::string token_text(const JsonField& field) {
  return field.value().is_object() ? field.member("content").as_string() : field.as_string();
}

constexpr const char* kJsonFile = "tokenizer.json";
constexpr std::array kModelFiles = {"spiece.model", "tokenizer.model"};

bool is_model_file(const Path& file) {
  return file.extension() == ".model";
}

// Classes of transformers whose ids are those of their SentencePiece model.
constexpr std::array<std::string_view, 9> kModelClasses = {
    "T5Tokenizer",        "T5TokenizerFast",         "MT5Tokenizer",
    "LlamaTokenizer",     "LlamaTokenizerFast",      "GemmaTokenizer",
    "GemmaTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"};

void check_class(const JsonField& config) {
  const auto field = config.find("tokenizer_class");
  if (!field) return;
  const std::string name = field->as_string();
  if (std::find(kModelClasses.begin(), kModelClasses.end(), name) != kModelClasses.end()) return;
  std::string known;
  for (const std::string_view each : kModelClasses)
    known += (known.empty() ? "" : ", ") + std::string(each);
  field->fail(known, "other classes may give the pieces of a SentencePiece model other ids");
}

void add_token(AddedToken token, TokenizerSpec& spec) {
  for (AddedToken& known : spec.added)
    if (known.id == token.id && known.content == token.content) {
      known.special = token.special;
      return;
    }
  spec.added.push_back(std::move(token));
}

// {"32099": {"content": "<extra_id_0>", "special": true}, ...}
void add_listed_tokens(const JsonField& tokens, TokenizerSpec& spec) {
  const std::vector<std::string> keys = tokens.keys();
  const int64_t limit = id_limit(keys.size() + spec.vocabulary.size());
  for (const std::string& key : keys) {
    const JsonField field = tokens.member(key);
    AddedToken token{.content = field.member("content").as_string()};
    const char* const end = key.data() + key.size();
    const auto [stop, code] = std::from_chars(key.data(), end, token.id);
    if (code != std::errc() || stop != end || token.id < 0 || token.id >= limit)
      field.fail("an id below " + std::to_string(limit) + " as the key");
    const auto flag = [&](const char* name) {
      const auto given = field.find(name);
      return given && given->as_bool();
    };
    token.special = flag("special");
    token.single_word = flag("single_word");
    token.lstrip = flag("lstrip");
    token.rstrip = flag("rstrip");
    if (token.content.empty() || token.content.size() > AddedTokenMatcher::kLongestContent)
      field.member("content").fail("1 to " + std::to_string(AddedTokenMatcher::kLongestContent) +
                                   " bytes");
    add_token(std::move(token), spec);
  }
}

// <extra_id_0> is the last of them: T5's way where no list names them.
void add_sentinels(const JsonField& config, TokenizerSpec& spec) {
  const auto count = config.find("extra_ids");
  const auto name = config.find("tokenizer_class");
  const bool t5 = name && name->as_string().find("T5Tokenizer") != std::string::npos;
  const int64_t sentinels = count ? count->as_integer(0, 10000) : t5 ? 100 : 0;
  const auto first = static_cast<int32_t>(spec.vocabulary.size());
  for (int32_t i = 0; i < sentinels; ++i)
    spec.added.push_back({.id = first + i,
                          .content = "<extra_id_" + std::to_string(sentinels - 1 - i) + ">",
                          .special = true});
}

// What transformers puts around a text and adds to a SentencePiece model.
void complete_sentencepiece(const JsonField& config, TokenizerSpec& spec) {
  check_class(config);
  if (const auto tokens = config.find("added_tokens_decoder"))
    add_listed_tokens(*tokens, spec);
  else
    add_sentinels(config, spec);
}

void surround(const JsonField& config, TokenizerSpec& spec) {
  const auto put = [&](const char* key, int32_t id, std::vector<int32_t>& ids) {
    const auto field = config.find(key);
    const bool wanted = field ? field->as_bool() : !ids.empty();
    ids.clear();
    if (wanted && id >= 0) ids = {id};
  };
  put("add_bos_token", spec.bos_id, spec.prefix);
  put("add_eos_token", spec.eos_id, spec.suffix);
}

}  // namespace

void parse_tokenizer_config(std::string_view text, const std::string& source, TokenizerSpec& spec) {
  const Json json = parse_json(text, source);
  const JsonField config(json, source);
  const bool from_model = is_sentencepiece(spec);
  if (from_model) complete_sentencepiece(config, spec);
  const auto id_of = [&](const char* key, int32_t otherwise) {
    const auto field = config.find(key);
    if (!field) return from_model ? otherwise : -1;
    const std::string token = token_text(*field);
    for (const AddedToken& added : spec.added) {
      if (added.content == token) return added.id;
    }
    const auto found = std::find(spec.vocabulary.begin(), spec.vocabulary.end(), token);
    if (token.empty() || found == spec.vocabulary.end()) field->fail("a token of the tokenizer");
    return static_cast<int32_t>(found - spec.vocabulary.begin());
  };
  spec.bos_id = id_of("bos_token", spec.bos_id);
  spec.eos_id = id_of("eos_token", spec.eos_id);
  spec.pad_id = id_of("pad_token", spec.pad_id);
  if (from_model) surround(config, spec);
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

std::optional<Path> find_tokenizer(const Path& folder) {
  std::error_code ignored;
  if (std::filesystem::is_regular_file(folder / kJsonFile, ignored)) return folder / kJsonFile;
  for (const char* name : kModelFiles)
    if (std::filesystem::is_regular_file(folder / name, ignored)) return folder / name;
  return std::nullopt;
}

std::vector<Path> tokenizer_files(const Path& folder) {
  std::vector<Path> files;
  std::error_code ignored;
  if (const auto file = find_tokenizer(folder)) files.push_back(*file);
  const Path config = folder / "tokenizer_config.json";
  if (std::filesystem::is_regular_file(config, ignored)) files.push_back(config);
  return files;
}

namespace {

// Mapped, not read: a large one is copied once less.
TokenizerSpec parse_file(const Path& path) {
  const MappedFile file(path);
  if (file.size() > kLargestFile)
    throw Error({.kind = ErrorKind::data,
                 .doing = "reading " + path.string(),
                 .expected = "at most " + std::to_string(kLargestFile) + " bytes",
                 .found = std::to_string(file.size())});
  return is_model_file(path) ? parse_sentencepiece(file.text(), path.string())
                             : parse_tokenizer_json(file.text(), path.string());
}

}  // namespace

Tokenizer load_tokenizer(const Path& path) {
  if (is_gguf(path)) return Tokenizer(tokenizer_from_gguf(GgufArchive(path)));
  // Without any, reading the usual one says what is missing.
  const Path file =
      std::filesystem::is_directory(path) ? find_tokenizer(path).value_or(path / kJsonFile) : path;
  TokenizerSpec spec = parse_file(file);
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

void save_tokenizer(const TokenizerSpec& spec, const Path& folder) {
  make_folders(folder);
  if (is_sentencepiece(spec)) {
    const bool unigram = spec.model == TokenizerModel::unigram;
    write_file_atomically(folder / kModelFiles[unigram ? 0 : 1], sentencepiece_model(spec));
  } else {
    write_file_atomically(folder / kJsonFile, tokenizer_json(spec));
  }
  write_file_atomically(folder / "tokenizer_config.json", tokenizer_config(spec));
}

}  // namespace cairn
