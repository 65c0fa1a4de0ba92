// What a run does about losses that jump: skipping updates, going back, stopping, losing patience.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/base/log.h"
#include "cairn/runs/metrics.h"
#include "tiny_run.h"

namespace cairn {
namespace {

using testing::HasSubstr;

constexpr uint64_t kSamplesPerStep = 4;
constexpr uint64_t kEnd = 200;

std::vector<std::string> with(const std::string& policy, std::vector<std::string> more = {}) {
  more.insert(more.end(),
              {"run.steps=" + std::to_string(kEnd), "eval.every=0", "optim.lr=0.02",
               "checkpoint.every=20", "checkpoint.keep_last=100", "health.on_spike=" + policy});
  return more;
}

// Samples of steps [first, end), counted from 1.
void poison_steps(TinyRun& run, uint64_t first, uint64_t end) {
  run.source().poison((first - 1) * kSamplesPerStep, (end - 1) * kSamplesPerStep);
}

// Takes the checkpoints above `step` away, as if the process had been killed before they were made.
void forget_after(const Path& folder, uint64_t step) {
  CheckpointStore(RunFolder{folder}.checkpoints()).forget_after(step);
}

class Recovery : public testing::Test {
 protected:
  Recovery() { set_log_level(LogLevel::error); }
  ~Recovery() override { set_log_level(LogLevel::info); }
};

TEST_F(Recovery, IgnoringASpikeTrainsOnIt) {
  const TemporaryFolder folder;
  TinyRun run(folder.path(), with("ignore"));
  poison_steps(run, 150, 151);
  run.run();
  EXPECT_EQ(run.trainer().state().step, kEnd);
  const std::vector<Json> metrics = read_metrics(RunFolder{folder.path()}.metrics());
  const Series scores = series(metrics, "step", "spike_score");
  EXPECT_GT(scores.y[149], 8) << "the poisoned step is no spike: the tests below test nothing";
}

TEST_F(Recovery, SkippingDropsTheUpdateOfTheSpikeAndResumesToTheSameBits) {
  const TemporaryFolder folder, one_less;
  TinyRun run(folder.path(), with("skip"));
  poison_steps(run, 150, 151);
  const uint64_t expected = run.run();
  EXPECT_EQ(run.trainer().state().skipped, 1U);
  EXPECT_EQ(run.trainer().state().updates(), kEnd - 1);
  EXPECT_EQ(run.trainer().state().sample, kEnd * kSamplesPerStep) << "the data has advanced";
  for (const uint64_t step : {140, 160, 200}) {
    forget_after(folder.path(), step);
    TinyRun again(folder.path(), with("skip"));
    poison_steps(again, 150, 151);
    EXPECT_EQ(again.run(), expected) << "from step " << step;
    EXPECT_EQ(again.trainer().state().skipped, 1U);
  }
}

TEST_F(Recovery, SkippingForEverEndsTheRun) {
  const TemporaryFolder folder;
  TinyRun run(folder.path(), with("skip"));
  poison_steps(run, 150, 10000);
  try {
    run.run();
    FAIL() << "no update for fifty steps";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), 4);
    EXPECT_THAT(error.what(), HasSubstr("step 160"));
    EXPECT_THAT(error.what(), HasSubstr("10 steps in a row"));
  }
}

TEST_F(Recovery, RewindingGoesBackToTheCheckpointAndPastTheDataOfTheSpike) {
  const TemporaryFolder folder;
  TinyRun run(folder.path(), with("rewind"));
  poison_steps(run, 150, 151);
  run.run();
  const TrainState& state = run.trainer().state();
  EXPECT_EQ(state.step, kEnd);
  EXPECT_EQ(state.rewinds, 1U);
  // Steps 141 to 150 were made with samples that are passed over, and once more with fresh ones.
  EXPECT_EQ(state.sample, (kEnd + 10) * kSamplesPerStep);
  const auto& batches = run.source().handed_out();
  for (uint64_t first = 0; first < state.sample; first += 2)
    EXPECT_EQ(std::count(batches.begin(), batches.end(), first), 1) << "sample " << first;

  const std::vector<Json> metrics = read_metrics(RunFolder{folder.path()}.metrics());
  const Series losses = series(metrics, "step", "loss");
  ASSERT_EQ(losses.x.size(), kEnd) << "each step once";
  for (size_t i = 0; i < losses.x.size(); ++i) EXPECT_EQ(losses.x[i], double(i + 1));
  const auto event = std::find_if(metrics.begin(), metrics.end(),
                                  [](const Json& line) { return line.contains("event"); });
  ASSERT_NE(event, metrics.end());
  EXPECT_EQ(event->at("event"), "rewind");
  EXPECT_EQ(event->at("spiked_at_step"), 150);
  EXPECT_EQ(event->at("passed_over_samples"), Json({560, 600}));
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "metrics.jsonl.orphan-1"));
}

