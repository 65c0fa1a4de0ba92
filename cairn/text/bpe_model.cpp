#include "cairn/text/bpe_model.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cairn/base/error.h"
#include "cairn/text/byte_level.h"
#include "cairn/text/char_classes.h"

namespace cairn {
namespace {

// Merges that are asked into the cache before their turn: the table is larger than it.
constexpr size_t kAhead = 8;

Error bad_model(std::string subject, std::string expected, std::string found) {
  return Error({.kind = ErrorKind::data,
                .doing = "building a tokenizer",
                .subject = std::move(subject),
                .expected = std::move(expected),
                .found = std::move(found)});
}

size_t char_length(std::string_view text, size_t at) {
  return decode_char(text.data() + at, text.data() + text.size()).length;
}

// By id, the place of its score among all different ones, the highest first: equal scores merge
// from left to right.
std::vector<uint32_t> ranks_of(const std::vector<double>& scores) {
  std::vector<uint32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(),
            [&](uint32_t a, uint32_t b) { return scores[a] > scores[b]; });
  std::vector<uint32_t> ranks(scores.size());
  uint32_t rank = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && scores[order[i]] != scores[order[i - 1]]) ++rank;
    ranks[order[i]] = rank;
  }
  return ranks;
}

}  // namespace

BpeModel::BpeModel(const TokenizerSpec& spec, const Vocabulary& vocabulary)
    : vocabulary_(&vocabulary),
      byte_level_(spec.model == TokenizerModel::byte_level_bpe),
      ignore_merges_(spec.ignore_merges) {
  index_bytes();
  spec.model == TokenizerModel::scored_bpe ? merges_from_scores(spec) : read_merges(spec);
}

void BpeModel::index_bytes() {
  byte_ids_.fill(-1);
  for (size_t byte = 0; byte < (byte_level_ ? 256u : 128u); ++byte) {
    const std::string text(1, static_cast<char>(byte));
    byte_ids_[byte] = vocabulary_->find_matchable(byte_level_ ? to_byte_level(text) : text);
    if (byte_level_ && byte_ids_[byte] < 0) byte_ids_[byte] = vocabulary_->unknown_id();
  }
}

size_t BpeModel::bytes_without_token() const {
  return byte_level_ ? static_cast<size_t>(std::count(byte_ids_.begin(), byte_ids_.end(), -1)) : 0;
}

bool BpeModel::is_joined(int32_t id, std::string_view left, std::string_view right) const {
  if (!vocabulary_->has(id)) return false;
  const std::string_view whole = vocabulary_->spelling(id);
  return whole.size() == left.size() + right.size() && whole.substr(0, left.size()) == left &&
         whole.substr(left.size()) == right;
}

void BpeModel::read_merges(const TokenizerSpec& spec) {
  merges_ = MergeTable(spec.merges.size());
  std::string joined;
  int32_t result = -1;
  for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
    if (rank + kAhead < spec.merges.size()) {
      merges_.prefetch(spec.merges[rank + kAhead].first, spec.merges[rank + kAhead].second);
    }
    const auto [left, right] = spec.merges[rank];
    if (!vocabulary_->has(left) || !vocabulary_->has(right)) {
      throw bad_model(fmt::format("merge {}", rank), "two ids of the vocabulary",
                      fmt::format("{} and {}", left, right));
    }
    const std::string &first = vocabulary_->spelling(left), &second = vocabulary_->spelling(right);
    // Merges mostly stand in the order of what they make, one or several a token.
    if (!is_joined(result, first, second) && !is_joined(++result, first, second)) {
      joined.assign(first).append(second);
      result = vocabulary_->find(joined);
    }
    if (result < 0) {
      throw bad_model(fmt::format("merge {}", rank), "its result in the vocabulary",
                      "no token \"" + joined + "\"");
    }
    if (vocabulary_->matchable(result)) {
      merges_.insert(left, right, {static_cast<uint32_t>(rank), result});
    }
  }
}

