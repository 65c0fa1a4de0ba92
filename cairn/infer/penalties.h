// Changes of logits by what was said before: bias, and penalties of repetition.
//   repetition r (Keskar et al. 2019, arXiv:1909.05858): a positive logit of a token in the window
//     is divided by r, a negative one multiplied;
//   presence, frequency (OpenAI): less presence, and less frequency times its count in the window;
//   DRY ("don't repeat yourself", P. Weidmann 2024): where the last n tokens stood before and a
//     token followed them then, that token's logit loses multiplier * base^(n - allowed_length)
//     once n, the longest such n, reaches allowed_length. No such run holds a breaker, nor is a
//     breaker penalised.
// All are pure functions of the history: nothing has to be rolled back with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace cairn {

struct SamplingOptions;

struct LogitBias {
  int32_t id;
  double bias;  // added to the logit; -infinity excludes the token
};

class Penalties {
 public:
  // Throws Error (usage) for a bias of an unknown token, or one that is NaN or +infinity.
  Penalties(const SamplingOptions& options, size_t vocab_size);

  // How many logits apply() changes at most behind a history of so many tokens; SIZE_MAX when it
  // may raise one.
  static size_t most_lowered(size_t history, const SamplingOptions& options);

  // Changes logits [vocab_size] by what `history` holds. Ids outside the vocabulary count for
  // nothing. Allocates only when the history grows beyond all before it.
  void apply(std::span<const int32_t> history, const SamplingOptions& options,
             std::span<float> logits);

 private:
  void penalize_window(std::span<const int32_t> history, const SamplingOptions& options,
                       std::span<float> logits);
  void penalize_sequences(std::span<const int32_t> history, const SamplingOptions& options,
                          std::span<float> logits);

  std::vector<uint32_t> counts_;  // by token; 0 between calls
  std::vector<bool> breaker_;     // by token
  std::vector<uint32_t> common_;  // penalize_sequences: lengths of common ends
};

}  // namespace cairn
