#include <array>
#include <cstring>

#include "cairn/base/hash.h"
#include "cairn/text/tokenizer_spec.h"

namespace cairn {
namespace {

// Numbers and texts of a spec, hashed one after another. They are gathered first: a vocabulary has
// half a million of them, most of eight bytes.
class SpecHasher {
 public:
  void number(int64_t value) { add(&value, sizeof value); }
  void text(std::string_view value) {
    number(static_cast<int64_t>(value.size()));
    add(value.data(), value.size());
  }
  uint64_t digest() {
    flush();
    return hasher_.digest();
  }

 private:
  void add(const void* data, size_t bytes) {
    if (bytes > gathered_.size() - used_) flush();
    if (bytes > gathered_.size()) return hasher_.update(data, bytes);
    if (bytes > 0) std::memcpy(gathered_.data() + used_, data, bytes);
    used_ += bytes;
  }
  void flush() {
    hasher_.update(gathered_.data(), used_);
    used_ = 0;
  }

  Hasher hasher_;
  std::array<char, 4096> gathered_;
  size_t used_ = 0;
};

void hash_normalizer(const std::vector<NormalizerStep>& steps, SpecHasher& hash) {
  for (const NormalizerStep& step : steps) {
    hash.number(static_cast<int64_t>(step.kind));
    hash.number(step.left | step.right << 1 | step.pattern_is_regex << 2 | step.by_grapheme << 3);
    hash.text(step.pattern);
    hash.text(step.content);
    if (step.kind == NormalizerStep::Kind::sentencepiece)
      hash.number(step.prefix_blank | step.collapse << 1);
  }
}

// A prefix blank as the first step counts among the flags: so did files of older versions.
bool starts_with_blank(const TokenizerSpec& spec) {
  return !spec.pretokenizer.empty() &&
         spec.pretokenizer[0].kind == PretokenizerStep::Kind::prefix_blank;
}

void hash_pretokenizer(const TokenizerSpec& spec, SpecHasher& hash) {
  for (size_t i = starts_with_blank(spec) ? 1 : 0; i < spec.pretokenizer.size(); ++i) {
    const PretokenizerStep& step = spec.pretokenizer[i];
    const bool only_matches = step.behavior == PretokenizerStep::Behavior::removed && step.invert;
    hash.number(static_cast<int64_t>(step.kind));
    hash.number(step.individual_digits | step.pattern_is_regex << 1 | only_matches << 2);
    hash.text(step.pattern);
    const int64_t more = static_cast<int64_t>(step.behavior) | step.invert << 3 |
                         static_cast<int64_t>(step.prepend) << 4 | step.metaspace_splits << 6;
    const int64_t usual = PretokenizerStep{}.metaspace_splits << 6;
    if (more != usual && !only_matches) hash.number(more);
  }
}

void hash_added(const std::vector<AddedToken>& added, SpecHasher& hash) {
  hash.number(static_cast<int64_t>(added.size()));
  for (const AddedToken& token : added) {
    hash.number(token.id);
    hash.text(token.content);
    hash.number(token.special | token.single_word << 1 | token.lstrip << 2 | token.rstrip << 3 |
                token.normalized << 4);
  }
}

}  // namespace

uint64_t fingerprint_of(const TokenizerSpec& spec) {
  SpecHasher hash;
  hash.number(static_cast<int64_t>(spec.vocabulary.size()));
  for (const std::string& token : spec.vocabulary) hash.text(token);
  hash.number(static_cast<int64_t>(spec.merges.size()));
  for (const auto& [left, right] : spec.merges) {
    hash.number(left);
    hash.number(right);
  }
  hash_added(spec.added, hash);
  hash_pretokenizer(spec, hash);
  hash.number(starts_with_blank(spec) | spec.ignore_merges << 1);
  hash.text(spec.unknown_token);
  hash_normalizer(spec.normalizer, hash);
  if (spec.model == TokenizerModel::byte_level_bpe) return hash.digest();
  hash.number(static_cast<int64_t>(spec.model));
  hash.number(spec.fuse_unknown | spec.byte_fallback << 1);
  for (const double score : spec.scores) {
    int64_t bits = 0;
    static_assert(sizeof bits == sizeof score);
    std::memcpy(&bits, &score, sizeof bits);
    hash.number(bits);
  }
  hash.text(spec.continuing_prefix);
  hash.number(spec.longest_word);
  for (const int32_t id : spec.unmatched) hash.number(id);
  return hash.digest();
}

}  // namespace cairn
