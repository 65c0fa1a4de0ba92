// Runs that begin from other runs or models, and what a resumed run may change.
#include "cairn/train/beginning.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/runs/metrics.h"
#include "cairn/train/session.h"
#include "tiny_dataset.h"
#include "tiny_run.h"

namespace cairn {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class BeginningTest : public testing::Test {
 protected:
  BeginningTest() { write_tiny_dataset(data()); }
  Path data() const { return folder_.path() / "data"; }
  Path run(const std::string& name = "run") const { return folder_.path() / name; }
  TrainConfig config(std::vector<std::string> overrides = {}, const std::string& name = "run") {
    overrides.insert(overrides.begin(), "checkpoint.keep_last=100");
    overrides.push_back("data.folder=" + data().string());
    overrides.push_back("run.folder=" + run(name).string());
    overrides.push_back("run.threads=1");
    return tiny_config(overrides);
  }
  Problem problem_of(const TrainConfig& config, const SessionOptions& options = {}) {
    try {
      train(config, options);
    } catch (const Error& error) {
      return error.problem();
    }
    ADD_FAILURE() << "no error";
    return {};
  }
  static Series curve(const Path& folder, const char* field) {
    return series(read_metrics(RunFolder{folder}.metrics()), "step", field);
  }
  TemporaryFolder folder_;
};

TEST_F(BeginningTest, AChangeOfResultsNeedsToBeAllowedByName) {
  train(config());
  const TrainConfig changed = config({"optim.lr=0.005", "data.seed=3", "run.steps=14"});
  const Problem problem = problem_of(changed);
  EXPECT_EQ(problem.kind, ErrorKind::usage);
  EXPECT_THAT(problem.found, HasSubstr("optim.lr was 0.01, is 0.005"));
  EXPECT_THAT(problem.hint, HasSubstr("--allow data.seed --allow optim.lr"));
  EXPECT_EQ(problem_of(changed, {.allow = {"optim.lr"}}).kind, ErrorKind::usage);
  EXPECT_EQ(train(changed, {.allow = {"optim.lr", "data.seed"}}).step, 14U);
}

TEST_F(BeginningTest, TheLengthOfTheRunAndTheMicroBatchMayChangeUnasked) {
  train(config());
  EXPECT_EQ(train(config({"run.steps=14", "batch.micro_batch=4", "checkpoint.every=2"})).step, 14U);
}

TEST_F(BeginningTest, AllowKnowsItsKeys) {
  EXPECT_THAT(problem_of(config(), {.allow = {"optim.lrr"}}).hint, HasSubstr("optim.lr"));
  EXPECT_EQ(problem_of(config(), {.allow = {"model.layers"}}).kind, ErrorKind::usage);
}

TEST_F(BeginningTest, OtherDataCanBeAllowedAndStartAtTheirFirstSample) {
  train(config());
  std::filesystem::remove_all(data());
  write_tiny_dataset(data(), 2);
  EXPECT_THAT(problem_of(config({"run.steps=14"})).hint, HasSubstr("--allow data.folder"));
  EXPECT_EQ(train(config({"run.steps=14"}), {.allow = {"data.folder"}}).step, 14U);
}

TEST_F(BeginningTest, ABranchGoesOnAsItsTrunkDidWhenNothingIsChanged) {
  const uint64_t expected = load_model(train(config()).model).weights_hash();
  const SessionOptions options{.branch = run(), .at = 8};
  const SessionResult branch = train(config({}, "branch"), options);
  EXPECT_EQ(load_model(branch.model).weights_hash(), expected);
  EXPECT_THAT(curve(run("branch"), "loss").x, ElementsAre(9, 10, 11, 12));
  const auto parent = read_parent({run("branch")});
  ASSERT_TRUE(parent.has_value());
  EXPECT_EQ(parent->how, "branch");
  EXPECT_EQ(parent->step, 8U);
  EXPECT_EQ(parent->folder, std::filesystem::weakly_canonical(run()));
  EXPECT_THAT(branch_points({run()}), ElementsAre(8));
  // The same command, and the folder's own configuration, find it finished.
  EXPECT_EQ(train(config({}, "branch"), options).step, 12U);
  EXPECT_EQ(train(load_config(RunFolder{run("branch")}.config(), {})).step, 12U);
}

TEST_F(BeginningTest, ABranchMayChangeWhatATrunkMayNot) {
  train(config());
  const SessionOptions options{.branch = run(), .at = 4};
  train(config({"optim.lr=0.001"}, "branch"), options);
  EXPECT_NE(curve(run("branch"), "loss").y.back(), curve(run(), "loss").y.back());
  const Problem problem = problem_of(config({"model.layers=3"}, "other"), options);
  EXPECT_THAT(problem.found, HasSubstr("model.layers was 2, is 3"));
}

TEST_F(BeginningTest, TheCheckpointThatABranchBeganFromIsKept) {
  train(config());
  train(config({}, "branch"), {.branch = run(), .at = 4});
  train(config({"run.steps=40", "checkpoint.keep_last=1"}));
  EXPECT_THAT(CheckpointStore(RunFolder{run()}.checkpoints()).steps(), ElementsAre(4, 40));
  train(config({"run.steps=44", "checkpoint.keep_last=1", "checkpoint.keep_branch_points=false"}));
  EXPECT_THAT(CheckpointStore(RunFolder{run()}.checkpoints()).steps(), ElementsAre(44));
}

TEST_F(BeginningTest, BranchingLeavesWhatTheTrunkIsWritingAlone) {
  train(config());
  const Path half = RunFolder{run()}.checkpoints() / "tmp-step-00000099-1";
  make_folders(half);
  train(config({}, "branch"), {.branch = run(), .at = 4});
  EXPECT_TRUE(std::filesystem::exists(half));
}

TEST_F(BeginningTest, ACooldownDecaysTheConstantRateAndEnds) {
  train(config({"schedule.kind=constant"}));
  const TrainConfig cooled =
      config({"schedule.kind=constant", "schedule.end_ratio=0", "schedule.shape=linear"}, "cool");
  const SessionOptions options{.branch = run(), .at = 8, .cooldown = Portion{0.5}};
  const SessionResult result = train(cooled, options);
  EXPECT_EQ(result.step, 12U);  // half of eight more
  const Series rates = curve(run("cool"), "lr");
  ASSERT_EQ(rates.y.size(), 4U);
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(rates.y[i], 0.01 * (3.0 - double(i)) / 4, 1e-12);
  EXPECT_EQ(train(cooled, options).step, 12U);
}

TEST_F(BeginningTest, ACooldownNeedsAConstantRate) {
  train(config());
  const Problem problem =
      problem_of(config({}, "cool"), {.branch = run(), .at = 8, .cooldown = Portion{0.5}});
  EXPECT_EQ(problem.kind, ErrorKind::usage);
  EXPECT_THAT(problem.found, HasSubstr("cosine"));
}

TEST_F(BeginningTest, WeightsOfAModelStartANewRun) {
  const SessionResult first = train(config());
  const TrainConfig tuned =
      config({"run.steps=4", "optim.lr=1e-12", "optim.weight_decay=0"}, "tuned");
  const SessionResult result = train(tuned, {.from = first.model});
  EXPECT_EQ(result.step, 4U);
  EXPECT_NEAR(curve(run("tuned"), "val_loss").y.front(), curve(run(), "val_loss").y.back(), 1e-6);
  EXPECT_EQ(read_parent({run("tuned")})->how, "weights");
  EXPECT_EQ(train(tuned, {.from = first.model}).step, 4U);
}

TEST_F(BeginningTest, AModelOfAnotherShapeSetsWhatTheConfigurationLeavesOpen) {
  const SessionResult first = train(config());
  const std::string text =
      "[batch]\nmicro_batch = 2\nseq_len = 16\n[run]\nsteps = 2\nthreads = 1\n";
  const std::vector<std::string> overrides = {"data.folder=" + data().string(),
                                              "run.folder=" + run("tuned").string()};
  const TrainConfig open = parse_config(text, "open.toml", overrides);
  EXPECT_EQ(load_model(train(open, {.from = first.model}).model).config().hidden_size, 16U);
  const TrainConfig wrong = parse_config(text + "[model]\nlayers = 7\n", "wrong.toml", overrides);
  const Problem problem = problem_of(wrong, {.from = first.model});
  EXPECT_EQ(problem.subject, "model.layers");
  EXPECT_THAT(problem.expected, HasSubstr("2, as the model has"));
}

TEST_F(BeginningTest, OptionsThatDoNotFitTogetherAreRefused) {
  train(config());
  EXPECT_EQ(problem_of(config({}, "b"), {.from = run(), .branch = run()}).kind, ErrorKind::usage);
  EXPECT_EQ(problem_of(config({}, "b"), {.at = 4}).subject, "--at");
  EXPECT_EQ(problem_of(config(), {.branch = run()}).subject, "run.folder");
  EXPECT_EQ(problem_of(config({}, "b"), {.branch = run(), .at = 5}).kind, ErrorKind::checkpoint);
  EXPECT_EQ(problem_of(config({}, "b"), {.branch = run("none")}).kind, ErrorKind::data);
  train(config({}, "b"), {.branch = run(), .at = 4});
  EXPECT_EQ(problem_of(config({}, "b"), {.branch = run(), .at = 8}).subject, "run.folder");
}

}  // namespace
}  // namespace cairn
