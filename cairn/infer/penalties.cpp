#include "cairn/infer/penalties.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/infer/sampler.h"

namespace cairn {
namespace {

std::span<const int32_t> last_tokens(std::span<const int32_t> history, int64_t window) {
  const auto most = static_cast<size_t>(window);
  return window > 0 && history.size() > most ? history.last(most) : history;
}

bool penalizes_window(const SamplingOptions& options) {
  return options.repetition_penalty != 1 || options.presence_penalty != 0 ||
         options.frequency_penalty != 0;
}

// z[i]: how many tokens of `text`, read backwards from i places before its end, equal those read
// backwards from its end (the Z algorithm on the reversed text). z[0] is not used.
void common_ends(std::span<const int32_t> text, std::vector<uint32_t>& z) {
  const size_t n = text.size();
  const auto at = [&](size_t i) { return text[n - 1 - i]; };
  z.assign(n, 0);
  size_t left = 0, right = 0;  // the match that reaches furthest is [left, right)
  for (size_t i = 1; i < n; ++i) {
    size_t length = i < right ? std::min<size_t>(right - i, z[i - left]) : 0;
    while (i + length < n && at(length) == at(i + length)) ++length;
    z[i] = static_cast<uint32_t>(length);
    if (i + length > right) {
      left = i;
      right = i + length;
    }
  }
}

}  // namespace

Penalties::Penalties(const SamplingOptions& options, size_t vocab_size)
    : counts_(vocab_size), breaker_(vocab_size) {
  for (const LogitBias& entry : options.logit_bias)
    if (entry.id < 0 || static_cast<size_t>(entry.id) >= vocab_size)
      throw Error({.kind = ErrorKind::usage,
                   .doing = "preparing to sample",
                   .subject = "logit_bias",
                   .expected = fmt::format("tokens from 0 to {}", vocab_size - 1),
                   .found = std::to_string(entry.id)});
  for (const LogitBias& entry : options.logit_bias)
    if (!(entry.bias < std::numeric_limits<double>::infinity()))
      throw Error({.kind = ErrorKind::usage,
                   .doing = "preparing to sample",
                   .subject = fmt::format("logit_bias of token {}", entry.id),
                   .expected = "a number, or -infinity to exclude the token",
                   .found = fmt::format("{}", entry.bias)});
  for (const int32_t id : options.dry_breakers)
    if (id >= 0 && static_cast<size_t>(id) < vocab_size) breaker_[static_cast<size_t>(id)] = true;
}

size_t Penalties::most_lowered(size_t history, const SamplingOptions& options) {
  const bool raises = std::any_of(options.logit_bias.begin(), options.logit_bias.end(),
                                  [](const LogitBias& entry) { return entry.bias > 0; });
  if (raises || options.repetition_penalty < 1 || options.presence_penalty < 0 ||
      options.frequency_penalty < 0)
    return SIZE_MAX;
  const auto within = [&](int64_t window) {
    return window > 0 ? std::min(history, static_cast<size_t>(window)) : history;
  };
  size_t lowered = options.logit_bias.size();
  if (penalizes_window(options)) lowered += within(options.repetition_window);
  if (options.dry_multiplier > 0) lowered += within(options.dry_window);
  return lowered;
}

void Penalties::apply(std::span<const int32_t> history, const SamplingOptions& options,
                      std::span<float> logits) {
  for (const LogitBias& entry : options.logit_bias)
    logits[static_cast<size_t>(entry.id)] += static_cast<float>(entry.bias);
  if (penalizes_window(options))
    penalize_window(last_tokens(history, options.repetition_window), options, logits);
  if (options.dry_multiplier > 0)
    penalize_sequences(last_tokens(history, options.dry_window), options, logits);
}

void Penalties::penalize_window(std::span<const int32_t> history, const SamplingOptions& options,
                                std::span<float> logits) {
  const auto known = [&](int32_t id) { return id >= 0 && static_cast<size_t>(id) < logits.size(); };
  for (const int32_t token : history)
    if (known(token)) ++counts_[static_cast<size_t>(token)];
  const auto penalty = static_cast<float>(options.repetition_penalty);
  for (const int32_t token : history) {
    if (!known(token)) continue;
    const auto id = static_cast<size_t>(token);
    if (counts_[id] == 0) continue;  // has had its turn
    logits[id] = logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty;
    logits[id] -=
        static_cast<float>(options.presence_penalty + options.frequency_penalty * counts_[id]);
    counts_[id] = 0;
  }
}

void Penalties::penalize_sequences(std::span<const int32_t> history, const SamplingOptions& options,
                                   std::span<float> logits) {
  const size_t n = history.size();
  const auto known = [&](int32_t id) { return id >= 0 && static_cast<size_t>(id) < logits.size(); };
  const auto breaks = [&](int32_t id) { return !known(id) || breaker_[static_cast<size_t>(id)]; };
  size_t open = 0;  // tokens since the last breaker
  while (open < n && !breaks(history[n - 1 - open])) ++open;
  if (open == 0 || n < 2) return;
  common_ends(history, common_);
  // The longest run for each token that followed one, in counts_.
  for (size_t i = 1; i < n; ++i) {
    const int32_t next = history[n - i];
    if (breaks(next)) continue;
    uint32_t& longest = counts_[static_cast<size_t>(next)];
    longest = std::max(longest, static_cast<uint32_t>(std::min<size_t>(common_[i], open)));
  }
  for (size_t i = 1; i < n; ++i) {
    const int32_t next = history[n - i];
    if (!known(next)) continue;
    const uint32_t length = std::exchange(counts_[static_cast<size_t>(next)], 0U);
    const int64_t beyond = static_cast<int64_t>(length) - options.dry_allowed_length;
    if (length == 0 || beyond < 0) continue;
    // Finite, however long the run: a token may have to be said for want of another.
    const double penalty =
        std::min(1e30, options.dry_multiplier * std::pow(options.dry_base, beyond));
    logits[static_cast<size_t>(next)] -= static_cast<float>(penalty);
  }
}

}  // namespace cairn
