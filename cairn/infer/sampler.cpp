#include "cairn/infer/sampler.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "cairn/base/error.h"
#include "cairn/kernels/elementwise.h"
#include "cairn/tensor/shape.h"

namespace cairn {
namespace {

void check_option(const char* name, bool good, double found, const char* expected) {
  if (good) return;
  throw Error({.kind = ErrorKind::usage,
               .doing = "preparing to sample",
               .subject = name,
               .expected = expected,
               .found = fmt::format("{}", found)});
}

void check_options(const SamplingOptions& o) {
  check_option("temperature", o.temperature >= 0 && std::isfinite(o.temperature), o.temperature,
               "0 (greedy) or more");
  check_option("top_k", o.top_k >= 0, static_cast<double>(o.top_k), "0 (all) or more");
  check_option("top_p", o.top_p > 0 && o.top_p <= 1, o.top_p, "above 0, to 1 (all)");
  check_option("min_p", o.min_p >= 0 && o.min_p <= 1, o.min_p, "0 (all) to 1");
  check_option("repetition_penalty",
               o.repetition_penalty > 0 && std::isfinite(o.repetition_penalty),
               o.repetition_penalty, "above 0 (1: none)");
  check_option("repetition_window", o.repetition_window >= 0,
               static_cast<double>(o.repetition_window), "0 (all) or more");
}

[[noreturn]] void refuse_logits(const std::string& found) {
  throw Error({.kind = ErrorKind::data,
               .doing = "sampling the next token",
               .subject = "logits",
               .expected = "numbers, at least one above -infinity",
               .found = found,
               .hint = "the model's weights are damaged or its training has diverged"});
}

// The id of the highest logit; refuses logits from which nothing can be drawn.
size_t checked_maximum(View1<const float> logits) {
  size_t best = 0;
  bool finite = false;
  for (size_t id = 0; id < logits.size; ++id) {
    const float logit = logits[id];
    if (std::isnan(logit) || logit == std::numeric_limits<float>::infinity())
      refuse_logits(fmt::format("{} for token {}", logit, id));
    finite = finite || std::isfinite(logit);
    if (logit > logits[best]) best = id;
  }
  if (!finite) refuse_logits("-infinity for every token");
  return best;
}

}  // namespace

Sampler::Sampler(const SamplingOptions& options, size_t vocab_size)
    : options_(options),
      random_(options.seed, "sampler"),
      logits_(vocab_size),
      seen_(vocab_size),
      candidates_(vocab_size),
      weights_(vocab_size) {
  check_options(options);
}

int32_t Sampler::sample(View1<const float> logits, std::span<const int32_t> history) {
  check_shape("sample", "logits", {logits_.size()}, {logits.size});
  std::copy(logits.begin(), logits.end(), logits_.begin());
  if (options_.repetition_penalty != 1) penalize(history);
  const size_t best = checked_maximum({logits_.data(), logits_.size()});
  if (options_.temperature == 0) return static_cast<int32_t>(best);

  candidates_.resize(logits_.size());
  for (size_t id = 0; id < logits_.size(); ++id)
    candidates_[id] = {logits_[id], static_cast<int32_t>(id)};
  keep_top_k();
  weigh();
  keep_top_p();
  keep_min_p();
  return draw(history.size());
}

void Sampler::penalize(std::span<const int32_t> history) {
  const auto window = static_cast<size_t>(options_.repetition_window);
  if (window > 0 && history.size() > window) history = history.last(window);
  const auto penalty = static_cast<float>(options_.repetition_penalty);
  for (const int32_t token : history) {
    const auto id = static_cast<size_t>(token);
    if (token < 0 || id >= logits_.size() || seen_[id]) continue;
    seen_[id] = true;
    logits_[id] = logits_[id] > 0 ? logits_[id] / penalty : logits_[id] * penalty;
  }
  for (const int32_t token : history)
    if (token >= 0 && static_cast<size_t>(token) < seen_.size()) seen_[token] = false;
}

void Sampler::keep_top_k() {
  const auto k = static_cast<size_t>(options_.top_k);
  if (k == 0 || k >= candidates_.size()) return;
  const auto before = [](const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
  };
  std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<ptrdiff_t>(k),
                   candidates_.end(), before);
  candidates_.resize(k);
  // Back in the order of ids, so that the draw does not depend on how the selection shuffled them.
  std::sort(candidates_.begin(), candidates_.end(),
            [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
}

void Sampler::weigh() {
  float highest = -std::numeric_limits<float>::infinity();
  for (const Candidate& c : candidates_) highest = std::max(highest, c.logit);
  weights_.resize(candidates_.size());
  // The highest is taken off first: a tiny temperature may then not overflow.
  for (size_t i = 0; i < candidates_.size(); ++i)
    weights_[i] = static_cast<float>((static_cast<double>(candidates_[i].logit) - highest) /
                                     options_.temperature);
  exp_minus({weights_.data(), weights_.size()}, 0);
}

void Sampler::keep_top_p() {
  if (options_.top_p >= 1) return;
  // A heap gives the tokens in falling order without sorting the long tail. The logit is no longer
  // needed and makes room for the weight.
  for (size_t i = 0; i < candidates_.size(); ++i) candidates_[i].logit = weights_[i];
  const auto after = [](const Candidate& a, const Candidate& b) {
    return a.logit < b.logit || (a.logit == b.logit && a.id > b.id);
  };
  const double total = std::accumulate(weights_.begin(), weights_.end(), 0.0);
  const double enough = options_.top_p * total;
  std::make_heap(candidates_.begin(), candidates_.end(), after);
  double sum = 0;
  auto end = candidates_.end();
  while (end != candidates_.begin() && sum < enough) {
    std::pop_heap(candidates_.begin(), end, after);
    sum += (--end)->logit;
  }
  candidates_.erase(candidates_.begin(), end);
  std::sort(candidates_.begin(), candidates_.end(),
            [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  weights_.resize(candidates_.size());
  for (size_t i = 0; i < candidates_.size(); ++i) weights_[i] = candidates_[i].logit;
}

void Sampler::keep_min_p() {
  if (options_.min_p <= 0) return;
  const auto least =
      static_cast<float>(options_.min_p) * *std::max_element(weights_.begin(), weights_.end());
  for (float& weight : weights_)
    if (weight < least) weight = 0;
}

int32_t Sampler::draw(uint64_t position) const {
  const double total = std::accumulate(weights_.begin(), weights_.end(), 0.0);
  const double point = random_.uniform(position) * total;
  double sum = 0;
  size_t last = 0;
  for (size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i] <= 0) continue;  // a token of weight 0 is never drawn
    sum += weights_[i];
    last = i;
    if (point < sum) break;
  }
  return candidates_[last].id;
}

}  // namespace cairn
