#include "cairn/eval/perplexity.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cairn/base/error.h"
#include "cairn/base/random.h"
#include "cairn/model/model.h"
#include "tests/model/tiny.h"

namespace cairn {
namespace {

// Token i of the text is i: a target tells where it stands.
TokenSource counting(size_t size) {
  std::vector<int32_t> tokens(size);
  std::iota(tokens.begin(), tokens.end(), 0);
  return token_source(std::move(tokens));
}

void expect_each_token_scored_once(size_t size, size_t length, size_t stride, size_t together) {
  SCOPED_TRACE(testing::Message() << "size " << size << ", length " << length << ", stride "
                                  << stride << ", " << together << " together");
  const EvaluationWindows windows(counting(size), {.length = length, .stride = stride});
  std::vector<int> scored(size, 0);
  for (uint64_t first = 0; first < windows.size(); first += together) {
    const Batch batch = windows.batch(first, std::min<uint64_t>(together, windows.size() - first));
    ASSERT_EQ(batch.tokens.size(), batch.sequences * length);
    ASSERT_EQ(batch.offsets.size(), batch.sequences + 1);
    for (size_t i = 0; i < batch.targets.size(); ++i) {
      if (batch.targets[i] == kIgnoredTarget) continue;
      const auto target = static_cast<size_t>(batch.targets[i]);
      ++scored[target];
      ASSERT_EQ(batch.targets[i], batch.tokens[i] + 1);
      // The context: all of a window but its last stride, or the whole text so far.
      ASSERT_GE(i % length + 1, std::min(target, length - stride + 1));
    }
  }
  EXPECT_EQ(scored[0], 0);
  EXPECT_EQ(std::count(scored.begin() + 1, scored.end(), 1), static_cast<long>(size) - 1);
}

TEST(EvaluationWindows, EveryTokenButTheFirstIsScoredExactlyOnceWithEnoughContext) {
  for (size_t size = 2; size < 40; ++size)
    for (size_t length = 1; length < 12; ++length)
      for (size_t stride = 1; stride <= length; ++stride)
        expect_each_token_scored_once(size, length, stride, 1 + size % 3);
}

TEST(EvaluationWindows, RefusesWhatCannotBeCut) {
  EXPECT_THROW(EvaluationWindows(counting(1), {.length = 4, .stride = 4}), Error);
  EXPECT_THROW(EvaluationWindows(counting(9), {.length = 0, .stride = 0}), Error);
  EXPECT_THROW(EvaluationWindows(counting(9), {.length = 4, .stride = 5}), Error);
  const EvaluationWindows windows(counting(9), {.length = 4, .stride = 4});
  EXPECT_EQ(windows.size(), 2U);
  EXPECT_THROW(windows.batch(1, 2), Error);
  EXPECT_THROW(windows.batch(0, 3), Error);
}

// A model that knows nothing: ln V nats a token.
const auto uniform = [](const Batch& batch) {
  const size_t targets = batch.target_count();
  return LossSum{.loss = std::log(64.0) * static_cast<double>(targets), .targets = targets};
};

TEST(Perplexity, OfAModelThatKnowsNothingIsItsVocabulary) {
  const EvaluationWindows windows(counting(50), {.length = 8, .stride = 3});
  const std::vector<uint32_t> two_bytes_each(64, 2);
  const TextScore score = score_windows(windows, 0, 4, two_bytes_each, uniform);
  EXPECT_EQ(score.tokens, 49U);
  EXPECT_EQ(score.bytes, 98U);
  EXPECT_NEAR(score.perplexity(), 64.0, 1e-9);
  EXPECT_NEAR(score.bits_per_byte(), 3.0, 1e-12);  // 6 bits for two bytes
}

TEST(Perplexity, ALimitScoresTheFirstWindowsAndTheirBytesOnly) {
  const EvaluationWindows windows(counting(50), {.length = 8, .stride = 8});
  std::vector<uint32_t> bytes(50, 1);
  bytes[3] = 10;
  const TextScore score = score_windows(windows, 2, 4, bytes, uniform);
  EXPECT_EQ(score.tokens, 16U);
  EXPECT_EQ(score.bytes, 25U);
}

TEST(Perplexity, WeighsTokensNotBatches) {
  // Windows of 4, 4 and 1 target; the token with id 9 alone is hard.
  const EvaluationWindows windows(counting(10), {.length = 4, .stride = 4});
  const auto hard_end = [](const Batch& batch) {
    LossSum sum;
    for (const int32_t target : batch.targets) {
      sum.targets += target == kIgnoredTarget ? 0 : 1;
      sum.loss += target == 9 ? 9.0 : 0.0;
    }
    return sum;
  };
  const std::vector<uint32_t> bytes(10, 1);
  for (const size_t together : {1, 2, 3})
    EXPECT_DOUBLE_EQ(score_windows(windows, 0, together, bytes, hard_end).nats_per_token(), 1.0);
}

TEST(Perplexity, ALossThatIsNotFiniteNamesTheWindow) {
  const EvaluationWindows windows(counting(50), {.length = 8, .stride = 8});
  const std::vector<uint32_t> bytes(50, 1);
  size_t calls = 0;
  const auto breaks = [&](const Batch& batch) {
    LossSum sum = uniform(batch);
    if (++calls == 3) sum.loss = NAN;
    return sum;
  };
  try {
    score_windows(windows, 0, 2, bytes, breaks);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("window 4"), std::string::npos) << error.what();
  }
}

TEST(Perplexity, OfAModelDoesNotDependOnBatchesOrThreads) {
  Model model(tiny_config());
  model.initialize(3);
  const RandomStream random(1, "text");
  std::vector<int32_t> tokens(100);
  for (size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<int32_t>(random.below(model.config().vocab_size, i));
  const EvaluationWindows windows(token_source(tokens), {.length = 16, .stride = 16});
  const std::vector<uint32_t> bytes(model.config().vocab_size, 1);
  std::vector<double> nats;
  for (const int threads : {1, 3}) {
    for (const size_t together : {1, 2, 7}) {
      ThreadTeam team(threads, true);
      LanguageModel program(model, {together, 16, Precision::f32}, team);
      const auto loss = [&](const Batch& batch) { return program.forward(batch); };
      nats.push_back(score_windows(windows, 0, together, bytes, loss).nats);
    }
  }
  for (const double sum : nats) EXPECT_NEAR(sum, nats[0], 1e-4 * nats[0]);
  EXPECT_EQ(nats[0], nats[3]);
  EXPECT_EQ(nats[2], nats[5]);
}

TEST(Perplexity, MoreContextHelpsAModelThatUsesIt) {
  // Costs a nat less for every eight tokens of context.
  const auto by_context = [](const Batch& batch) {
    LossSum sum;
    for (size_t i = 0; i < batch.targets.size(); ++i) {
      if (batch.targets[i] == kIgnoredTarget) continue;
      ++sum.targets;
      sum.loss += 4.0 - static_cast<double>(i % batch.length / 8);
    }
    return sum;
  };
  const std::vector<uint32_t> bytes(200, 1);
  const EvaluationWindows apart(counting(200), {.length = 32, .stride = 32}),
      overlapping(counting(200), {.length = 32, .stride = 8});
  EXPECT_LT(score_windows(overlapping, 0, 3, bytes, by_context).nats_per_token() + 1,
            score_windows(apart, 0, 3, bytes, by_context).nats_per_token());
}

}  // namespace
}  // namespace cairn
