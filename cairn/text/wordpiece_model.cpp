#include "cairn/text/wordpiece_model.h"

#include <algorithm>

#include "cairn/base/error.h"
#include "cairn/text/char_classes.h"

namespace cairn {
namespace {

size_t count_chars(std::string_view text) {
  size_t count = 0;
  for (size_t at = 0; at < text.size(); ++count) {
    at += decode_char(text.data() + at, text.data() + text.size()).length;
  }
  return count;
}

}  // namespace

WordPieceModel::WordPieceModel(const TokenizerSpec& spec, const Vocabulary& vocabulary)
    : vocabulary_(&vocabulary),
      prefix_(spec.continuing_prefix),
      longest_word_(static_cast<size_t>(std::max<int64_t>(spec.longest_word, 0))) {
  if (vocabulary.unknown_id() < 0) {
    throw Error({.kind = ErrorKind::data,
                 .doing = "building a tokenizer",
                 .subject = "unknown token",
                 .expected = "one, for words that have no spelling"});
  }
  for (const std::string& token : spec.vocabulary) {
    longest_token_ = std::max(longest_token_, token.size());
  }
}

void WordPieceModel::encode(std::string_view word, std::vector<int32_t>& ids) const {
  const size_t before = ids.size();
  std::string candidate;
  bool known = count_chars(word) <= longest_word_;
  for (size_t at = 0; known && at < word.size();) {
    candidate = at > 0 ? prefix_ : "";
    const size_t start = candidate.size();
    candidate.append(word.substr(at, longest_token_));
    int32_t id = -1;
    for (; candidate.size() > start; candidate.pop_back()) {
      id = vocabulary_->find_matchable(candidate);
      if (id >= 0) break;
    }
    known = id >= 0;
    if (known) ids.push_back(id);
    at += candidate.size() - start;
  }
  if (known) return;
  ids.resize(before);
  ids.push_back(vocabulary_->unknown_id());
}

}  // namespace cairn
