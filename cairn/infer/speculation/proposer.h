// Speculative decoding (Leviathan et al. 2023, arXiv:2211.17192; Chen et al. 2023,
// arXiv:2302.01318): somebody cheap proposes the next tokens, the model reads them in one pass and
// keeps those that it would have said itself. What comes out is what the model alone would say.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace cairn {

// The probability of one token.
struct TokenProbability {
  int32_t id;
  double probability;
};

struct Proposal {
  std::vector<int32_t> tokens;
  // For each token the distribution that it was drawn from, by rising ids. Empty when the proposer
  // draws nothing: then every token has probability 1.
  std::vector<std::vector<TokenProbability>> drawn_from;
  // How the proposer came to it, in [0, kKinds): acceptance is estimated for each kind.
  static constexpr size_t kKinds = 4;
  size_t kind = 0;

  void clear() {
    tokens.clear();
    drawn_from.clear();
    kind = 0;
  }
};

// One text at a time; not thread-safe.
class Proposer {
 public:
  virtual ~Proposer() = default;
  // Proposes at most `most` tokens to follow `history`, which only ever holds tokens that were
  // accepted; none when there is nothing to propose. Any history may come: a proposer that keeps
  // state finds out by itself what of it still holds.
  virtual void propose(std::span<const int32_t> history, size_t most, Proposal& proposal) = 0;
};

}  // namespace cairn
