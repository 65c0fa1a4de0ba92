#include "cairn/text/tokenizer.h"

#include <fmt/core.h>

#include <algorithm>

#include "cairn/base/error.h"
#include "cairn/base/hash.h"
#include "cairn/text/byte_level.h"

namespace cairn {
namespace {

// Room for any tokenizer there is; a bound on what a hostile file can make us allocate.
constexpr int32_t kMostIds = 1 << 24;
// Shorter texts are encoded faster than the cache's memory is cleared.
constexpr size_t kCacheFromBytes = 8192;

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

}  // namespace

Tokenizer::Tokenizer(TokenizerSpec spec)
    : spec_(std::move(spec)), pretokenizer_(spec_.pretokenizer) {
  index_vocabulary();
  index_added();
  index_merges();
  check_special_ids();
  fingerprint_ = compute_fingerprint();
}

void Tokenizer::index_vocabulary() {
  if (spec_.vocabulary.size() > kMostIds) {
    throw bad_tokenizer("vocabulary", fmt::format("at most {} tokens", kMostIds),
                        std::to_string(spec_.vocabulary.size()));
  }
  bytes_.resize(spec_.vocabulary.size());
  ids_.reserve(spec_.vocabulary.size());
  for (size_t id = 0; id < spec_.vocabulary.size(); ++id) {
    const std::string& spelling = spec_.vocabulary[id];
    if (spelling.empty()) continue;
    const auto [known, added] = ids_.emplace(spelling, static_cast<int32_t>(id));
    if (!added) {
      throw bad_tokenizer(fmt::format("token {} \"{}\"", id, spelling), "a spelling of its own",
                          fmt::format("that of token {}", known->second));
    }
    // What is not spelled in the byte-level alphabet stands for its own bytes.
    bytes_[id] = from_byte_level(spelling).value_or(spelling);
    if (spec_.ignore_merges) words_.emplace(bytes_[id], static_cast<int32_t>(id));
  }
}

void Tokenizer::index_added() {
  std::vector<AddedToken> raw;
  std::vector<AddedToken> normalized;
  for (const AddedToken& token : spec_.added) {
    if (token.id < 0 || token.id >= kMostIds) {
      throw bad_tokenizer("added token \"" + token.content + "\"",
                          fmt::format("an id in [0, {})", kMostIds), std::to_string(token.id));
    }
    const auto id = static_cast<size_t>(token.id);
    const bool in_vocabulary = id < spec_.vocabulary.size() && !spec_.vocabulary[id].empty();
    if (in_vocabulary && spec_.vocabulary[id] != token.content) {
      throw bad_tokenizer(fmt::format("added token {}", id),
                          "\"" + spec_.vocabulary[id] + "\" as in the vocabulary",
                          "\"" + token.content + "\"");
    }
    if (!added_ids_.emplace(token.content, token.id).second) {
      throw bad_tokenizer(fmt::format("added token {} \"{}\"", id, token.content),
                          "a content of its own", "the same content twice");
    }
    if (id >= bytes_.size()) bytes_.resize(id + 1);
    bytes_[id] = token.content;
    if (id >= special_.size()) special_.resize(id + 1, false);
    special_[id] = token.special;
    (token.normalized ? normalized : raw).push_back(token);
  }
  special_.resize(bytes_.size(), false);
  raw_added_ = AddedTokenMatcher(raw);
  normalized_added_ = AddedTokenMatcher(normalized);
}

void Tokenizer::index_merges() {
  const int32_t unknown = spec_.unknown_token.empty() ? -1 : id_of(spec_.unknown_token);
  if (!spec_.unknown_token.empty() && unknown < 0) {
    throw bad_tokenizer("unknown token", "a token of the vocabulary", spec_.unknown_token);
  }
  for (size_t byte = 0; byte < 256; ++byte) {
    const auto spelling = to_byte_level(std::string(1, static_cast<char>(byte)));
    const auto known = ids_.find(spelling);
    byte_ids_[byte] = known == ids_.end() ? unknown : known->second;
    if (byte_ids_[byte] < 0) {
      throw bad_tokenizer("vocabulary", "a token for each byte, or an unknown token",
                          fmt::format("none for byte {:#04x} (\"{}\")", byte, spelling));
    }
  }
  merges_ = MergeTable(spec_.merges.size());
  const auto in_vocabulary = [&](int32_t id) {
    return id >= 0 && static_cast<size_t>(id) < spec_.vocabulary.size() &&
           !spec_.vocabulary[static_cast<size_t>(id)].empty();
  };
  std::string joined;
  for (size_t rank = 0; rank < spec_.merges.size(); ++rank) {
    const auto [left, right] = spec_.merges[rank];
    if (!in_vocabulary(left) || !in_vocabulary(right)) {
      throw bad_tokenizer(fmt::format("merge {}", rank), "two ids of the vocabulary",
                          fmt::format("{} and {}", left, right));
    }
    joined = spec_.vocabulary[static_cast<size_t>(left)];
    joined += spec_.vocabulary[static_cast<size_t>(right)];
    const auto result = ids_.find(joined);
    if (result == ids_.end()) {
      throw bad_tokenizer(fmt::format("merge {}", rank), "its result in the vocabulary",
                          "no token \"" + joined + "\"");
    }
    merges_.insert(left, right, {static_cast<uint32_t>(rank), result->second});
  }
}

void Tokenizer::check_special_ids() const {
  const auto check = [&](int32_t id, const char* what) {
    if (id < -1 || id >= static_cast<int32_t>(vocab_size())) {
      throw bad_tokenizer(what, fmt::format("an id below {}", vocab_size()), std::to_string(id));
    }
  };
  check(spec_.bos_id, "bos_id");
  check(spec_.eos_id, "eos_id");
  check(spec_.pad_id, "pad_id");
  for (const int32_t id : spec_.prefix) check(id, "prefix");
  for (const int32_t id : spec_.suffix) check(id, "suffix");
}

uint64_t Tokenizer::compute_fingerprint() const {
  Hasher hasher;
  const auto number = [&](int64_t value) { hasher.update(&value, sizeof value); };
  const auto text = [&](std::string_view value) {
    number(static_cast<int64_t>(value.size()));
    hasher.update(value.data(), value.size());
  };
  number(static_cast<int64_t>(spec_.vocabulary.size()));
  for (const std::string& token : spec_.vocabulary) text(token);
  number(static_cast<int64_t>(spec_.merges.size()));
  for (const auto& [left, right] : spec_.merges) {
    number(left);
    number(right);
  }
  number(static_cast<int64_t>(spec_.added.size()));
  for (const AddedToken& token : spec_.added) {
    number(token.id);
    text(token.content);
    number(token.special | token.single_word << 1 | token.lstrip << 2 | token.rstrip << 3 |
           token.normalized << 4);
  }
  for (const PretokenizerStep& step : spec_.pretokenizer) {
    number(static_cast<int64_t>(step.kind));
    number(step.individual_digits | step.pattern_is_regex << 1 | step.keep_only_matches << 2);
    text(step.pattern);
  }
  number(spec_.add_prefix_space | spec_.ignore_merges << 1);
  text(spec_.unknown_token);
  return hasher.digest();
}

void Tokenizer::encode(std::string_view text, std::vector<int32_t>& ids, EncodeScratch& scratch,
                       EncodeOptions options) const {
  if (options.add_special) ids.insert(ids.end(), spec_.prefix.begin(), spec_.prefix.end());
  if (text.size() >= kCacheFromBytes) scratch.cache_.allocate();
  raw_added_.split(text, options.parse_special, [&](std::string_view piece, int32_t id) {
    if (id >= 0) return ids.push_back(id);
    normalized_added_.split(piece, options.parse_special,
                            [&](std::string_view rest, int32_t found) {
                              if (found >= 0) return ids.push_back(found);
                              encode_plain(rest, ids, scratch);
                            });
  });
  if (options.add_special) ids.insert(ids.end(), spec_.suffix.begin(), spec_.suffix.end());
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  std::vector<int32_t> ids;
  EncodeScratch scratch;
  encode(text, ids, scratch, options);
  return ids;
}

void Tokenizer::encode_plain(std::string_view text, std::vector<int32_t>& ids,
                             EncodeScratch& scratch) const {
  if (spec_.add_prefix_space && !text.empty() && text.front() != ' ') {
    std::string prefixed(1, ' ');
    prefixed.append(text);
    return encode_segment(prefixed, ids, scratch);
  }
  encode_segment(text, ids, scratch);
}

void Tokenizer::encode_segment(std::string_view text, std::vector<int32_t>& ids,
                               EncodeScratch& scratch) const {
  const char* const end = text.data() + text.size();
  pretokenizer_.for_each_word(text, [&](std::string_view word) {
    if (word.size() > WordCache::kLongestWord) return encode_one(word, ids, scratch);
    const WordCache::Key key = WordCache::key_of(word, end);
    const std::span<const int32_t> known = scratch.cache_.find(key);
    if (!known.empty()) {
      ids.insert(ids.end(), known.begin(), known.end());
      return;
    }
    const size_t before = ids.size();
    encode_one(word, ids, scratch);
    scratch.cache_.keep(key, std::span(ids).subspan(before));
  });
}

void Tokenizer::encode_one(std::string_view word, std::vector<int32_t>& ids,
                           EncodeScratch& scratch) const {
  if (spec_.ignore_merges) {
    const auto whole = words_.find(word);
    if (whole != words_.end()) return ids.push_back(whole->second);
  }
  encode_word(merges_, byte_ids_, word, scratch.word_, ids);
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string text;
  for (const int32_t id : ids) {
    const std::string_view bytes = token_bytes(id);
    if (!(skip_special && is_special(id))) text.append(bytes);
  }
  return text;
}

std::string_view Tokenizer::token_bytes(int32_t id) const {
  if (id < 0 || static_cast<size_t>(id) >= bytes_.size()) {
    throw Error({.kind = ErrorKind::usage,
                 .doing = "decoding tokens",
                 .expected = fmt::format("ids in [0, {})", bytes_.size()),
                 .found = std::to_string(id)});
  }
  return bytes_[static_cast<size_t>(id)];
}

bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && static_cast<size_t>(id) < special_.size() && special_[static_cast<size_t>(id)];
}

int32_t Tokenizer::id_of(std::string_view spelling) const {
  const auto added = added_ids_.find(spelling);
  if (added != added_ids_.end()) return added->second;
  const auto known = ids_.find(spelling);
  return known == ids_.end() ? -1 : known->second;
}

std::string StreamDecoder::push(int32_t id) {
  const std::string_view bytes = tokenizer_->token_bytes(id);
  if (skip_special_ && tokenizer_->is_special(id)) return {};
  std::string text = std::move(held_);
  held_.clear();
  text.append(bytes);
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
