// Synthetic tasks as training data, through the whole trainer.
#include "cairn/train/task_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cairn/runs/metrics.h"
#include "cairn/train/dry_run.h"
#include "cairn/train/session.h"
#include "tests/support/files.h"
#include "tiny_run.h"

namespace cairn {
namespace {

using testing::HasSubstr;

TaskOptions short_flip_flop() {
  return {"flip_flop", {{"length", int64_t{16}}}};
}

TEST(TaskSource, IsAPureFunctionOfTheSampleNumber) {
  TaskSource source(short_flip_flop(), 4, 1);
  source.seek(8);
  const Batch third = source.next(), fourth = source.next();
  TaskSource again(short_flip_flop(), 4, 1);
  again.seek(12);
  EXPECT_EQ(again.next().tokens, fourth.tokens);
  EXPECT_NE(third.tokens, fourth.tokens);
}

TEST(TaskSource, ItsFingerprintTellsTaskOptionsAndSeedApart) {
  const uint64_t one = TaskSource(short_flip_flop(), 4, 1).fingerprint();
  EXPECT_EQ(TaskSource(short_flip_flop(), 2, 1).fingerprint(), one);
  EXPECT_NE(TaskSource(short_flip_flop(), 4, 2).fingerprint(), one);
  TaskOptions other = short_flip_flop();
  other.values["ignore"] = 0.1;
  EXPECT_NE(TaskSource(other, 4, 1).fingerprint(), one);
}

TEST(TaskSource, HoldsOutTheSameSamplesForEverySeed) {
  const TaskSource one(short_flip_flop(), 4, 1), two(short_flip_flop(), 4, 2);
  EXPECT_EQ(one.held_out(3, 2).tokens, two.held_out(3, 2).tokens);
  EXPECT_NE(one.held_out(0, 4).tokens, one.training(0, 4).tokens);
}

// A tiny model on flip-flops of 16 tokens, which tell what to answer by the token just before.
TrainConfig task_config(const Path& run, std::vector<std::string> overrides = {}) {
  overrides.push_back("run.folder=" + run.string());
  overrides.push_back("run.threads=1");
  return parse_config(
      "[model]\nhidden_size = 32\nlayers = 1\nheads = 2\ninit_std = 0.2\n"
      "[data]\ntask = {name = \"flip_flop\", length = 16, ignore = 0.0}\n"
      "[batch]\nmicro_batch = 16\n[optim]\nlr = 0.01\n"
      "[run]\nsteps = 200\nprecision = \"f32\"\n[eval]\nwindows = 64\n[log]\ntensorboard = false\n",
      "task.toml", overrides);
}

TEST(TaskSource, TheOrdinaryTrainerLearnsATask) {
  const TemporaryFolder folder;
  const SessionResult result = train(task_config(folder.path() / "run"));
  EXPECT_TRUE(result.finished);
  EXPECT_GT(result.accuracy, 0.9);
  EXPECT_EQ(load_model(result.model).config().vocab_size, 5U);
  const std::vector<Json> metrics = read_metrics(RunFolder{folder.path() / "run"}.metrics());
  const Series accuracy = series(metrics, "step", "val_accuracy");
  ASSERT_EQ(accuracy.y.size(), 2U);
  EXPECT_LT(accuracy.y[0], 0.7) << "before training";
  EXPECT_EQ(accuracy.y[1], result.accuracy);
}

TEST(TaskSource, ARunStopsAtItsDeadlineAndGoesOnToTheSameBits) {
  const TemporaryFolder folder;
  const std::vector<std::string> few = {"run.steps=12"};
  const uint64_t expected =
      load_model(train(task_config(folder.path() / "whole", few)).model).weights_hash();
  const TrainConfig config = task_config(folder.path() / "run", few);
  uint64_t sessions = 0;
  SessionResult result;
  for (; !result.finished && sessions < 20; ++sessions)
    result = train(config, {.deadline = std::chrono::steady_clock::now()});
  EXPECT_EQ(sessions, 12U) << "a step a session";
  EXPECT_EQ(load_model(result.model).weights_hash(), expected);
}

TEST(TaskSource, SaysWhyItStoppedAtADeadline) {
  const TemporaryFolder folder;
  const SessionResult result =
      train(task_config(folder.path() / "run"), {.deadline = std::chrono::steady_clock::now()});
  EXPECT_FALSE(result.finished);
  EXPECT_EQ(result.stop_reason, "the time limit");
}

TEST(TaskSource, ARunIsNotResumedOnAnotherTask) {
  const TemporaryFolder folder;
  const auto run = [&](const std::string& override) {
    return task_config(folder.path() / "run", {"run.steps=4", override});
  };
  train(run("data.task.ignore=0.0"));
  const auto resume = [&](const std::string& override) {
    return message_of([&] { train(run(override)); }, ErrorKind::usage);
  };
  EXPECT_THAT(resume("data.task.ignore=0.5"), HasSubstr("data.task.ignore was 0.0, is 0.5"));
  EXPECT_THAT(resume("data.seed=3"), HasSubstr("data.seed was 0, is 3"));
}

TEST(TaskSource, ADryRunKnowsTheTask) {
  const TemporaryFolder folder;
  const DryRun run = dry_run(task_config(folder.path() / "run"));
  EXPECT_EQ(run.model.vocab_size, 5U);
  EXPECT_EQ(run.steps, 200U);
  EXPECT_THAT(describe(run), HasSubstr("samples without end"));
}

}  // namespace
}  // namespace cairn
