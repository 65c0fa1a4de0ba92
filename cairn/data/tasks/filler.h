// What tasks of long contexts share: sentences that matter, in order, spread over words that do
// not.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "cairn/data/tasks/split_mix.h"

namespace cairn {

using Sentence = std::vector<int32_t>;

inline size_t token_count(const std::vector<Sentence>& sentences) {
  size_t count = 0;
  for (const Sentence& sentence : sentences) count += sentence.size();
  return count;
}

// Fills `tokens` with the sentences in their order and words first_word ... first_word + words - 1
// before, between and behind them, any place being as likely as another. Draws: a place for each
// sentence, then the words. tokens.size() must be at least token_count(sentences).
inline void spread_over_filler(SplitMix64& random, const std::vector<Sentence>& sentences,
                               int32_t first_word, size_t words, std::span<int32_t> tokens) {
  const size_t filler = tokens.size() - token_count(sentences);
  std::vector<size_t> places(sentences.size());  // filler words before each
  for (size_t& place : places) place = random.below(filler + 1);
  std::sort(places.begin(), places.end());
  size_t at = 0, written = 0;
  const auto fill = [&](size_t until) {
    for (; written < until; ++written)
      tokens[at++] = first_word + static_cast<int32_t>(random.below(words));
  };
  for (size_t i = 0; i < sentences.size(); ++i) {
    fill(places[i]);
    for (const int32_t token : sentences[i]) tokens[at++] = token;
  }
  fill(filler);
}

}  // namespace cairn
