// Penalties beside their definitions, and DRY beside a search for repeated sequences in three
// loops.
#include "cairn/infer/penalties.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "cairn/base/error.h"
#include "cairn/base/random.h"
#include "cairn/infer/sampler.h"

namespace cairn {
namespace {

constexpr size_t kVocabulary = 12;

std::vector<float> start_logits() {
  std::vector<float> logits(kVocabulary);
  for (size_t i = 0; i < kVocabulary; ++i) logits[i] = static_cast<float>(i) - 5.5F;
  return logits;
}

std::vector<float> penalized(const SamplingOptions& options, const std::vector<int32_t>& history) {
  Penalties penalties(options, kVocabulary);
  std::vector<float> logits = start_logits();
  penalties.apply(history, options, logits);
  std::vector<float> again = start_logits();
  penalties.apply(history, options, again);
  EXPECT_EQ(logits, again) << "something stays behind a call";
  return logits;
}

TEST(Penalties, RepetitionPresenceAndFrequencyCountTheWindow) {
  SamplingOptions options;
  options.repetition_penalty = 1.25;
  options.presence_penalty = 0.5;
  options.frequency_penalty = 0.25;
  options.repetition_window = 5;
  // Token 3 is outside the window; 99 is no token.
  const std::vector<float> found = penalized(options, {3, 9, 9, 1, 9, 99});
  std::vector<float> expected = start_logits();
  expected[9] = 3.5F / 1.25F - 0.5F - 3 * 0.25F;
  expected[1] = -4.5F * 1.25F - 0.5F - 0.25F;
  for (size_t i = 0; i < kVocabulary; ++i) EXPECT_NEAR(found[i], expected[i], 1e-6) << i;
}

TEST(Penalties, BiasIsAddedAndExcludes) {
  SamplingOptions options;
  options.logit_bias = {{2, 10}, {4, -INFINITY}};
  const std::vector<float> found = penalized(options, {});
  EXPECT_EQ(found[2], 6.5F);
  EXPECT_EQ(found[4], -INFINITY);
  options.logit_bias = {{12, 1}};
  EXPECT_THROW(Penalties(options, kVocabulary), Error);
  options.logit_bias = {{1, INFINITY}};
  EXPECT_THROW(Penalties(options, kVocabulary), Error);
}

// For every place where the last token stood before: how far back the tokens agree.
std::map<int32_t, size_t> repeats(const std::vector<int32_t>& text,
                                  const std::vector<int32_t>& breakers) {
  const auto breaks = [&](int32_t id) {
    return std::find(breakers.begin(), breakers.end(), id) != breakers.end();
  };
  std::map<int32_t, size_t> longest;
  const size_t n = text.size();
  for (size_t end = 1; end < n; ++end) {  // text[end] followed then
    size_t length = 0;
    while (length < end && text[end - 1 - length] == text[n - 1 - length] &&
           !breaks(text[n - 1 - length]))
      ++length;
    if (length > 0 && !breaks(text[end])) longest[text[end]] = std::max(longest[text[end]], length);
  }
  return longest;
}

TEST(Penalties, DryFindsWhatThreeLoopsFind) {
  const RandomStream stream(7, "dry");
  SamplingOptions options;
  options.dry_multiplier = 0.8;
  options.dry_base = 1.5;
  options.dry_breakers = {0, 5};
  size_t hits = 0;
  for (size_t run = 0; run < 300; ++run) {
    options.dry_allowed_length = 1 + static_cast<int64_t>(run % 3);
    options.dry_window = run % 4 == 0 ? 20 : 0;
    std::vector<int32_t> text;
    const size_t length = stream.below(40, run, 0), kinds = 2 + run % 6;
    for (size_t i = 0; i < length; ++i)
      text.push_back(static_cast<int32_t>(stream.below(kinds, run, i + 1)));
    std::vector<int32_t> seen = text;
    if (options.dry_window > 0 && seen.size() > 20) seen.erase(seen.begin(), seen.end() - 20);
    std::vector<float> expected = start_logits();
    for (const auto& [id, most] : repeats(seen, options.dry_breakers)) {
      const auto beyond = static_cast<int64_t>(most) - options.dry_allowed_length;
      if (beyond < 0) continue;
      expected[static_cast<size_t>(id)] -= static_cast<float>(0.8 * std::pow(1.5, beyond));
      ++hits;
    }
    const std::vector<float> found = penalized(options, text);
    for (size_t i = 0; i < kVocabulary; ++i)
      EXPECT_NEAR(found[i], expected[i], 1e-4 * (1 + std::abs(expected[i]))) << run << " " << i;
  }
  EXPECT_GT(hits, 100U);
}

TEST(Penalties, DryStaysFiniteOnEndlessRepetition) {
  SamplingOptions options;
  options.dry_multiplier = 1;
  const std::vector<float> found = penalized(options, std::vector<int32_t>(5000, 3));
  EXPECT_TRUE(std::isfinite(found[3]));
  EXPECT_LT(found[3], -1e20F);
}

}  // namespace
}  // namespace cairn
