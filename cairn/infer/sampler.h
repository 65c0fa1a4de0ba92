// Choosing the next token from logits. The steps, in this order (that of Hugging Face
// transformers):
//   1. repetition penalty r > 1 (Keskar et al. 2019, arXiv:1909.05858): the logit of every token
//      among the last `repetition_window` is divided by r when positive, multiplied when negative;
//   2. temperature T: logits / T. T = 0 is greedy: the highest logit, of equal ones the lowest id,
//      and steps 3 to 6 do not happen;
//   3. top-k: the k highest logits (of equal ones the lowest ids); 0 keeps all;
//   4. top-p (Holtzman et al. 2020, arXiv:1904.09751): in falling order, the shortest run of tokens
//      whose probabilities, renormalised after step 3, sum to at least p; 1 keeps all;
//   5. min-p (Nguyen et al. 2024, arXiv:2407.01082): tokens at least min_p times as probable as the
//      most probable one; 0 keeps all;
//   6. one draw from what is left, renormalised.
// The draw at a position is a pure function of (seed, position): the same seed gives the same text,
// also when generation is split, forked or resumed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cairn/base/random.h"
#include "cairn/tensor/view.h"

namespace cairn {

struct SamplingOptions {
  double temperature = 1;
  int64_t top_k = 0;
  double top_p = 1;
  double min_p = 0;
  double repetition_penalty = 1;
  int64_t repetition_window = 64;  // tokens; 0: all
  uint64_t seed = 0;
};

class Sampler {
 public:
  // Throws Error (usage) naming the option outside its range: temperature >= 0, top_k >= 0,
  // top_p in (0, 1], min_p in [0, 1], repetition_penalty > 0, repetition_window >= 0.
  Sampler(const SamplingOptions& options, size_t vocab_size);

  // The token after `history` (prompt and everything generated), whose length is the position.
  // -infinity excludes a token. Throws Error (data) when a logit is NaN or +infinity or all are
  // -infinity. Allocates nothing. Not thread-safe: it has scratch.
  int32_t sample(View1<const float> logits, std::span<const int32_t> history);

  const SamplingOptions& options() const { return options_; }

 private:
  struct Candidate {
    float logit;
    int32_t id;
  };
  void penalize(std::span<const int32_t> history);
  // Leaves in candidates_ what steps 2 to 5 keep, with weights_ to draw by.
  void keep_top_k();
  void weigh();
  void keep_top_p();
  void keep_min_p();
  int32_t draw(uint64_t position) const;

  SamplingOptions options_;
  RandomStream random_;
  std::vector<float> logits_;
  std::vector<bool> seen_;
  std::vector<Candidate> candidates_;
  std::vector<float> weights_;  // exp(logit / T - highest), by candidate
};

}  // namespace cairn
