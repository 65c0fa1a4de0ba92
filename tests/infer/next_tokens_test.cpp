// The list of the highest logits and all logits lead to the same tokens.
#include "cairn/infer/next_tokens.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cairn/base/error.h"
#include "tests/infer/model_files.h"

namespace cairn {
namespace {

constexpr size_t kVocab = 700;

struct Setting {
  const char* name;
  SamplingOptions options;
  bool listed;  // whether few logits decide, behind a short text and without a mask
};

std::vector<Setting> settings() {
  std::vector<Setting> all = {
      {"greedy", {.temperature = 0}, true},
      {"greedy, penalties", {.temperature = 0, .repetition_penalty = 1.3}, true},
      {"greedy, sigma", {.temperature = 0, .top_n_sigma = 1}, true},
      {"the command line", {.temperature = 0.8, .top_k = 40, .top_p = 0.95, .min_p = 0.05}, true},
      {"penalties",
       {.temperature = 2,
        .top_k = 40,
        .repetition_penalty = 1.2,
        .presence_penalty = 0.5,
        .frequency_penalty = 0.3},
       true},
      {"typical, xtc",
       {.top_k = 60, .typical_p = 0.7, .xtc_probability = 0.5, .xtc_threshold = 0.05},
       true},
      {"dry", {.temperature = 1.5, .top_k = 30, .dry_multiplier = 0.8}, true},
      {"the most", {.temperature = 3, .top_k = 256}, true},
      {"too many", {.temperature = 3, .top_k = 257}, false},
      {"too many with penalties",
       {.temperature = 3, .top_k = 250, .repetition_penalty = 1.2},
       false},
      {"all", {.temperature = 1, .top_p = 0.9, .min_p = 0.01}, false},
      {"sigma first", {.temperature = 1, .top_k = 40, .top_n_sigma = 1.5}, false},
      {"a reward", {.temperature = 2, .top_k = 20, .repetition_penalty = 0.7}, false},
      {"negative presence", {.temperature = 2, .top_k = 20, .presence_penalty = -1}, false},
  };
  all.push_back({"biases down", {.temperature = 2, .top_k = 20}, true});
  all.back().options.logit_bias = {{7, -INFINITY}, {8, -3}, {600, -1}};
  all.push_back({"a bias up", {.temperature = 2, .top_k = 20}, false});
  all.back().options.logit_bias = {{7, 30}, {8, -3}};
  return all;
}

Model model_with_ties() {
  ModelConfig config = small_config();
  config.vocab_size = kVocab;
  config.tie_embeddings = false;
  Model model = random_model(config);
  const View2<float> head = model.matrix("lm_head.weight");
  for (size_t row = 350; row < kVocab; row += 2)
    std::copy_n(head[row - 350].data, head.cols, head[row].data);
  return model;
}

TokenMask mask_of(size_t one_in, uint64_t seed) {
  TokenMask mask(kVocab);
  for (size_t i = 0; i < kVocab; ++i)
    if (RandomStream(seed, "mask").below(one_in, i) == 0) mask.insert(static_cast<int32_t>(i));
  return mask;
}

class NextTokensTest : public testing::Test {
 protected:
  std::vector<int32_t> draw(const SamplingOptions& options, bool all_logits,
                            const TokenMask* allowed, size_t ids = kVocab) {
    Session session = engine.start();
    NextTokens next(options, ids, all_logits);
    next.read(session, prompt, {&allowed, 1});
    std::vector<int32_t> drawn;
    for (size_t i = 0; i < 30; ++i) {
      drawn.push_back(next.draw(session.tokens()));
      next.read(session, std::span(drawn).last(1), {&allowed, 1});
    }
    return drawn;
  }

  ThreadTeam team{2, true};
  Engine engine{model_with_ties(), team};
  const std::vector<int32_t> prompt = random_tokens(20, kVocab);
};

TEST_F(NextTokensTest, DrawsTheSameAsFromAllLogits) {
  const TokenMask half = mask_of(2, 1), few = mask_of(50, 2);
  for (const Setting& setting : settings())
    for (const uint64_t seed : {1, 2, 3}) {
      SCOPED_TRACE(setting.name);
      SamplingOptions options = setting.options;
      options.seed = seed;
      for (const TokenMask* allowed : {static_cast<const TokenMask*>(nullptr), &half, &few})
        EXPECT_EQ(draw(options, false, allowed), draw(options, true, allowed));
      const std::vector<int32_t> known = draw(options, false, nullptr, 650);
      EXPECT_EQ(known, draw(options, true, nullptr, 650));
      for (const int32_t id : known) EXPECT_LT(id, 650);
    }
}

// All logits are asked for only where they are needed: they take a row of memory, lists none.
TEST_F(NextTokensTest, AsksForAListWhereFewLogitsDecide) {
  const TokenMask few = mask_of(50, 2);
  for (const Setting& setting : settings()) {
    SCOPED_TRACE(setting.name);
    const Sampler sampler(setting.options, kVocab);
    EXPECT_EQ(sampler.needed_logits(20) <= HeadRequest::kMostBest, setting.listed);
    EXPECT_LE(sampler.needed_logits(20, &few), few.count()) << "a narrow mask is a list";
  }
}

TEST_F(NextTokensTest, EachPlaceOfAPassIsAsIfReadAlone) {
  const TokenMask half = mask_of(2, 1), few = mask_of(50, 2);
  const std::vector<const TokenMask*> allowed = {&half, nullptr, &few, &few,  nullptr,
                                                 &half, nullptr, &few, &half, nullptr};
  const std::vector<int32_t> text = random_tokens(30, kVocab, 4);
  for (const Setting& setting : settings())
    for (const size_t count : {3, 8, 10}) {
      SCOPED_TRACE(setting.name);
      Session together = engine.start(), alone = engine.start();
      NextTokens of_pass(setting.options, kVocab), of_one(setting.options, kVocab);
      const std::span<const int32_t> before = std::span(text).first(text.size() - count);
      together.append(before);
      alone.append(before);
      of_pass.read(together, std::span(text).last(count), std::span(allowed).first(count));
      for (size_t i = 0; i < count; ++i) {
        of_one.read(alone, std::span(text).subspan(before.size() + i, 1), {&allowed[i], 1});
        const auto history = std::span(text).first(before.size() + i + 1);
        const TokenDistribution one = of_one.distribution(0, history);
        const TokenDistribution other = of_pass.distribution(i, history);
        ASSERT_EQ(one.candidates.size(), other.candidates.size());
        for (size_t c = 0; c < one.candidates.size(); ++c) {
          EXPECT_EQ(one.candidates[c].id, other.candidates[c].id);
          EXPECT_EQ(one.weights[c], other.weights[c]);
        }
      }
    }
}

TEST_F(NextTokensTest, KeepsAllLogitsForWhoeverWantsThem) {
  Session session = engine.start(), other = engine.start();
  NextTokens next({.temperature = 0}, kVocab, true);
  const TokenMask few = mask_of(50, 2);
  const TokenMask* allowed = &few;
  next.read(session, prompt, {&allowed, 1});
  EXPECT_TRUE(few.contains(next.draw(session.tokens())));
  const View1<const float> expected = other.append(prompt), found = next.logits(0);
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), found.begin()));
}

}  // namespace
}  // namespace cairn
