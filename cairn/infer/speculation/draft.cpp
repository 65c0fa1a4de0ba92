#include "cairn/infer/speculation/draft.h"

#include <fmt/core.h>

#include <algorithm>

#include "cairn/base/error.h"
#include "cairn/base/hash.h"

namespace cairn {
namespace {

// Draws must not follow the large model's: acceptance rests on their independence.
SamplingOptions own_streams(SamplingOptions options) {
  options.seed = hash64("draft", options.seed);
  return options;
}

void check_vocabulary(const Tokenizer& draft, const Tokenizer& target) {
  std::string found;
  if (draft.vocab_size() != target.vocab_size())
    found = fmt::format("{} tokens instead of {}", draft.vocab_size(), target.vocab_size());
  for (size_t i = 0; found.empty() && i < target.vocab_size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    if (draft.token_bytes(id) != target.token_bytes(id))
      found = fmt::format("another token {}", id);
  }
  if (!found.empty())
    throw Error({.kind = ErrorKind::usage,
                 .doing = "preparing the draft model",
                 .expected = "the vocabulary of the model itself",
                 .found = found});
}

}  // namespace

DraftProposer::DraftProposer(TextModel& draft, const Tokenizer& tokenizer,
                             const SamplingOptions& sampling)
    : draft_(draft),
      session_(draft.engine().start()),
      next_(own_streams(sampling),
            std::min(draft.engine().config().vocab_size, tokenizer.vocab_size())) {
  check_vocabulary(draft.tokenizer(), tokenizer);
}

void DraftProposer::catch_up(std::span<const int32_t> history) {
  const std::span<const int32_t> known = session_.tokens();
  const auto end = std::mismatch(known.begin(), known.end(), history.begin(), history.end()).first;
  // At least the last token is read, for its logits.
  const size_t common = std::min(static_cast<size_t>(end - known.begin()), history.size() - 1);
  next_.read(session_, history.subspan(session_.keep(common)));
}

void DraftProposer::propose(std::span<const int32_t> history, size_t most, Proposal& proposal) {
  proposal.clear();
  if (history.empty() || history.size() > draft_.engine().context() || most == 0) return;
  const bool draws = next_.sampler().options().temperature > 0;
  catch_up(history);
  while (true) {
    const TokenDistribution q = next_.distribution(0, session_.tokens());
    const int32_t id = q.at(next_.sampler().random(session_.length()));
    proposal.tokens.push_back(id);
    if (draws) {
      std::vector<TokenProbability>& drawn_from = proposal.drawn_from.emplace_back();
      for (size_t i = 0; i < q.candidates.size(); ++i)
        drawn_from.push_back({q.candidates[i].id, q.weights[i] / q.total});
    }
    if (proposal.tokens.size() == most || session_.room() == 0) return;
    next_.read(session_, {&id, 1});
  }
}

}  // namespace cairn
