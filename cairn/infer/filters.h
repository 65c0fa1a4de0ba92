// The filters of sampling: each takes candidates away. All leave what they keep in rising order of
// ids, keep at least one, and break ties in favour of lower ids.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cairn/infer/top_logits.h"

namespace cairn {

// Memory that filters reuse; reserve() makes them allocate nothing.
struct FilterScratch {
  struct Ranked {
    float key;  // lower comes first
    uint32_t index;
  };
  std::vector<float> weights;
  std::vector<Ranked> ranked;

  void reserve(size_t candidates);
};

// Tokens whose logit is at least the highest less `n` standard deviations of all candidates' logits
// (top-n-sigma, Tang et al. 2024, arXiv:2411.07641).
void keep_top_n_sigma(std::vector<Candidate>& candidates, double n);

// The k highest logits; straight from logits: TopLogits.
void keep_top_k(std::vector<Candidate>& candidates, size_t k);

// Locally typical sampling (Meister et al. 2022, arXiv:2202.00666): the tokens whose surprise
// -log p is nearest to the entropy, until their probabilities sum to at least `p`.
void keep_typical(std::vector<Candidate>& candidates, double p, FilterScratch& scratch);

// Nucleus sampling (Holtzman et al. 2020, arXiv:1904.09751): in falling order, the shortest run of
// tokens whose probabilities sum to at least `p`.
void keep_top_p(std::vector<Candidate>& candidates, double p, FilterScratch& scratch);

// Tokens at least `p` times as probable as the most probable one (Nguyen et al. 2024,
// arXiv:2407.01082).
void keep_min_p(std::vector<Candidate>& candidates, double p);

// "Exclude top choices": where several tokens have at least probability `threshold`, only the least
// probable of these stays, and all below (the sampler of that name, whose author is P. Weidmann).
void exclude_top_choices(std::vector<Candidate>& candidates, double threshold,
                         FilterScratch& scratch);

// weights[i] = exp((logit_i - highest) / temperature), temperature > 0; returns their sum.
double softmax_weights(const std::vector<Candidate>& candidates, double temperature,
                       std::vector<float>& weights);

}  // namespace cairn
