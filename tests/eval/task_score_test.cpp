#include "cairn/eval/task_score.h"

#include <gtest/gtest.h>

#include "cairn/base/error.h"

namespace cairn {
namespace {

ModelConfig config_for(const Task& task) {
  ModelConfig config;
  config.vocab_size = task.vocab_size();
  config.hidden_size = 16;
  config.intermediate_size = 32;
  config.layers = 1;
  config.heads = 2;
  config.kv_heads = 2;
  config.head_dim = 8;
  config.context_length = 16;
  return config;
}

Model model_for(const Task& task) {
  Model model(config_for(task), 0.5);
  model.initialize(1);
  return model;
}

TaskOptions flip_flop(int64_t length) {
  return {"flip_flop", {{"length", length}}};
}

TEST(TaskScore, CountsEveryAnswerOfAModelOnce) {
  const auto task = make_task(flip_flop(16));
  Model model = model_for(*task);
  ThreadTeam team(1);
  const TaskScore score = score_task(model, *task, 700, {}, team);
  EXPECT_EQ(score.sequences, 700U);
  // All at once, by hand.
  LanguageModel network(model, {700, 16, Precision::f32}, team);
  const Batch batch = task_batch(*task, RandomStream(0, "task test"), 0, 700);
  EXPECT_NEAR(network.forward(batch).loss, score.loss, 1e-6 * score.loss);
  uint64_t right = 0;
  for (size_t t = 0; t < batch.tokens.size(); ++t)
    right += batch.targets[t] >= 0 && network.answers()[t] == batch.targets[t] ? 1 : 0;
  EXPECT_EQ(score.targets, batch.target_count());
  EXPECT_EQ(score.right, right);
}

TEST(TaskScore, SequencesMayBeLongerThanTheContext) {
  const auto task = make_task(flip_flop(64));
  ThreadTeam team(1);
  EXPECT_EQ(score_task(model_for(*task), *task, 3, {}, team).sequences, 3U);
}

TEST(TaskScore, OptionsOfAttentionChangeTheAnswersOnly) {
  const auto task = make_task(flip_flop(16));
  const Model model = model_for(*task);
  ThreadTeam team(1);
  const double with = score_task(model, *task, 50, {}, team).loss;
  const ScoreOptions bare{.attention = {{"position", std::string("none")}}};
  EXPECT_NE(score_task(model, *task, 50, bare, team).loss, with);
  EXPECT_EQ(score_task(model, *task, 50, {}, team).loss, with);
  const ScoreOptions wrong{.attention = {{"positions", std::string("none")}}};
  EXPECT_THROW(score_task(model, *task, 50, wrong, team), Error);
}

TEST(TaskScore, TellsWhatShareOfTheKeysWasRead) {
  const auto task = make_task(flip_flop(256));
  ModelConfig config = config_for(*task);
  config.attention = {"stick_breaking", {{"exit_threshold", 0.5}}};
  Model model(config, 0.5);
  model.initialize(1);
  ThreadTeam team(1);
  const TaskScore eager = score_task(model, *task, 4, {}, team);
  EXPECT_GT(eager.attention.visible, eager.attention.visited);
  EXPECT_GT(eager.attention.mean_remainder, 0);
  const ScoreOptions all{.attention = {{"exit_threshold", 0.0}}};
  const TaskScore whole = score_task(model, *task, 4, all, team);
  EXPECT_EQ(whole.attention.visible, eager.attention.visible);
  EXPECT_EQ(whole.attention.visited, whole.attention.visible);
  EXPECT_EQ(score_task(model_for(*task), *task, 4, {}, team).attention.visible, 0U);
}

TEST(TaskScore, RefusesATaskOfOtherTokens) {
  const auto task = make_task(flip_flop(16)), other = make_task({"shell_game", {}});
  ThreadTeam team(1);
  EXPECT_THROW(score_task(model_for(*task), *other, 3, {}, team), Error);
}

}  // namespace
}  // namespace cairn
