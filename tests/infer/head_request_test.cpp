// What a pass answers about the tokens that may follow, beside all logits of the same text.
#include "cairn/infer/head_request.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "cairn/base/error.h"
#include "cairn/infer/sampler.h"
#include "cairn/kernels/tiles.h"
#include "tests/infer/model_files.h"

namespace cairn {
namespace {

constexpr size_t kVocab = 1003;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Every third row of the head is as the one 300 before it: their logits are equal.
Model model_with_ties() {
  ModelConfig config = small_config();
  config.vocab_size = kVocab;
  config.hidden_size = 64;
  config.intermediate_size = 96;
  config.tie_embeddings = false;
  Model model = random_model(config);
  const View2<float> head = model.matrix("lm_head.weight");
  for (size_t row = 300; row < kVocab; row += 3)
    std::copy_n(head[row - 300].data, head.cols, head[row].data);
  return model;
}

struct Mask {
  const char* name;
  TokenMask tokens;
};

std::vector<Mask> masks() {
  std::vector<Mask> all = {{"none", TokenMask(kVocab)},         {"one", TokenMask(kVocab)},
                           {"the last", TokenMask(kVocab)},     {"a few", TokenMask(kVocab)},
                           {"neighbours", TokenMask(kVocab)},   {"half", TokenMask(kVocab)},
                           {"all but some", TokenMask(kVocab)}, {"all", TokenMask(kVocab)},
                           {"another size", TokenMask(500)},    {"more", TokenMask(2000)}};
  const RandomStream stream(3, "masks");
  all[1].tokens.insert(517);
  all[2].tokens.insert(kVocab - 1);
  for (size_t i = 0; i < 7; ++i)
    all[3].tokens.insert(static_cast<int32_t>(stream.below(kVocab, i)));
  for (int32_t id = 700; id < 750; ++id) all[4].tokens.insert(id);
  for (size_t i = 0; i < kVocab; ++i) {
    const auto id = static_cast<int32_t>(i);
    if (stream.below(2, i, 1) == 0) all[5].tokens.insert(id);
    if (stream.below(20, i, 2) != 0) all[6].tokens.insert(id);
    all[7].tokens.insert(id);
    if (i < 500 && stream.below(2, i, 3) == 0) all[8].tokens.insert(id);
  }
  for (int32_t id = 900; id < 2000; ++id) all[9].tokens.insert(id);
  return all;
}

// The logits with those of other ids at -infinity.
std::vector<float> masked(std::span<const float> logits, const TokenMask* mask, size_t ids) {
  std::vector<float> result(logits.begin(), logits.end());
  for (size_t i = 0; i < result.size(); ++i)
    if (i >= ids || (mask != nullptr && !mask->contains(static_cast<int32_t>(i))))
      result[i] = -kInfinity;
  return result;
}

void expect_best(const TopLogits& found, const std::vector<float>& logits, size_t k) {
  std::vector<Candidate> expected;
  for (size_t i = 0; i < logits.size(); ++i)
    if (logits[i] > -kInfinity) expected.push_back({logits[i], static_cast<int32_t>(i)});
  std::sort(expected.begin(), expected.end(), ahead);
  expected.resize(std::min(k, expected.size()));
  std::sort(expected.begin(), expected.end(),
            [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  ASSERT_EQ(found.candidates().size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(found.candidates()[i].id, expected[i].id);
    EXPECT_EQ(found.candidates()[i].logit, expected[i].logit);
  }
}

// Rows of the head in groups of 16 that hold an id that may follow.
size_t groups_with(const TokenMask& mask) {
  size_t groups = 0;
  for (size_t first = 0; first < kVocab; first += kTileRows) {
    bool any = false;
    for (size_t id = first; id < std::min(first + kTileRows, kVocab); ++id)
      any = any || mask.contains(static_cast<int32_t>(id));
    groups += any ? 1 : 0;
  }
  return groups;
}

class Head : public testing::TestWithParam<std::tuple<int, Walkers, BlockType>> {
 protected:
  // What follows the last token when it is read by itself.
  void read(const HeadRequest& head) {
    session.truncate(text.size() - 1);
    session.append(std::span(text).last(1), head);
  }

  ThreadTeam team{std::get<0>(GetParam()), true};
  Engine engine{model_with_ties(),
                team,
                {.weights = std::get<2>(GetParam()), .walkers = std::get<1>(GetParam())}};
  const std::vector<int32_t> text = random_tokens(40, kVocab);
  const std::vector<float> all = all_logits(engine, text);
  const std::span<const float> last = std::span(all).last(kVocab);
  Session session = engine.start();
};

TEST_P(Head, TheHighestLogitsAreThoseAmongAll) {
  session.append(text);
  TopLogits best;
  for (const size_t k : {1, 2, 3, 40, 104, 256}) {
    read({.best = {&best, 1}, .k = k});
    expect_best(best, {last.begin(), last.end()}, k);
  }
  for (const size_t ids : {size_t{1}, size_t{16}, size_t{700}, kVocab - 1, kVocab}) {
    read({.best = {&best, 1}, .k = 40, .ids = ids});
    expect_best(best, masked(last, nullptr, ids), 40);
  }
}

TEST_P(Head, AMaskLeavesItsTokensAndSkipsGroupsWithoutAny) {
  session.append(text);
  TopLogits best;
  const size_t group_bytes =
      tile_group_bytes(*tile_kind_of(std::get<2>(GetParam())), engine.config().hidden_size);
  std::vector<float> logits(kVocab);
  for (const Mask& mask : masks()) {
    SCOPED_TRACE(mask.name);
    const TokenMask* allowed = &mask.tokens;
    const std::vector<float> expected = masked(last, allowed, kVocab);
    const size_t before = engine.skipped_bytes();
    for (const size_t k : {1, 40, 256}) {
      read({.best = {&best, 1}, .k = k, .allowed = {&allowed, 1}});
      expect_best(best, expected, k);
    }
    read({.logits = {logits.data(), 1, kVocab}, .allowed = {&allowed, 1}});
    EXPECT_EQ(logits, expected);
    EXPECT_EQ(engine.skipped_bytes() - before,
              4 * (tile_groups(kVocab) - groups_with(mask.tokens)) * group_bytes);
    read({.best = {&best, 1}, .k = 40, .ids = 720, .allowed = {&allowed, 1}});
    expect_best(best, masked(last, allowed, 720), 40);
  }
}

TEST_P(Head, EveryTokenOfAPassHasItsOwnMaskAndList) {
  const std::vector<Mask> every = masks();
  for (const size_t count : {1, 2, 5, 8}) {
    session.truncate(0);
    session.append(std::span(text).first(text.size() - count));
    std::vector<const TokenMask*> allowed;
    for (size_t i = 0; i < count; ++i)  // one of them any
      allowed.push_back(i == 1 ? nullptr : &every[(3 * i + count) % every.size()].tokens);
    std::vector<TopLogits> best(count);
    std::vector<float> logits(count * kVocab);
    session.append(std::span(text).last(count), {.best = best, .k = 30, .allowed = allowed});
    session.truncate(text.size() - count);
    session.append(std::span(text).last(count),
                   {.logits = {logits.data(), count, kVocab}, .allowed = allowed});
    for (size_t i = 0; i < count; ++i) {
      SCOPED_TRACE(testing::Message() << "token " << i << " of " << count);
      const auto whole = std::span(all).subspan((text.size() - count + i) * kVocab, kVocab);
      const std::vector<float> expected = masked(whole, allowed[i], kVocab);
      expect_best(best[i], expected, 30);
      const auto found = std::span(logits).subspan(i * kVocab, kVocab);
      EXPECT_TRUE(std::equal(found.begin(), found.end(), expected.begin()));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Teams, Head,
                         testing::Values(std::tuple(1, Walkers::team, BlockType::q8_0),
                                         std::tuple(2, Walkers::team, BlockType::q8_0),
                                         std::tuple(2, Walkers::one, BlockType::q8_0),
                                         std::tuple(3, Walkers::team, BlockType::f32),
                                         std::tuple(3, Walkers::one, BlockType::f32),
                                         std::tuple(3, Walkers::team, BlockType::bf16)));

TEST(HeadRequest, AnswersBehindALongPrompt) {
  ModelConfig config = small_config();
  ThreadTeam team(2, true);
  Engine engine(random_model(config), team);
  const std::vector<int32_t> text = random_tokens(300, config.vocab_size);
  Session session = engine.start();
  const View1<const float> logits = session.append(text);
  const std::vector<float> expected(logits.begin(), logits.end());
  session.truncate(0);
  TopLogits best;
  session.append(text, {.best = {&best, 1}, .k = 9});
  expect_best(best, expected, 9);
}

// Weights whose product is beyond f32: finite themselves, so that the engine takes them.
TEST(HeadRequest, ForbiddenRowsAreNotLookedAtAndAllowedOnesAreChecked) {
  Model model = model_with_ties();
  const View2<float> head = model.matrix("lm_head.weight");
  for (const size_t bad : {40, 41, 801})
    for (size_t c = 0; c < head.cols; ++c) head[bad][c] = (c % 2 == 0 ? 3e38F : -3e38F);
  ThreadTeam team(2, true);
  Engine engine(model, team);
  Session session = engine.start();
  const std::vector<int32_t> text = random_tokens(5, kVocab);
  TokenMask good(kVocab), bad(kVocab);
  for (int32_t id = 0; id < static_cast<int32_t>(kVocab); ++id) {
    if (id != 40 && id != 41 && id != 801) good.insert(id);  // in groups that are read
    if (id >= 41 && id != 300) bad.insert(id);
  }
  Sampler sampler({.temperature = 0}, kVocab);
  TopLogits best;
  const TokenMask* allowed = &good;
  session.append(text, {.best = {&best, 1}, .k = 40, .allowed = {&allowed, 1}});
  EXPECT_FALSE(best.fault());
  EXPECT_NO_THROW(sampler.distribution(best, text));
  allowed = &bad;
  session.append(text, {.best = {&best, 1}, .k = 40, .allowed = {&allowed, 1}});
  ASSERT_TRUE(best.fault());
  EXPECT_EQ(best.fault()->id, 41);
  try {
    sampler.distribution(best, text);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("for token 41"), std::string::npos) << error.what();
  }
  session.append(text, {.best = {&best, 1}, .k = 1, .ids = 40});
  EXPECT_FALSE(best.fault());
}

TEST(HeadRequest, OneThatDoesNotFitIsRefused) {
  ModelConfig config = small_config();
  const size_t vocab = config.vocab_size;
  ThreadTeam team(1);
  Engine engine(random_model(config), team);
  Session session = engine.start();
  const std::vector<int32_t> text = random_tokens(9, vocab);
  std::vector<TopLogits> best(9);
  std::vector<float> logits(9 * vocab);
  const std::vector<const TokenMask*> allowed(2, nullptr);
  const auto two = std::span(text).first(2);
  EXPECT_THROW(session.append(two, HeadRequest{}), Error);
  EXPECT_THROW(session.append(two, {.best = std::span(best).first(3), .k = 1}), Error);
  EXPECT_THROW(session.append(text, {.best = best, .k = 1}), Error) << "more than few tokens";
  EXPECT_THROW(session.append(two, {.best = std::span(best).first(2), .k = 0}), Error);
  EXPECT_THROW(session.append(two, {.best = std::span(best).first(2), .k = 257}), Error);
  EXPECT_THROW(session.append(two, {.logits = {logits.data(), 2, vocab - 1}}), Error);
  EXPECT_THROW(session.append(two, {.logits = {logits.data(), 1, vocab}, .allowed = allowed}),
               Error);
  EXPECT_EQ(session.length(), 0U);
  session.append(two, {.logits = {logits.data(), 2, vocab}, .allowed = allowed});
  EXPECT_EQ(session.length(), 2U);
}

}  // namespace
}  // namespace cairn
