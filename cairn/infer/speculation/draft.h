// A smaller model with the same vocabulary proposes. It samples by the same settings as the large
// one, from random streams of its own.
#pragma once

#include "cairn/infer/engine.h"
#include "cairn/infer/next_tokens.h"
#include "cairn/infer/sampler.h"
#include "cairn/infer/speculation/proposer.h"
#include "cairn/infer/text_model.h"

namespace cairn {

class DraftProposer final : public Proposer {
 public:
  // Borrows the draft. Throws Error (usage) when its tokens are not those of `tokenizer`.
  DraftProposer(TextModel& draft, const Tokenizer& tokenizer, const SamplingOptions& sampling);

  // Proposes nothing once the draft's context is full.
  void propose(std::span<const int32_t> history, size_t most, Proposal& proposal) override;

 private:
  // Brings the session to `history`.
  void catch_up(std::span<const int32_t> history);

  TextModel& draft_;
  Session session_;
  NextTokens next_;
};

}  // namespace cairn
