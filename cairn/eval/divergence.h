// How far a model's predictions are from those of another, token by token: what quantising or
// distilling a model has cost. Per token KL(p || q) = sum_i p_i ln(p_i / q_i) in nats, p being the
// reference's distribution and q the model's (Kullback and Leibler 1951).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "cairn/base/thread_team.h"
#include "cairn/data/evaluation_windows.h"
#include "cairn/infer/engine.h"
#include "cairn/tensor/view.h"

namespace cairn {

struct DivergenceScore {
  uint64_t tokens = 0;
  double mean = 0;            // of the KL divergences
  double standard_error = 0;  // of that mean, as if tokens were independent
  double median = 0, percentile_90 = 0, percentile_99 = 0, percentile_99_9 = 0, max = 0;
  double same_top = 0;  // share of tokens behind which both find the same one most likely
  // Root mean square of q(next) - p(next), the probabilities of the token that follows in the text.
  double rms_probability_change = 0;
  double perplexity = 0, reference_perplexity = 0;
};

// The divergences of a text as it is read. Keeps 8 bytes a token.
class Divergence {
 public:
  // Logits of both behind the same tokens, [tokens, vocab_size], and the tokens that follow; those
  // of kIgnoredTarget are left out. Sums are in double and in the tokens' order, so the same for
  // any number of threads. Throws Error: usage when shapes disagree, data when the logits of a
  // token are not finite.
  void add(View2<const float> reference, View2<const float> model, std::span<const int32_t> next,
           ThreadTeam& team);

  // Zeros as long as nothing was added.
  DivergenceScore score() const;

 private:
  struct Token {
    double divergence, probability_change, nats, reference_nats;
    bool same_top;
  };
  static Token compare(View1<const float> reference, View1<const float> model, int32_t next);

  std::vector<Token> scratch_;
  std::vector<double> divergences_;
  double squared_change_ = 0, nats_ = 0, reference_nats_ = 0;
  uint64_t same_top_ = 0;
};

// Reads the first `limit` windows (0: all) with both, a few tokens at a time: memory is that of the
// models and of some rows of logits. Both sessions must be free for this and hold a window.
// `done`, when given, hears the number of tokens scored. Throws what they throw, and Error (usage)
// when their vocabularies differ.
DivergenceScore score_divergence(const EvaluationWindows& windows, uint64_t limit,
                                 Session& reference, Session& model, ThreadTeam& team,
                                 const std::function<void(uint64_t tokens)>& done = {});

}  // namespace cairn
