// What a sampler draws from, behind a text that goes on: reads tokens and asks the head only for
// what decides the draw, which is mostly a short list (Sampler::needed_logits) and else all logits.
// Both give the same distribution, to the bit.
//
//   NextTokens next(sampling, vocab_size);
//   next.read(session, prompt);
//   int32_t id = next.draw(session.tokens());
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cairn/infer/engine.h"
#include "cairn/infer/sampler.h"
#include "cairn/infer/token_mask.h"
#include "cairn/infer/top_logits.h"
#include "cairn/tensor/tensor.h"

namespace cairn {

// Not thread-safe.
class NextTokens {
 public:
  // Draws ids below `vocab_size`, at most the model's. `all_logits`: whether logits() is wanted.
  // Throws what Sampler throws.
  NextTokens(const SamplingOptions& sampling, size_t vocab_size, bool all_logits = false);

  // Reads tokens behind those of a session. What may follow is then known behind the last
  // allowed.size() of them, places 0, 1, ...: all tokens, or one. `allowed` are the ids that may
  // follow, null for all; what it points to must live until the last question about this read.
  // Throws what Session::append throws. Allocates only what is more than at any time before.
  void read(Session& session, std::span<const int32_t> tokens,
            std::span<const TokenMask* const> allowed);
  // The same for the last token, behind which any id may follow.
  void read(Session& session, std::span<const int32_t> tokens);

  // Of the token behind a place; `history` ends with that place's token. Throws what
  // Sampler::distribution throws.
  TokenDistribution distribution(size_t place, std::span<const int32_t> history);
  // The token behind the last place, and so behind `history`.
  int32_t draw(std::span<const int32_t> history);
  // All logits of a place [vocab_size], where they were wanted.
  View1<const float> logits(size_t place);
  const Sampler& sampler() const { return sampler_; }

 private:
  // How many of the highest logits decide at every place of a text that is then `length` long.
  size_t needed(size_t length) const;

  size_t vocab_size_;
  bool all_logits_;
  Sampler sampler_;
  bool listed_ = false;                    // of the last read: best_, or else logits_
  std::vector<const TokenMask*> allowed_;  // by place
  std::vector<TopLogits> best_;            // by place
  Tensor logits_;                          // [places, the model's vocab_size]
};

}  // namespace cairn
