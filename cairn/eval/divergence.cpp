#include "cairn/eval/divergence.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "cairn/base/error.h"
#include "cairn/tensor/shape.h"
#include "cairn/tensor/tensor.h"

namespace cairn {
namespace {

// Tokens that go through both models together; their logits are in memory twice.
constexpr size_t kTogether = 128;

// The value below which `share` of the sorted values lie, between neighbours by its fraction.
double percentile(const std::vector<double>& sorted, double share) {
  const double at = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

}  // namespace

// With x, y the logits of both and S, T the sums of their exponentials: KL is the mean of x - y
// under the reference, less ln S - ln T. One pass, in double, from the largest logits down.
Divergence::Token Divergence::compare(View1<const float> reference, View1<const float> model,
                                      int32_t next) {
  const float* const top = std::max_element(reference.begin(), reference.end());
  const float* const model_top = std::max_element(model.begin(), model.end());
  const auto most = static_cast<double>(*top), model_most = static_cast<double>(*model_top);
  double sum = 0, model_sum = 0, difference = 0;
  for (size_t i = 0; i < reference.size; ++i) {
    const double x = static_cast<double>(reference[i]) - most;
    const double y = static_cast<double>(model[i]) - model_most;
    const double weight = std::exp(x);
    sum += weight;
    model_sum += std::exp(y);
    difference += weight * (x - y);
  }
  const auto at = static_cast<size_t>(next);
  const double log_sum = std::log(sum), model_log_sum = std::log(model_sum);
  const double nats = model_log_sum + model_most - static_cast<double>(model[at]);
  const double reference_nats = log_sum + most - static_cast<double>(reference[at]);
  return {.divergence = difference / sum - (log_sum - model_log_sum),
          .probability_change = std::exp(-nats) - std::exp(-reference_nats),
          .nats = nats,
          .reference_nats = reference_nats,
          .same_top = top - reference.begin() == model_top - model.begin()};
}

void Divergence::add(View2<const float> reference, View2<const float> model,
                     std::span<const int32_t> next, ThreadTeam& team) {
  constexpr const char* kDoing = "comparing predictions";
  check_shape(kDoing, "model", {reference.rows, reference.cols}, {model.rows, model.cols});
  check_shape(kDoing, "next", {reference.rows}, {next.size()});
  for (const int32_t token : next)
    if (token != kIgnoredTarget && (token < 0 || static_cast<size_t>(token) >= reference.cols))
      throw Error({.kind = ErrorKind::usage,
                   .doing = kDoing,
                   .subject = "next",
                   .expected = "tokens below " + std::to_string(reference.cols),
                   .found = std::to_string(token)});
  scratch_.resize(next.size());
  team.run(next.size(), [&](size_t t, int /*thread*/) {
    if (next[t] != kIgnoredTarget) scratch_[t] = compare(reference[t], model[t], next[t]);
  });
  for (size_t t = 0; t < next.size(); ++t) {
    if (next[t] == kIgnoredTarget) continue;
    const Token& token = scratch_[t];
    if (!std::isfinite(token.divergence))
      throw Error({.kind = ErrorKind::data,
                   .doing = kDoing,
                   .subject = "token " + std::to_string(divergences_.size()) + " scored",
                   .expected = "finite logits of both models",
                   .found = "a divergence of " + std::to_string(token.divergence)});
    divergences_.push_back(std::max(token.divergence, 0.0));  // below 0 by rounding only
    squared_change_ += token.probability_change * token.probability_change;
    nats_ += token.nats;
    reference_nats_ += token.reference_nats;
    same_top_ += token.same_top ? 1 : 0;
  }
}

DivergenceScore Divergence::score() const {
  DivergenceScore score;
  if (divergences_.empty()) return score;
  const auto count = static_cast<double>(divergences_.size());
  score.tokens = divergences_.size();
  score.mean = std::accumulate(divergences_.begin(), divergences_.end(), 0.0) / count;
  double squares = 0;
  for (const double value : divergences_) squares += (value - score.mean) * (value - score.mean);
  if (count > 1) score.standard_error = std::sqrt(squares / (count - 1) / count);
  std::vector<double> sorted = divergences_;
  std::sort(sorted.begin(), sorted.end());
  score.median = percentile(sorted, 0.5);
  score.percentile_90 = percentile(sorted, 0.9);
  score.percentile_99 = percentile(sorted, 0.99);
  score.percentile_99_9 = percentile(sorted, 0.999);
  score.max = sorted.back();
  score.same_top = static_cast<double>(same_top_) / count;
  score.rms_probability_change = std::sqrt(squared_change_ / count);
  score.perplexity = std::exp(nats_ / count);
  score.reference_perplexity = std::exp(reference_nats_ / count);
  return score;
}

DivergenceScore score_divergence(const EvaluationWindows& windows, uint64_t limit,
                                 Session& reference, Session& model, ThreadTeam& team,
                                 const std::function<void(uint64_t tokens)>& done) {
  const size_t vocab = model.config().vocab_size;
  if (reference.config().vocab_size != vocab)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "comparing predictions",
                 .subject = "the reference",
                 .expected = "a vocabulary of " + std::to_string(vocab) + ", as the model has",
                 .found = std::to_string(reference.config().vocab_size)});
  Tensor reference_logits(DType::f32, Shape{kTogether, vocab});
  Tensor logits(DType::f32, Shape{kTogether, vocab});
  Divergence divergence;
  const uint64_t end = limit == 0 ? windows.size() : std::min(limit, windows.size());
  for (uint64_t window = 0; window < end; ++window) {
    const Batch batch = windows.batch(window, 1);
    const std::span<const int32_t> tokens(batch.tokens), next(batch.targets);
    reference.truncate(0);
    model.truncate(0);
    for (size_t at = 0; at < tokens.size(); at += kTogether) {
      const size_t count = std::min(kTogether, tokens.size() - at);
      const View2<float> p = reference_logits.matrix<float>().rows_slice(0, count);
      const View2<float> q = logits.matrix<float>().rows_slice(0, count);
      reference.append(tokens.subspan(at, count), p);
      model.append(tokens.subspan(at, count), q);
      divergence.add(p, q, next.subspan(at, count), team);
    }
    if (done) done(batch.target_count());
  }
  return divergence.score();
}

}  // namespace cairn
