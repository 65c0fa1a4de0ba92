#include "cairn/text/merge_scores.h"

#include <algorithm>
#include <limits>

#include "cairn/text/char_classes.h"
#include "cairn/text/string_index.h"

namespace cairn {
namespace {

constexpr size_t kNever = std::numeric_limits<size_t>::max();

// The ranks of the merges that make a token.
struct Ranks {
  size_t first = kNever, last = 0;
  size_t id = 0;
};

// Of all tokens together: into how many pairs of tokens they can be cut between characters.
size_t count_halves(const std::vector<std::string>& vocabulary, const StringIndex& ids) {
  size_t count = 0;
  for (const std::string& token : vocabulary) {
    const std::string_view text = token;
    const char* const end = text.data() + text.size();
    for (size_t at = 0; at < text.size();) {
      at += decode_char(text.data() + at, end).length;
      if (at < text.size() && ids.find(text.substr(0, at)) >= 0 && ids.find(text.substr(at)) >= 0)
        ++count;
    }
  }
  return count;
}

}  // namespace

std::optional<std::vector<double>> scores_of_merges(const TokenizerSpec& spec) {
  const size_t size = spec.vocabulary.size();
  StringIndex ids(size);
  for (size_t id = 0; id < size; ++id)
    if (!spec.vocabulary[id].empty()) ids.insert(spec.vocabulary[id], static_cast<int32_t>(id));
  if (count_halves(spec.vocabulary, ids) != spec.merges.size()) return std::nullopt;
  std::vector<Ranks> ranks(size);
  for (size_t id = 0; id < size; ++id) ranks[id].id = id;
  for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
    const auto [left, right] = spec.merges[rank];
    const int32_t result = ids.find(spec.vocabulary.at(static_cast<size_t>(left)) +
                                    spec.vocabulary.at(static_cast<size_t>(right)));
    if (result < 0) return std::nullopt;
    Ranks& of = ranks[static_cast<size_t>(result)];
    of.first = std::min(of.first, rank);
    of.last = rank;
  }
  std::stable_sort(ranks.begin(), ranks.end(),
                   [](const Ranks& a, const Ranks& b) { return a.first < b.first; });
  std::vector<double> scores(size);
  double score = 0;
  size_t last = 0;  // of the tokens that share the score
  for (const Ranks& of : ranks) {
    if (of.first > last) --score;
    last = of.first == kNever ? last : std::max(last, of.last);
    scores[of.id] = score;
  }
  return scores;
}

}  // namespace cairn
