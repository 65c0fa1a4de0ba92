#include "cairn/text/vocabulary.h"

#include <fmt/core.h>

#include <algorithm>

#include "cairn/base/error.h"
#include "cairn/text/char_classes.h"

namespace cairn {
namespace {

// Room for any tokenizer there is; a bound on what a hostile file can make us allocate.
constexpr size_t kMostIds = size_t{1} << 24;

Error bad_vocabulary(std::string subject, std::string expected, std::string found) {
  return Error({.kind = ErrorKind::data,
                .doing = "building a tokenizer",
                .subject = std::move(subject),
                .expected = std::move(expected),
                .found = std::move(found)});
}

// The code point of the character that ends before `at`; kInvalidByte for a broken one.
uint32_t char_before(std::string_view text, size_t at) {
  size_t start = at - 1;
  while (start > 0 && at - start < 4 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) {
    --start;
  }
  const DecodedChar c = decode_char(text.data() + start, text.data() + at);
  return start + c.length == at ? c.code_point : kInvalidByte;
}

}  // namespace

Vocabulary::Vocabulary(const TokenizerSpec& spec)
    : spec_(&spec), index_(spec.vocabulary.size()), matchable_(spec.vocabulary.size(), true) {
  if (size() > kMostIds) {
    throw bad_vocabulary("vocabulary", fmt::format("at most {} tokens", kMostIds),
                         std::to_string(size()));
  }
  for (size_t id = 0; id < size(); ++id) {
    const std::string& token = spec.vocabulary[id];
    if (token.empty()) continue;
    const int32_t known = index_.insert(token, static_cast<int32_t>(id));
    if (known >= 0) {
      throw bad_vocabulary(fmt::format("token {} \"{}\"", id, token), "a spelling of its own",
                           fmt::format("that of token {}", known));
    }
  }
  const auto exclude = [&](int32_t id) {
    if (id >= 0 && static_cast<size_t>(id) < size()) matchable_[static_cast<size_t>(id)] = false;
  };
  for (const int32_t id : spec.unmatched) exclude(id);
  for (const AddedToken& token : spec.added) {
    if (token.special) exclude(token.id);
  }
  if (!spec.unknown_token.empty()) {
    unknown_id_ = find(spec.unknown_token);
    if (unknown_id_ < 0) {
      throw bad_vocabulary("unknown token", "a token of the vocabulary", spec.unknown_token);
    }
  }
  for (size_t byte = 0; byte < 256; ++byte) {
    byte_tokens_[byte] = spec.byte_fallback ? find(fmt::format("<0x{:02X}>", byte)) : -1;
  }
}

void Vocabulary::append_unmatched(std::string_view bytes, size_t from,
                                  std::vector<int32_t>& ids) const {
  const size_t before = ids.size();
  for (const char c : bytes) {
    const int32_t id = byte_tokens_[static_cast<unsigned char>(c)];
    if (id < 0) break;
    ids.push_back(id);
  }
  if (ids.size() == before + bytes.size()) return;
  ids.resize(before);
  if (unknown_id_ < 0) return;
  const bool fused = spec_->fuse_unknown && before > from && ids.back() == unknown_id_;
  if (!fused) ids.push_back(unknown_id_);
}

MetaspaceCuts::MetaspaceCuts(const Vocabulary& vocabulary)
    : possible_(vocabulary.find_matchable(kMetaspace) >= 0) {
  for (size_t id = 0; possible_ && id < vocabulary.size(); ++id) {
    if (!vocabulary.matchable(static_cast<int32_t>(id))) continue;
    const std::string_view token = vocabulary.spelling(static_cast<int32_t>(id));
    for (size_t at = token.find(kMetaspace, 1); at != token.npos;
         at = token.find(kMetaspace, at + 1)) {
      before_.push_back(char_before(token, at));
    }
  }
  std::sort(before_.begin(), before_.end());
  before_.erase(std::unique(before_.begin(), before_.end()), before_.end());
}

bool MetaspaceCuts::may_cut(std::string_view text, size_t at) const {
  return !std::binary_search(before_.begin(), before_.end(), char_before(text, at));
}

}  // namespace cairn
