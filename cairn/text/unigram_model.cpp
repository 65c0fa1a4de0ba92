#include "cairn/text/unigram_model.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "cairn/base/error.h"
#include "cairn/text/char_classes.h"
#include "cairn/text/sentencepiece.h"

namespace cairn {
namespace {

constexpr double kUnknownPenalty = 10;  // below the worst token
constexpr double kNoScore = -std::numeric_limits<double>::infinity();

}  // namespace

UnigramModel::UnigramModel(const TokenizerSpec& spec, const Vocabulary& vocabulary)
    : vocabulary_(&vocabulary), scores_(&spec.scores), in_float_(is_sentencepiece(spec)) {
  double lowest = 0;
  bool finite = spec.scores.size() == vocabulary.size();
  for (const double score : spec.scores) {
    finite = finite && std::isfinite(score);
    lowest = std::min(lowest, score);
  }
  if (!finite) {
    throw Error({.kind = ErrorKind::data,
                 .doing = "building a tokenizer",
                 .subject = "scores",
                 .expected = fmt::format("{} finite numbers", vocabulary.size()),
                 .found = fmt::format("{} numbers", spec.scores.size())});
  }
  unknown_score_ = lowest - kUnknownPenalty;
  if (in_float_) find_best_score(spec);
  build_trie();
}

void UnigramModel::find_best_score(const TokenizerSpec& spec) {
  std::vector<bool> normal(spec.scores.size(), true);
  for (const int32_t id : spec.unmatched) normal.at(static_cast<size_t>(id)) = false;
  for (const AddedToken& token : spec.added)
    if (static_cast<size_t>(token.id) < normal.size())
      normal[static_cast<size_t>(token.id)] = false;
  double best = kNoScore;
  for (size_t id = 0; id < normal.size(); ++id)
    if (normal[id]) best = std::max(best, spec.scores[id]);
  if (best != kNoScore) best_score_ = static_cast<float>(best);
}

// The library's score of such a piece: above that of any cut of its bytes.
void UnigramModel::pass_user_defined(size_t bytes, UnigramScratch& scratch) const {
  const double score = static_cast<float>(bytes) * best_score_ - 0.1;
  scratch.text_score = static_cast<float>(scratch.text_score + score);
}

void UnigramModel::build_trie() {
  std::vector<int32_t> order;
  for (size_t id = 0; id < vocabulary_->size(); ++id) {
    const auto token = static_cast<int32_t>(id);
    if (vocabulary_->has(token) && vocabulary_->matchable(token)) order.push_back(token);
  }
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return vocabulary_->spelling(a) < vocabulary_->spelling(b);
  });
  // Nodes in the order of a queue: the tokens below a node are a range of `order`.
  struct Range {
    uint32_t node;
    size_t from, to, depth;
  };
  nodes_.assign(1, {});
  std::vector<Range> queue = {{0, 0, order.size(), 0}};
  for (size_t next = 0; next < queue.size(); ++next) {
    auto [node, from, to, depth] = queue[next];
    if (from < to && vocabulary_->spelling(order[from]).size() == depth) {
      nodes_[node].id = order[from++];  // the shortest comes first
    }
    nodes_[node].first = static_cast<uint32_t>(nodes_.size());
    while (from < to) {
      const char label = vocabulary_->spelling(order[from])[depth];
      size_t end = from;
      while (end < to && vocabulary_->spelling(order[end])[depth] == label) ++end;
      ++nodes_[node].count;
      queue.push_back({static_cast<uint32_t>(nodes_.size()), from, end, depth + 1});
      nodes_.push_back({.label = static_cast<uint8_t>(label)});
      from = end;
    }
  }
  for (uint32_t i = 0; i < nodes_[0].count; ++i) {
    roots_[nodes_[nodes_[0].first + i].label] = nodes_[0].first + i;
  }
}

uint32_t UnigramModel::child(uint32_t node, uint8_t label) const {
  if (node == 0) return roots_[label] == 0 ? kNone : roots_[label];
  const Node* const first = nodes_.data() + nodes_[node].first;
  const Node* const last = first + nodes_[node].count;
  const Node* const found = std::lower_bound(
      first, last, label, [](const Node& child, uint8_t wanted) { return child.label < wanted; });
  return found == last || found->label != label ? kNone
                                                : static_cast<uint32_t>(found - nodes_.data());
}

void UnigramModel::try_tokens(std::string_view word, size_t at, size_t char_length,
                              UnigramScratch& scratch) const {
  const double here = scratch.steps[at].score;
  const auto offer = [&](size_t length, int32_t id, double added) {
    const double sum = here + added;
    UnigramScratch::Step& step = scratch.steps[at + length];
    // Not by the score: hostile ones sum to an infinity.
    if (step.length == 0 || sum > step.score) {
      // SentencePiece compares before it rounds what it keeps.
      step = {in_float_ ? static_cast<float>(sum) : sum, id, static_cast<uint32_t>(length)};
    }
  };
  bool single = false;  // a token is just this character
  uint32_t node = 0;
  for (size_t i = at; i < word.size(); ++i) {
    node = child(node, static_cast<uint8_t>(word[i]));
    if (node == kNone) break;
    const int32_t id = nodes_[node].id;
    if (id < 0) continue;
    offer(i + 1 - at, id, (*scores_)[static_cast<size_t>(id)]);
    single |= i + 1 - at == char_length;
  }
  if (!single) offer(char_length, -1, unknown_score_);
}

void UnigramModel::encode(std::string_view word, UnigramScratch& scratch,
                          std::vector<int32_t>& ids) const {
  if (word.size() >= size_t{1} << 31) {
    throw Error({.kind = ErrorKind::data,
                 .doing = "encoding text",
                 .expected = "words shorter than 2 GiB",
                 .found = std::to_string(word.size()) + " bytes"});
  }
  scratch.steps.assign(word.size() + 1, {});
  scratch.steps[0].score = in_float_ ? scratch.text_score : 0;
  for (size_t at = 0; at < word.size();) {
    const size_t length = decode_char(word.data() + at, word.data() + word.size()).length;
    // A token of broken UTF-8 may end inside a character; nothing starts there.
    if (at == 0 || scratch.steps[at].length > 0) try_tokens(word, at, length, scratch);
    at += length;
  }
  scratch.text_score = scratch.steps.back().score;
  scratch.path.clear();
  for (size_t at = word.size(); at > 0; at -= scratch.path.back().length) {
    scratch.path.push_back(scratch.steps[at]);
  }
  const size_t from = ids.size();
  size_t at = 0;
  for (auto step = scratch.path.rbegin(); step != scratch.path.rend(); ++step) {
    step->id >= 0 ? ids.push_back(step->id)
                  : vocabulary_->append_unmatched(word.substr(at, step->length), from, ids);
    at += step->length;
  }
}

}  // namespace cairn