void BpeModel::merges_from_scores(const TokenizerSpec& spec) {
  const size_t size = spec.vocabulary.size();
  const bool finite = std::all_of(spec.scores.begin(), spec.scores.end(),
                                  [](double score) { return std::isfinite(score); });
  if (spec.scores.size() != size || !finite) {
    throw bad_model("scores", fmt::format("{} finite numbers", size),
                    fmt::format("{} numbers", spec.scores.size()));
  }
  // Characters that tokens are made of but that are no tokens: the index points to the tokens.
  for (size_t id = 0; id < size; ++id) {
    const std::string_view token = spec.vocabulary[id];
    if (!vocabulary_->matchable(static_cast<int32_t>(id))) continue;
    for (size_t at = 0; at < token.size(); at += char_length(token, at)) {
      const std::string_view one = token.substr(at, char_length(token, at));
      if (vocabulary_->find_matchable(one) >= 0) continue;
      if (char_index_.insert(one, static_cast<int32_t>(size + chars_.size())) < 0) {
        chars_.emplace_back(one);
      }
    }
  }
  const auto symbol = [&](std::string_view text) {
    const int32_t id = vocabulary_->find_matchable(text);
    return id >= 0 ? id : char_index_.find(text);
  };
  struct Pair {
    int32_t left, right;
    MergeTable::Merge merge;
  };
  std::vector<Pair> pairs;
  const std::vector<uint32_t> ranks = ranks_of(spec.scores);
  for (size_t id = 0; id < size; ++id) {
    const std::string_view token = spec.vocabulary[id];
    if (token.empty() || !vocabulary_->matchable(static_cast<int32_t>(id))) continue;
    for (size_t at = char_length(token, 0); at < token.size(); at += char_length(token, at)) {
      const int32_t left = symbol(token.substr(0, at));
      const int32_t right = left < 0 ? -1 : symbol(token.substr(at));
      if (right >= 0) pairs.push_back({left, right, {ranks[id], static_cast<int32_t>(id)}});
    }
  }
  merges_ = MergeTable(pairs.size());
  for (const Pair& pair : pairs) merges_.insert(pair.left, pair.right, pair.merge);
}

void BpeModel::append_char(std::string_view bytes, size_t from, std::vector<int32_t>& ids) const {
  int32_t id = vocabulary_->find_matchable(bytes);
  if (id < 0) id = char_index_.find(bytes);
  id >= 0 ? ids.push_back(id) : vocabulary_->append_unmatched(bytes, from, ids);
}

void BpeModel::expand_chars(size_t from, std::vector<int32_t>& ids) const {
  const auto first = static_cast<int32_t>(vocabulary_->size());
  const auto start = ids.begin() + static_cast<std::ptrdiff_t>(from);
  const bool any = std::any_of(start, ids.end(), [&](int32_t id) { return id >= first; });
  if (!any) return;
  const std::vector<int32_t> merged(start, ids.end());
  ids.resize(from);
  for (const int32_t id : merged) {
    if (id < first) {
      ids.push_back(id);
    } else {
      vocabulary_->append_unmatched(chars_[static_cast<size_t>(id - first)], from, ids);
    }
  }
}

void BpeModel::encode(std::string_view word, WordScratch& scratch,
                      std::vector<int32_t>& ids) const {
  if (ignore_merges_) {
    scratch.spelling.clear();
    if (byte_level_) append_byte_level(word, scratch.spelling);
    const int32_t whole = vocabulary_->find_matchable(byte_level_ ? scratch.spelling : word);
    if (whole >= 0) return ids.push_back(whole);
  }
  const size_t from = ids.size();
  if (byte_level_) {
    for (const char c : word) {
      const int32_t id = byte_ids_[static_cast<unsigned char>(c)];
      if (id >= 0) ids.push_back(id);
    }
    return merge_tokens(merges_, from, scratch, ids);
  }
  for (size_t at = 0; at < word.size();) {
    const auto byte = static_cast<unsigned char>(word[at]);
    const size_t length = char_length(word, at);
    if (byte < 0x80 && byte_ids_[byte] >= 0) {
      ids.push_back(byte_ids_[byte]);
    } else {
      append_char(word.substr(at, length), from, ids);
    }
    at += length;
  }
  merge_tokens(merges_, from, scratch, ids);
  if (!chars_.empty()) expand_chars(from, ids);
}

}  // namespace cairn
