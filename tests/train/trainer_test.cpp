#include "cairn/train/trainer.h"

#include <gtest/gtest.h>
#include <cmath>
#include <csignal>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/runs/metrics.h"
#include "tiny_run.h"

namespace cairn {
namespace {

using testing::HasSubstr;

// What a run learned and said, without what clocks measured.
struct Trace {
  std::vector<double> losses, rates, held_out;
  bool operator==(const Trace&) const = default;
};

Trace trace_of(const Path& folder) {
  const std::vector<Json> metrics = read_metrics(RunFolder{folder}.metrics());
  return {series(metrics, "step", "loss").y, series(metrics, "step", "lr").y,
          series(metrics, "step", "val_loss").y};
}

TEST(Trainer, LearnsToCount) {
  const TemporaryFolder folder;
  TinyRun run(folder.path(), {"run.steps=150", "eval.every=50"});
  run.run();
  const Trace trace = trace_of(folder.path());
  ASSERT_EQ(trace.losses.size(), 150U);
  ASSERT_EQ(trace.held_out.size(), 4U);  // before, twice on the way, at the end
  EXPECT_NEAR(trace.held_out.front(), std::log(32.0), 0.1);
  EXPECT_LT(trace.held_out.back(), 1.0);
}

TEST(Trainer, GivesTheSameBitsWith1And2Threads) {
  const TemporaryFolder one, two;
  EXPECT_EQ(TinyRun(one.path(), {}, 1).run(), TinyRun(two.path(), {}, 2).run());
  EXPECT_EQ(trace_of(one.path()), trace_of(two.path()));
}

// Removes the checkpoints after `step`, as if the process had died before it wrote them.
void forget_after(const Path& folder, uint64_t step) {
  const Path checkpoints = RunFolder{folder}.checkpoints();
  for (const uint64_t other : CheckpointStore(checkpoints).steps()) {
    const std::string digits = std::to_string(other);
    if (other > step)
      std::filesystem::remove_all(checkpoints /
                                  ("step-" + std::string(8 - digits.size(), '0') + digits));
  }
}

TEST(Trainer, ResumesToTheSameBitsFromAnyStep) {
  const TemporaryFolder whole;
  const uint64_t expected = TinyRun(whole.path()).run();
  const Trace trace = trace_of(whole.path());
  for (const uint64_t step : {0, 1, 5, 6, 11, 12}) {
    const TemporaryFolder folder;
    TinyRun(folder.path(), {"checkpoint.every=1", "checkpoint.keep_last=100"}).run();
    forget_after(folder.path(), step);
    TinyRun again(folder.path());
    EXPECT_EQ(again.trainer().state().step, step);
    EXPECT_EQ(again.run(), expected);
    EXPECT_EQ(trace_of(folder.path()), trace) << "from step " << step;
    EXPECT_EQ(std::filesystem::exists(folder.path() / "metrics.jsonl.orphan-1"), step < 12);
  }
}

TEST(Trainer, StopsAtTheStopFileWithACheckpoint) {
  const TemporaryFolder folder, whole;
  TinyRun first(folder.path());
  write_file_atomically(RunFolder{folder.path()}.stop_file(), "");
  EXPECT_EQ(first.trainer().run(), Trainer::Outcome::stopped);
  EXPECT_THAT(first.trainer().stop_reason(), HasSubstr("STOP"));
  EXPECT_FALSE(std::filesystem::exists(RunFolder{folder.path()}.stop_file()));
  TinyRun second(folder.path());
  EXPECT_EQ(second.trainer().state().step, 1U);
  EXPECT_EQ(second.run(), TinyRun(whole.path()).run());
}

TEST(Trainer, StopsAtASignalWithACheckpointOfThatStep) {
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) {
    const TemporaryFolder folder;
    TinyRun run(folder.path());
    run.source().raise_signal(signal, 4 * 4);  // four samples a step: in the fifth
    EXPECT_EQ(run.trainer().run(), Trainer::Outcome::stopped);
    EXPECT_EQ(run.trainer().state().step, 5U);
    EXPECT_EQ(TinyRun(folder.path()).trainer().state().step, 5U);
  }
}

TEST(Trainer, NamesStepPlaceAndFilesWhenTheLossIsNotFinite) {
  const TemporaryFolder folder;
  TinyRun run(folder.path(), {"optim.lr=10", "optim.clip=0", "schedule.warmup=0 steps",
                              "schedule.kind=constant", "run.steps=100000"});
  // As after a bad update: the next forward pass meets it in the first layer.
  run.trainer().model().vector("model.layers.1.input_layernorm.weight")[3] = NAN;
  try {
    run.run();
    FAIL() << "a run with NaN weights went on";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::diverged);
    EXPECT_THAT(error.what(), HasSubstr("step 1"));
    EXPECT_THAT(error.what(), HasSubstr("samples 0 to 1"));
    EXPECT_THAT(error.what(), HasSubstr("layer 1"));
  }
}

