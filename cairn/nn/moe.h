// A mixture of experts on the tape (Shazeer et al. 2017, arXiv:1701.06538; as in GraniteMoe, Shen
// et al. 2024, arXiv:2408.13359): each token passes through the k experts of the highest router
// logits,
//   out[t] = sum over chosen e of p[t, e] * Wdown_e (act(Wgate_e x[t]) * Wup_e x[t]),
// where p is the softmax over the chosen logits alone.
//
// The load-balancing loss (Fedus et al. 2021, arXiv:2101.03961, equations 4 to 6, over the tokens
// of all layers together as transformers has it) is
//   L = E * sum_e f_e P_e,
// f_e the share of tokens that chose e (they sum to k), P_e the mean of the softmax over all E
// logits. Its gradient joins that of the cross-entropy with a weight; the reported loss is without.
//
// Rows of tokens are gathered expert by expert and worked through in blocks of 64; which rows
// make a block depends on the tokens alone, so results are the same for any number of threads.
#pragma once

#include <memory>
#include <vector>

#include "cairn/autograd/operations.h"

namespace cairn {

struct MoeOptions {
  Gate gate = Gate::silu;
  size_t experts = 0;
  size_t experts_per_token = 0;
  double router_loss = 0;  // weight of the load-balancing loss against the mean cross-entropy
};

// How often each expert was chosen in the last forward pass, layer by layer: what the layers of a
// model must know of each other for the load-balancing loss.
struct RouterCounts {
  RouterCounts(size_t layers, size_t experts)
      : layers(layers), experts(experts), chosen(layers * experts) {}
  // Share of tokens of all layers that chose `expert`.
  double share(size_t expert) const;

  size_t layers, experts, tokens = 0;
  std::vector<size_t> chosen;  // [layers, experts]
};

struct MoeWeights {
  WeightRef router;   // [experts, hidden_size]
  WeightRef gate_up;  // [experts * 2 * intermediate_size, hidden_size], gates before ups in each
  WeightRef down;     // [experts * hidden_size, intermediate_size]
};

// In the compute type. `x`'s gradient must be f32, a norm's. `inputs` must outlive the tape.
Value mixture_of_experts(Recorder& recorder, const MoeOptions& options, const TokenInputs& inputs,
                         const std::shared_ptr<RouterCounts>& counts, size_t layer, Value x,
                         const MoeWeights& weights);

}  // namespace cairn
