// Which token is said where one was proposed. With p the model's distribution after all filters and
// q the proposer's, the proposed x is accepted with probability min(1, p(x) / q(x)); otherwise the
// token is drawn from max(p - q, 0), renormalised (arXiv:2211.17192, section 2.3). Either way its
// distribution is p.
//
// For a proposer that draws nothing, q(x) = 1, that is the same as drawing from p and accepting
// when the draw is x: with one random point a position, the text is then the same token by token
// as without proposals.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "cairn/infer/sampler.h"
#include "cairn/infer/speculation/proposer.h"

namespace cairn {

// `draw` and `accept`: independent, uniform in [0, 1), of this position alone. `q` is empty for a
// proposer that draws nothing. The proposal was accepted when the answer equals it.
int32_t decide_token(const TokenDistribution& p, int32_t proposed,
                     std::span<const TokenProbability> q, double draw, double accept);

// How many tokens to propose: as many as give the most tokens for the time, going by how often
// proposals of each kind were accepted and by what a pass of n tokens took. The choice changes the
// speed alone, never the text.
class ProposalLength {
 public:
  explicit ProposalLength(size_t most) : most_(most) {}

  // For the next proposal, of the kind that came last; 0: not now.
  size_t next(size_t kind);
  // What became of a proposal.
  void record(size_t kind, size_t proposed, size_t accepted);
  // A pass over `tokens` tokens took so long.
  void record_pass(size_t tokens, double seconds);

 private:
  size_t most_;
  double acceptance_[Proposal::kKinds] = {0.6, 0.6, 0.6, 0.6};
  size_t skipped_[Proposal::kKinds] = {};
  double single_seconds_ = 0;    // of a pass over one token; 0: not known
  double cost_of_token_ = 0.05;  // of one more token, in passes over one
};

}  // namespace cairn
