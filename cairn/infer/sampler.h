// Choosing the next token from logits. The steps, in the order that users of llama.cpp expect:
//   1. the mask of a constraint: tokens outside it are out;
//   2. logit bias; penalties of repetition, presence, frequency and repeated sequences (DRY)
//      (penalties.h);
//   3. top-n-sigma, top-k, typical, top-p, min-p, XTC (filters.h), each on what the one before has
//      left, renormalised;
//   4. temperature: logits / T;
//   5. one draw from what is left, renormalised.
// T = 0 is greedy: the highest logit after step 2, of equal ones the lowest id.
//
// Greedy sampling, and top-k where no filter comes before it, look at few of the logits: the k
// highest after step 2. Where step 2 lowers at most m tokens and raises none, these are among the
// k + m highest before it, as each of the others has k tokens ahead of it that stay as they were.
// Who knows those few needs no other logits (needed_logits).
//
// Every draw at a position is a pure function of (seed, position): the same seed gives the same
// text, also when generation is split, forked, resumed or rolled back, and for any thread count.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cairn/base/random.h"
#include "cairn/infer/filters.h"
#include "cairn/infer/penalties.h"
#include "cairn/infer/token_mask.h"
#include "cairn/infer/top_logits.h"
#include "cairn/tensor/view.h"

namespace cairn {

struct SamplingOptions {
  double temperature = 1;
  int64_t top_k = 0;               // 0: all
  double top_p = 1;                // 1: all
  double min_p = 0;                // 0: all
  double repetition_penalty = 1;   // 1: none
  int64_t repetition_window = 64;  // tokens that the three penalties look back; 0: all
  uint64_t seed = 0;
  double presence_penalty = 0, frequency_penalty = 0;  // 0: none
  double typical_p = 1;                                // 1: all
  double top_n_sigma = 0;                              // 0: all
  double xtc_probability = 0;                          // 0: never
  double xtc_threshold = 0.1;
  double dry_multiplier = 0;  // 0: none
  double dry_base = 1.75;
  int64_t dry_allowed_length = 2;
  int64_t dry_window = 0;             // tokens looked back; 0: all
  std::vector<int32_t> dry_breakers;  // tokens over which no repeated sequence goes
  std::vector<LogitBias> logit_bias;
};

// What may be drawn: tokens in rising order of ids, none twice, with weights that need not sum to
// 1. Borrows the sampler that made it, until its next call.
struct TokenDistribution {
  std::span<const Candidate> candidates;
  std::span<const float> weights;  // by candidate, none negative
  double total = 0;                // their sum, above 0

  double probability(int32_t id) const;
  // The token at `point`, uniform in [0, 1), of the cumulative distribution.
  int32_t at(double point) const;
};

class Sampler {
 public:
  // Throws Error (usage) naming the option outside its range.
  Sampler(const SamplingOptions& options, size_t vocab_size);

  // The token after `history` (prompt and everything generated), whose length is the position.
  // -infinity excludes a token, and so does a mask that does not hold it. Throws Error (data) when
  // a logit is NaN or +infinity or nothing is left. Allocates nothing. Not thread-safe: it has
  // scratch.
  int32_t sample(View1<const float> logits, std::span<const int32_t> history,
                 const TokenMask* allowed = nullptr);
  // What sample() draws from, at point random(position).
  TokenDistribution distribution(View1<const float> logits, std::span<const int32_t> history,
                                 const TokenMask* allowed = nullptr);
  // The same from the highest logits of the tokens that are allowed: the needed_logits() highest or
  // more, in rising order of ids. Throws as with all logits.
  TokenDistribution distribution(const TopLogits& logits, std::span<const int32_t> history);
  // How many of the highest logits of the tokens that are allowed decide what may be drawn at a
  // position: at most as many as there are tokens.
  size_t needed_logits(uint64_t position, const TokenMask* allowed = nullptr) const;
  // The point of the cumulative distribution that is drawn at a position.
  double random(uint64_t position) const { return random_.uniform(position); }

  const SamplingOptions& options() const { return options_; }

 private:
  // Greedy sampling is top-k of 1. 0: all.
  size_t top_k() const {
    return options_.temperature == 0 ? 1 : static_cast<size_t>(options_.top_k);
  }
  bool top_k_is_first() const { return options_.temperature == 0 || options_.top_n_sigma == 0; }
  void gather(const TokenMask* allowed);
  // Makes a token a candidate, unless it is excluded.
  void take(int32_t id);
  void filter(uint64_t position);
  // Of the candidates.
  TokenDistribution filtered(uint64_t position);

  SamplingOptions options_;
  RandomStream random_, xtc_random_;
  Penalties penalties_;
  std::vector<float> logits_;  // after step 2, of all tokens or of those that were given
  TopLogits top_;
  std::vector<Candidate> candidates_;
  std::vector<float> weights_;  // by candidate
  FilterScratch scratch_;
};

}  // namespace cairn