TEST_F(Recovery, ARunKilledAroundARewindEndsWithTheSameBits) {
  const TemporaryFolder folder;
  TinyRun run(folder.path(), with("rewind"));
  poison_steps(run, 150, 151);
  const uint64_t expected = run.run();
  for (const uint64_t step : {0, 100, 140, 160}) {
    forget_after(folder.path(), step);
    TinyRun again(folder.path(), with("rewind"), 2);
    EXPECT_EQ(again.trainer().state().step, step);
    poison_steps(again, 150, 151);
    EXPECT_EQ(again.run(), expected) << "from step " << step;
    EXPECT_EQ(again.trainer().state().rewinds, 1U);
  }
}

TEST_F(Recovery, RewindsAreCountedAndTheLastStopsTheRun) {
  const TemporaryFolder folder;
  TinyRun run(folder.path(), with("rewind", {"health.rewinds=2"}));
  poison_steps(run, 150, 10000);
  try {
    run.run();
    FAIL() << "it went on";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), 4);
    EXPECT_THAT(error.what(), HasSubstr("after 2 rewinds"));
    EXPECT_THAT(error.what(), HasSubstr("step-00000140"));
  }
}

TEST_F(Recovery, ANonFiniteLossIsRewoundTooAndWithoutACheckpointToTheStart) {
  const TemporaryFolder folder, clean;
  TinyRun run(folder.path(), with("rewind"));
  // As after a bad update; going back to the start draws the weights anew.
  run.trainer().model().vector("model.norm.weight")[0] = NAN;
  run.run();
  EXPECT_EQ(run.trainer().state().rewinds, 1U);
  EXPECT_EQ(run.trainer().state().sample, (kEnd + 1) * kSamplesPerStep);
}

TEST_F(Recovery, WatchesTheGradientsNormWhenAsked) {
  const TemporaryFolder folder;
  // No loss is a spike at this threshold, but the norm of a poisoned step is.
  TinyRun run(folder.path(),
              with("skip", {"health.threshold=1e9", "health.grad_threshold=8", "optim.clip=0"}));
  poison_steps(run, 150, 151);
  run.run();
  EXPECT_EQ(run.trainer().state().skipped, 1U);
}

TEST_F(Recovery, PatienceEndsTheRunAndKeepsTheBestCheckpoint) {
  const TemporaryFolder folder;
  // At this rate no evaluation differs from the first one of training.
  const std::vector<std::string> overrides = {
      "run.steps=100",        "eval.every=2",       "eval.patience=3",       "optim.lr=1e-12",
      "optim.weight_decay=0", "checkpoint.every=2", "checkpoint.keep_last=1"};
  TinyRun run(folder.path(), overrides);
  EXPECT_EQ(run.trainer().run(), Trainer::Outcome::finished);
  EXPECT_TRUE(run.trainer().out_of_patience());
  const TrainState& state = run.trainer().state();
  EXPECT_EQ(state.step, state.best_step + 3 * 2);
  EXPECT_TRUE(std::filesystem::exists(run.trainer().best_checkpoint()));
  // The same command finds nothing left to do.
  TinyRun again(folder.path(), overrides);
  EXPECT_EQ(again.trainer().run(), Trainer::Outcome::finished);
  EXPECT_EQ(again.trainer().state().step, state.step);
}

}  // namespace
}  // namespace cairn
