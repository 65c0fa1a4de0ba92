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
  // The point of the cumulative distribution that is drawn at a position.
  double random(uint64_t position) const { return random_.uniform(position); }

  const SamplingOptions& options() const { return options_; }

 private:
  void gather(const TokenMask* allowed);
  void filter(uint64_t position);

  SamplingOptions options_;
  RandomStream random_, xtc_random_;
  Penalties penalties_;
  std::vector<float> logits_;
  std::vector<Candidate> candidates_;
  std::vector<float> weights_;  // by candidate
  FilterScratch scratch_;
};

}  // namespace cairn
