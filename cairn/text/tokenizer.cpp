#include "cairn/text/tokenizer.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <variant>

#include "cairn/base/error.h"
#include "cairn/text/bpe_model.h"
#include "cairn/text/decoder.h"
#include "cairn/text/normalizer.h"
#include "cairn/text/pretokenizer.h"
#include "cairn/text/sentencepiece.h"
#include "cairn/text/vocabulary.h"
#include "cairn/text/wordpiece_model.h"

namespace cairn {
namespace {

// Room for any tokenizer there is; a bound on what a hostile file can make us allocate.
constexpr int32_t kMostIds = 1 << 24;
// Shorter texts are encoded faster than the cache's memory is cleared.
constexpr size_t kCacheFromBytes = 8192;
// Special tokens that end what a model says, whatever its files call end of text.
constexpr std::array<std::string_view, 12> kEndings = {
    "<|eot_id|>",    "<|im_end|>", "<|end|>",  "<end_of_turn>",
    "<|endoftext|>", "<|eom_id|>", "</s>",     "<|end_of_text|>",
    "<EOT>",         "<|return|>", "<|call|>", "<end_of_utterance>"};

Error bad_tokenizer(std::string subject, std::string expected, std::string found) {
  return Error({.kind = ErrorKind::data,
                .doing = "building a tokenizer",
                .subject = std::move(subject),
                .expected = std::move(expected),
                .found = std::move(found)});
}

bool ends_inside_character(std::string_view bytes, size_t* start) {
  // A character that may still become whole starts at one of the last three bytes.
  for (size_t back = 1; back <= 3 && back <= bytes.size(); ++back) {
    const auto byte = static_cast<unsigned char>(bytes[bytes.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;
    const size_t needs = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC2 ? 2 : 1;
    if (byte > 0xF4 || needs <= back) return false;
    // The bytes so far must be the start of some well-formed character: the second byte decides.
    if (back >= 2) {
      const auto second = static_cast<unsigned char>(bytes[bytes.size() - back + 1]);
      if ((byte == 0xE0 && second < 0xA0) || (byte == 0xED && second > 0x9F) ||
          (byte == 0xF0 && second < 0x90) || (byte == 0xF4 && second > 0x8F)) {
        return false;
      }
    }
    *start = bytes.size() - back;
    return true;
  }
  return false;
}

using Model = std::variant<BpeModel, UnigramModel, WordPieceModel>;

Model model_of(const TokenizerSpec& spec, const Vocabulary& vocabulary) {
  if (spec.model == TokenizerModel::unigram) return UnigramModel(spec, vocabulary);
  if (spec.model == TokenizerModel::wordpiece) return WordPieceModel(spec, vocabulary);
  return BpeModel(spec, vocabulary);
}

}  // namespace

// Everything behind a tokenizer; members refer to those above them.
struct Tokenizer::Parts {
  explicit Parts(TokenizerSpec given);

  void index_added();
  void check_special_ids() const;
  void find_endings();

  TokenizerSpec spec;
  Vocabulary vocabulary;
  Model model;
  bool byte_level;
  bool sentencepiece;
  MetaspaceCuts cuts;
  Normalizer normalizer;
  Pretokenizer pretokenizer;
  TokenDecoder decoder;
  std::vector<std::string> bytes;      // by id
  std::vector<bool> special;           // by id
  std::vector<bool> ending;            // by id
  StringIndex added_ids;               // by content
  AddedTokenMatcher raw_added;         // looked for first
  AddedTokenMatcher normalized_added;  // looked for in what is left, after the normalizer
  uint64_t fingerprint;
};

Tokenizer::Parts::Parts(TokenizerSpec given)
    : spec(std::move(given)),
      vocabulary(spec),
      model(model_of(spec, vocabulary)),
      byte_level(spec.model == TokenizerModel::byte_level_bpe),
      sentencepiece(is_sentencepiece(spec)),
      cuts(vocabulary),
      normalizer(spec.normalizer),
      pretokenizer(spec.pretokenizer),
      decoder(spec.decoder),
      bytes(spec.vocabulary.size()),
      fingerprint(fingerprint_of(spec)) {
  for (size_t id = 0; id < spec.vocabulary.size(); ++id) {
    if (!spec.vocabulary[id].empty()) bytes[id] = decoder.bytes(spec.vocabulary[id], false);
  }
  index_added();
  check_special_ids();
  find_endings();
}

void Tokenizer::Parts::index_added() {
  std::vector<AddedToken> raw;
  std::vector<AddedToken> normalized;
  std::string buffer;
  for (const AddedToken& token : spec.added) {
    if (token.id < 0 || token.id >= kMostIds) {
      throw bad_tokenizer("added token \"" + token.content + "\"",
                          fmt::format("an id in [0, {})", kMostIds), std::to_string(token.id));
    }
    const auto id = static_cast<size_t>(token.id);
    if (vocabulary.has(token.id) && spec.vocabulary[id] != token.content) {
      throw bad_tokenizer(fmt::format("added token {}", id),
                          "\"" + spec.vocabulary[id] + "\" as in the vocabulary",
                          "\"" + token.content + "\"");
    }
    const int32_t known = vocabulary.find(token.content);
    if (known >= 0 && known != token.id) {
      throw bad_tokenizer(fmt::format("added token \"{}\"", token.content),
                          fmt::format("id {} as in the vocabulary", known), std::to_string(id));
    }
    if (added_ids.insert(token.content, token.id) >= 0) {
      throw bad_tokenizer(fmt::format("added token {} \"{}\"", id, token.content),
                          "a content of its own", "the same content twice");
    }
    if (id >= bytes.size()) bytes.resize(id + 1);
    // In the byte-level alphabet its letters would be other bytes; it is spelled as it reads.
    bytes[id] = byte_level ? token.content : decoder.bytes(token.content, false);
    if (id >= special.size()) special.resize(id + 1, false);
    special[id] = token.special;
    if (!token.normalized) {
      raw.push_back(token);
      continue;
    }
    AddedToken changed = token;
    changed.content = normalizer.apply(token.content, buffer, {.start = false, .end = false});
    if (!changed.content.empty()) normalized.push_back(std::move(changed));
  }
  special.resize(bytes.size(), false);
  raw_added = AddedTokenMatcher(raw);
  normalized_added = AddedTokenMatcher(normalized);
}

void Tokenizer::Parts::check_special_ids() const {
  const auto check = [&](int32_t id, const char* what) {
    if (id < -1 || id >= static_cast<int32_t>(bytes.size())) {
      throw bad_tokenizer(what, fmt::format("an id below {}", bytes.size()), std::to_string(id));
    }
  };
  check(spec.bos_id, "bos_id");
  check(spec.eos_id, "eos_id");
  check(spec.pad_id, "pad_id");
  // A gap in the vocabulary is no token: a file that names one could not be written again.
  const auto check_token = [&](int32_t id, const char* what) {
    check(id, what);
    const auto is_it = [&](const AddedToken& token) { return token.id == id; };
    if (id < 0 ||
        (!vocabulary.has(id) && std::none_of(spec.added.begin(), spec.added.end(), is_it)))
      throw bad_tokenizer(what, "the id of a token", std::to_string(id));
  };
  for (const int32_t id : spec.prefix) check_token(id, "prefix");
  for (const int32_t id : spec.suffix) check_token(id, "suffix");
  for (const int32_t id : spec.end_ids) check(id, "end_ids");
}

void Tokenizer::Parts::find_endings() {
  ending.assign(bytes.size(), false);
  const auto mark = [&](int32_t id) {
    if (id >= 0) ending[static_cast<size_t>(id)] = true;
  };
  mark(spec.eos_id);
  for (const int32_t id : spec.end_ids) mark(id);
  for (const AddedToken& token : spec.added) {
    const bool known = std::find(kEndings.begin(), kEndings.end(), token.content) != kEndings.end();
    if (token.special && known) mark(token.id);
  }
}

Tokenizer::Tokenizer(TokenizerSpec spec) : parts_(std::make_shared<Parts>(std::move(spec))) {}

const TokenizerSpec& Tokenizer::spec() const {
  return parts_->spec;
}

size_t Tokenizer::vocab_size() const {
  return parts_->bytes.size();
}

uint64_t Tokenizer::fingerprint() const {
  return parts_->fingerprint;
}

size_t Tokenizer::bytes_without_token() const {
  const auto* bpe = std::get_if<BpeModel>(&parts_->model);
  return bpe == nullptr ? 0 : bpe->bytes_without_token();
}

void Tokenizer::encode(std::string_view text, std::vector<int32_t>& ids, EncodeScratch& scratch,
                       EncodeOptions options) const {
  const TokenizerSpec& spec = parts_->spec;
  if (options.add_special) ids.insert(ids.end(), spec.prefix.begin(), spec.prefix.end());
  if (text.size() >= kCacheFromBytes) scratch.cache_.allocate();
  scratch.unigram_.text_score = 0;
  const AddedTokenMatcher::Specials raw{options.parse_special, options.plain};
  parts_->raw_added.split(text, raw, [&](std::string_view piece, int32_t id) {
    if (id >= 0) {
      if (parts_->sentencepiece) around_user_defined(text, piece, id, ids, scratch);
      return ids.push_back(id);
    }
    const auto offset = static_cast<size_t>(piece.data() - text.data());
    const TextEnds ends{offset == 0, offset + piece.size() == text.size()};
    const std::string_view normal = parts_->normalizer.apply(piece, scratch.normalized_, ends);
    AddedTokenMatcher::Specials rest{options.parse_special, options.plain, offset};
    // Where the text changed, ranges no longer count its bytes: a range anywhere forbids.
    if (normal.data() != piece.data() && overlaps(options.plain, {offset, offset + piece.size()})) {
      rest.parse = false;
    }
    parts_->normalized_added.split(normal, rest, [&](std::string_view between, int32_t found) {
      if (found >= 0) return ids.push_back(found);
      encode_between(between, offset == 0 && between.data() == normal.data(), ids, scratch);
    });
  });
  if (options.add_special) ids.insert(ids.end(), spec.suffix.begin(), spec.suffix.end());
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  std::vector<int32_t> ids;
  EncodeScratch scratch;
  encode(text, ids, scratch, options);
  return ids;
}

// SentencePiece takes a user-defined token for a part of the text: there is a blank before one at
// the start, and its score counts. A special token begins a text of its own.
void Tokenizer::around_user_defined(std::string_view text, std::string_view piece, int32_t id,
                                    std::vector<int32_t>& ids, EncodeScratch& scratch) const {
  if (is_special(id)) {
    scratch.unigram_.text_score = 0;
    return;
  }
  if (piece.data() == text.data())
    encode_between(parts_->normalizer.apply({}, scratch.normalized_, {.start = true, .end = false}),
                   true, ids, scratch);
  if (const auto* unigram = std::get_if<UnigramModel>(&parts_->model))
    unigram->pass_user_defined(piece.size(), scratch.unigram_);
}

void Tokenizer::encode_between(std::string_view text, bool at_start, std::vector<int32_t>& ids,
                               EncodeScratch& scratch) const {
  const auto* unigram = std::get_if<UnigramModel>(&parts_->model);
  if (unigram != nullptr && unigram->takes_whole_texts())
    return unigram->encode(text, scratch.unigram_, ids);
  const bool keeps_text = parts_->pretokenizer.keeps_text();
  const char* const text_end = text.data() + text.size();
  const auto whole_words = [&](std::string_view word) {
    const char* const readable = keeps_text ? text_end : word.data() + word.size();
    encode_word(word, readable, ids, scratch);
  };
  if (parts_->byte_level) {
    return parts_->pretokenizer.for_each_word(text, whole_words, at_start);
  }
  parts_->pretokenizer.for_each_word(
      text, [&](std::string_view word) { parts_->cuts.for_each(word, whole_words); }, at_start);
}

void Tokenizer::encode_word(std::string_view word, const char* readable, std::vector<int32_t>& ids,
                            EncodeScratch& scratch) const {
  const bool keep = word.size() <= WordCache::kLongestWord;
  WordCache::Key key;
  if (keep) {
    key = WordCache::key_of(word, readable);
    const std::span<const int32_t> known = scratch.cache_.find(key);
    if (!known.empty()) {
      ids.insert(ids.end(), known.begin(), known.end());
      return;
    }
  }
  const size_t before = ids.size();
  if (const auto* bpe = std::get_if<BpeModel>(&parts_->model)) {
    bpe->encode(word, scratch.word_, ids);
  } else if (const auto* unigram = std::get_if<UnigramModel>(&parts_->model)) {
    unigram->encode(word, scratch.unigram_, ids);
  } else {
    std::get<WordPieceModel>(parts_->model).encode(word, ids);
  }
  if (keep) scratch.cache_.keep(key, std::span(ids).subspan(before));
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  StreamDecoder decoder(*this, skip_special);
  std::string text;
  for (const int32_t id : ids) decoder.append(id, text);
  return text;
}

std::string_view Tokenizer::token_bytes(int32_t id) const {
  const std::vector<std::string>& bytes = parts_->bytes;
  if (id < 0 || static_cast<size_t>(id) >= bytes.size()) {
    throw Error({.kind = ErrorKind::usage,
                 .doing = "decoding tokens",
                 .expected = fmt::format("ids in [0, {})", bytes.size()),
                 .found = std::to_string(id)});
  }
  return bytes[static_cast<size_t>(id)];
}

bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && static_cast<size_t>(id) < parts_->special.size() &&
         parts_->special[static_cast<size_t>(id)];
}

bool Tokenizer::ends_text(int32_t id) const {
  return id >= 0 && static_cast<size_t>(id) < parts_->ending.size() &&
         parts_->ending[static_cast<size_t>(id)];
}

int32_t Tokenizer::id_of(std::string_view spelling) const {
  const int32_t added = parts_->added_ids.find(spelling);
  return added >= 0 ? added : parts_->vocabulary.find(spelling);
}

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special, bool continues)
    : tokenizer_(&tokenizer),
      skip_special_(skip_special),
      first_(!continues),
      strip_left_(continues ? 0 : tokenizer.parts_->decoder.text_strip().count) {}

void StreamDecoder::append(int32_t id, std::string& text) {
  const std::string_view inside = tokenizer_->token_bytes(id);
  if (skip_special_ && tokenizer_->is_special(id)) return;
  if (!first_ && strip_left_ == 0) {
    text.append(inside);
    return;
  }
  const Tokenizer::Parts& parts = *tokenizer_->parts_;
  const bool differs = first_ && parts.decoder.first_differs() && parts.vocabulary.has(id);
  first_ = false;
  const std::string token =
      differs ? parts.decoder.bytes(parts.vocabulary.spelling(id), true) : std::string(inside);
  const TokenDecoder::Strip strip{parts.decoder.text_strip().content, strip_left_};
  const std::string_view left = strip_start(token, strip);
  text.append(left);
  strip_left_ = left.empty() && strip_left_ > 0
                    ? strip_left_ - std::min(strip_left_, token.size() / strip.content.size())
                    : 0;
}

std::string StreamDecoder::push(int32_t id) {
  std::string text = std::move(held_);
  held_.clear();
  append(id, text);
  size_t start = 0;
  if (ends_inside_character(text, &start)) {
    held_ = text.substr(start);
    text.resize(start);
  }
  return text;
}

std::string StreamDecoder::finish() {
  std::string rest = std::move(held_);
  held_.clear();
  return rest;
}

}  // namespace cairn
