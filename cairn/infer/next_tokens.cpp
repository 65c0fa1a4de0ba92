#include "cairn/infer/next_tokens.h"

#include <algorithm>

namespace cairn {

NextTokens::NextTokens(const SamplingOptions& sampling, size_t vocab_size, bool all_logits)
    : vocab_size_(vocab_size), all_logits_(all_logits), sampler_(sampling, vocab_size) {}

void NextTokens::read(Session& session, std::span<const int32_t> tokens) {
  const TokenMask* any = nullptr;
  read(session, tokens, {&any, 1});
}

void NextTokens::read(Session& session, std::span<const int32_t> tokens,
                      std::span<const TokenMask* const> allowed) {
  allowed_.assign(allowed.begin(), allowed.end());
  const size_t places = allowed_.size();
  HeadRequest head{.k = needed(session.length() + tokens.size()), .ids = vocab_size_};
  if (std::any_of(allowed.begin(), allowed.end(), [](const TokenMask* m) { return m != nullptr; }))
    head.allowed = allowed_;
  const bool few = places <= HeadRequest::kMostPlaces;
  listed_ = few && !all_logits_ && head.k <= HeadRequest::kMostBest;
  if (listed_) {
    best_.resize(std::max(best_.size(), places));
    head.best = std::span(best_).first(places);
    return session.append(tokens, head);
  }
  if (logits_.shape().empty() || logits_.shape()[0] < places)
    logits_ = Tensor(DType::f32, {places, session.config().vocab_size});
  // Whoever wants the logits wants those of tokens that may not follow too.
  if (all_logits_) head = {};
  head.logits = logits_.matrix<float>().rows_slice(0, places);
  few ? session.append(tokens, head) : session.append(tokens, head.logits);
}

size_t NextTokens::needed(size_t length) const {
  size_t most = 1;
  for (size_t place = 0; place < allowed_.size(); ++place) {
    const size_t position = length - (allowed_.size() - 1 - place);
    most = std::max(most, sampler_.needed_logits(position, allowed_[place]));
  }
  return most;
}

TokenDistribution NextTokens::distribution(size_t place, std::span<const int32_t> history) {
  if (listed_) return sampler_.distribution(best_[place], history);
  return sampler_.distribution(logits(place).slice(0, vocab_size_), history, allowed_[place]);
}

int32_t NextTokens::draw(std::span<const int32_t> history) {
  return distribution(allowed_.size() - 1, history).at(sampler_.random(history.size()));
}

View1<const float> NextTokens::logits(size_t place) {
  return logits_.matrix<float>()[place];
}

}  // namespace cairn
