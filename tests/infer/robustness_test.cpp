// What users do to an engine beside reading texts to their end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "cairn/base/error.h"
#include "cairn/infer/decode_plan.h"
#include "cairn/infer/generate.h"
#include "tests/infer/model_files.h"
#include "tests/support/processor_time.h"

namespace cairn {
namespace {

using testing::HasSubstr;

TEST(Robustness, AnEngineCostsNoProcessorTimeWhenIdle) {
  const Model model = random_model(small_config());
  ThreadTeam team(4, true);
  Engine engine(model, team);
  Session session = engine.start();
  session.append(random_tokens(20, model.config().vocab_size));
  for (int32_t token = 0; token < 20; ++token) session.append(token);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // waits between tokens end
  const double before = processor_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  // One thread that spins takes up to 0.4 s; the margin is for a sanitizer's own threads.
  EXPECT_LT(processor_seconds() - before, 0.1);
}

TEST(Robustness, WeightsThatFitNoMemoryAreRefusedBeforeAnyIsRead) {
  const Model model = random_model(small_config());
  DecoderWeights weights = decoder_weights(model);
  weights.head.rows = size_t{1} << 50;
  weights.head.data = nullptr;
  ThreadTeam team(2, true);
  try {
    const DecodePlan plan(weights, std::nullopt, team);
    FAIL() << "no refusal";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::failed);
    EXPECT_THAT(error.what(), HasSubstr("bytes available"));
  }
}

// Whatever ended one text, the next one is as if it were the first.
TEST(Robustness, AnEngineGoesOnAfterTextsThatFailed) {
  ModelConfig config = small_config();
  config.context_length = 64;
  const Model model = random_model(config);
  const auto tokens = random_tokens(40, config.vocab_size);
  ThreadTeam team(2, true), same(2, true);
  Engine fresh(model, same), engine(model, team);
  const std::vector<float> expected = all_logits(fresh, tokens);

  Session session = engine.start();
  EXPECT_THROW(session.append(random_tokens(65, config.vocab_size)), Error);  // the context
  const std::vector<int32_t> foreign = {3, static_cast<int32_t>(config.vocab_size)};
  EXPECT_THROW(session.append(foreign), Error);  // the vocabulary
  EXPECT_THROW(session.reserve(65), Error);
  EXPECT_EQ(session.length(), 0U);
  {
    Session left = engine.start();  // in the middle of a text
    left.append(tokens);
  }
  EXPECT_EQ(all_logits(engine, tokens), expected);
  std::vector<float> found(expected.size());
  session.append(tokens, {found.data(), tokens.size(), config.vocab_size});
  EXPECT_EQ(found, expected);
}

}  // namespace
}  // namespace cairn
