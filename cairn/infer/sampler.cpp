#include "cairn/infer/sampler.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "cairn/base/error.h"
#include "cairn/infer/sampling_settings.h"
#include "cairn/tensor/shape.h"

namespace cairn {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();
// Above this many, a heap of the best is slower than a selection.
constexpr size_t kHeapTopK = 512;

[[noreturn]] void refuse_logits(const std::string& found) {
  throw Error({.kind = ErrorKind::data,
               .doing = "sampling the next token",
               .subject = "logits",
               .expected = "numbers, at least one above -infinity",
               .found = found,
               .hint = "the model's weights are damaged or its training has diverged"});
}

[[noreturn]] void refuse_logit(float logit, size_t id) {
  refuse_logits(fmt::format("{} for token {}", logit, id));
}

void check_logits(View1<const float> logits) {
  bool finite = false, good = true;
  for (size_t id = 0; id < logits.size; ++id) {
    good = good && logits[id] < std::numeric_limits<float>::infinity();  // false for NaN
    finite = finite || logits[id] > kNever;
  }
  if (!good)
    for (size_t id = 0; id < logits.size; ++id)
      if (!(logits[id] < std::numeric_limits<float>::infinity())) refuse_logit(logits[id], id);
  if (!finite) refuse_logits("-infinity for every token");
}

}  // namespace

double TokenDistribution::probability(int32_t id) const {
  const auto found =
      std::lower_bound(candidates.begin(), candidates.end(), id,
                       [](const Candidate& c, int32_t wanted) { return c.id < wanted; });
  if (found == candidates.end() || found->id != id) return 0;
  return weights[static_cast<size_t>(found - candidates.begin())] / total;
}

int32_t TokenDistribution::at(double point) const {
  const double wanted = point * total;
  double sum = 0;
  size_t last = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] <= 0) continue;  // a token of weight 0 is never drawn
    sum += weights[i];
    last = i;
    if (wanted < sum) break;
  }
  return candidates[last].id;
}

Sampler::Sampler(const SamplingOptions& options, size_t vocab_size)
    : options_(options),
      random_(options.seed, "sampler"),
      xtc_random_(options.seed, "sampler xtc"),
      penalties_(options, vocab_size),
      logits_(vocab_size) {
  check_sampling(options);
  candidates_.reserve(vocab_size);
  weights_.reserve(vocab_size);
  scratch_.reserve(vocab_size);
  top_.begin(kHeapTopK);
}

int32_t Sampler::sample(View1<const float> logits, std::span<const int32_t> history,
                        const TokenMask* allowed) {
  return distribution(logits, history, allowed).at(random(history.size()));
}

TokenDistribution Sampler::distribution(View1<const float> logits, std::span<const int32_t> history,
                                        const TokenMask* allowed) {
  check_shape("sample", "logits", {logits_.size()}, {logits.size});
  check_logits(logits);
  std::copy(logits.begin(), logits.end(), logits_.begin());
  penalties_.apply(history, options_, logits_);
  gather(allowed);
  return filtered(history.size());
}

TokenDistribution Sampler::distribution(const TopLogits& logits, std::span<const int32_t> history) {
  if (logits.fault()) refuse_logit(logits.fault()->logit, static_cast<size_t>(logits.fault()->id));
  if (logits.candidates().empty()) refuse_logits("-infinity for every token that may come next");
  const auto highest_id = static_cast<size_t>(logits.candidates().back().id);
  if (highest_id >= logits_.size())
    check_shape("sample", "logits", {logits_.size()}, {highest_id + 1});
  for (const Candidate& c : logits.candidates()) logits_[static_cast<size_t>(c.id)] = c.logit;
  // Changes logits of other tokens too, which nobody looks at.
  penalties_.apply(history, options_, logits_);
  candidates_.clear();
  for (const Candidate& c : logits.candidates()) take(c.id);
  return filtered(history.size());
}

size_t Sampler::needed_logits(uint64_t position, const TokenMask* allowed) const {
  size_t all = logits_.size();
  if (allowed != nullptr) all = std::min(all, allowed->count());
  if (!top_k_is_first() || top_k() == 0) return all;
  const size_t lowered = Penalties::most_lowered(position, options_);
  return lowered >= all || top_k() >= all - lowered ? all : top_k() + lowered;
}

TokenDistribution Sampler::filtered(uint64_t position) {
  if (candidates_.empty()) refuse_logits("none that the bias and the constraint allow");
  filter(position);
  const double total = options_.temperature > 0
                           ? softmax_weights(candidates_, options_.temperature, weights_)
                           : (weights_.assign(1, 1.0F), 1.0);
  return {candidates_, weights_, total};
}

void Sampler::gather(const TokenMask* allowed) {
  const View1<const float> all(logits_.data(), logits_.size());
  candidates_.clear();
  if (allowed == nullptr && top_k_is_first() && top_k() > 0 && top_k() <= kHeapTopK) {
    top_.begin(top_k());
    top_.add(all, 0);
    top_.sort();
    candidates_.assign(top_.candidates().begin(), top_.candidates().end());
  } else if (allowed != nullptr) {
    allowed->for_each([&](int32_t id) { take(id); });
  } else {
    for (size_t id = 0; id < all.size; ++id) take(static_cast<int32_t>(id));
  }
}

void Sampler::take(int32_t id) {
  const auto at = static_cast<size_t>(id);
  if (at < logits_.size() && logits_[at] > kNever) candidates_.push_back({logits_[at], id});
}

void Sampler::filter(uint64_t position) {
  const SamplingOptions& o = options_;
  if (o.temperature == 0) return keep_top_k(candidates_, 1);
  if (o.top_n_sigma > 0) keep_top_n_sigma(candidates_, o.top_n_sigma);
  if (o.top_k > 0) keep_top_k(candidates_, static_cast<size_t>(o.top_k));
  if (o.typical_p < 1) keep_typical(candidates_, o.typical_p, scratch_);
  if (o.top_p < 1) keep_top_p(candidates_, o.top_p, scratch_);
  if (o.min_p > 0) keep_min_p(candidates_, o.min_p);
  if (o.xtc_probability > 0 && xtc_random_.uniform(position) < o.xtc_probability)
    exclude_top_choices(candidates_, o.xtc_threshold, scratch_);
}

}  // namespace cairn