TEST(Trainer, KeepsTheLastGoodCheckpointWhenItDiverges) {
  const TemporaryFolder folder;
  TinyRun(folder.path()).run();
  TinyRun more(folder.path(), {"run.steps=100"});
  more.trainer().model().vector("model.norm.weight")[0] = INFINITY;
  try {
    more.run();
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("step-00000012"));
  }
  EXPECT_EQ(TinyRun(folder.path(), {"run.steps=100"}).trainer().state().step, 12U);
}

TEST(Trainer, RefusesToResumeOnOtherData) {
  const TemporaryFolder folder;
  TinyRun(folder.path()).run();
  const TrainConfig config = tiny_config();
  ThreadTeam team(1);
  CountingSource other(2, 16);
  other.set_fingerprint(78);
  EXPECT_THROW(Trainer({.config = config,
                        .data = other,
                        .team = team,
                        .model = config.model_config(CountingSource::kVocabulary),
                        .folder = {folder.path()}}),
               Error);
}

TEST(Trainer, StopsOnASpikeIfAsked) {
  const TemporaryFolder folder;
  TinyRun run(folder.path(),
              {"run.steps=100000", "health.on_spike=stop", "health.threshold=1", "eval.every=0"});
  EXPECT_THROW(run.run(), Error);
}

TEST(Trainer, RunsForATimeAndMakesUndoneStepsAgainAtTheSameRates) {
  const TemporaryFolder folder;
  const std::vector<std::string> overrides = {"run.steps=0", "run.time=1s", "checkpoint.every=2",
                                              "checkpoint.keep_last=1000000", "eval.every=0"};
  const uint64_t expected = TinyRun(folder.path(), overrides).run();
  const Trace before = trace_of(folder.path());
  ASSERT_GT(before.losses.size(), 2U);
  forget_after(folder.path(), 2);
  EXPECT_EQ(TinyRun(folder.path(), overrides).run(), expected);
  EXPECT_EQ(trace_of(folder.path()).losses, before.losses);
  EXPECT_EQ(trace_of(folder.path()).rates, before.rates);
}

// C2: however a batch is cut into micro-batches, its gradient is the same.
TEST(Trainer, AccumulatedGradientsEqualThoseOfTheWholeBatch) {
  const ModelConfig config = tiny_config().model_config(CountingSource::kVocabulary);
  ThreadTeam team(2, true);
  std::vector<float> whole;
  double whole_loss = 0;
  for (const size_t micro : {32, 16, 4, 1}) {
    Model model(config);
    model.initialize(5);
    LanguageModel network(model, {.sequences = micro, .length = 16}, team);
    CountingSource source(micro, 16, true);
    network.zero_gradients();
    LossSum sum;
    for (size_t i = 0; i < 32 / micro; ++i) {
      const LossSum part = network.forward_backward(source.next());
      sum.loss += part.loss;
      sum.targets += part.targets;
    }
    const std::span<float> gradients = network.gradients();
    if (whole.empty()) {
      whole.assign(gradients.begin(), gradients.end());
      whole_loss = sum.loss;
      continue;
    }
    double difference = 0, norm = 0;
    for (size_t i = 0; i < whole.size(); ++i) {
      difference += std::pow(double{gradients[i]} - double{whole[i]}, 2);
      norm += std::pow(double{whole[i]}, 2);
    }
    EXPECT_LT(std::sqrt(difference / norm), 1e-6) << "micro-batch " << micro;
    EXPECT_NEAR(sum.loss, whole_loss, 1e-6 * whole_loss);
  }
}

}  // namespace
}  // namespace cairn
