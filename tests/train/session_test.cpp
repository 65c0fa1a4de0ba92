// Whole sessions on a packed dataset, as `cairn train` runs them.
#include "cairn/train/session.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/data/dataset.h"
#include "cairn/runs/metrics.h"
#include "cairn/train/dataset_source.h"
#include "cairn/train/dry_run.h"
#include "tiny_session.h"

namespace cairn {
namespace {

using testing::HasSubstr;

class Session : public TinySession {};

TEST_F(Session, LeavesAModelFolderThatOpens) {
  const SessionResult result = train(config());
  EXPECT_TRUE(result.finished);
  EXPECT_EQ(result.step, 12U);
  EXPECT_GT(result.bits_per_byte, 0);
  const Model model = load_model(result.model);
  EXPECT_EQ(model.config().vocab_size, 40U);
  EXPECT_EQ(model.config().eos_ids, std::vector<int32_t>{39});
  EXPECT_EQ(model.weights_hash(), load_model(result.checkpoint).weights_hash());
}

TEST_F(Session, GoesOnWhereItStoppedWithTheSameBits) {
  const TrainConfig whole = config();
  const uint64_t expected = load_model(train(whole).model).weights_hash();
  std::filesystem::remove_all(run());
  make_folders(run());
  write_file_atomically(RunFolder{run()}.stop_file(), "");
  const SessionResult stopped = train(whole);
  EXPECT_FALSE(stopped.finished);
  EXPECT_LT(stopped.step, 12U);
  EXPECT_EQ(load_model(train(whole).model).weights_hash(), expected);
}

TEST_F(Session, AFinishedRunCanBeExtended) {
  train(config());
  const SessionResult more = train(config({"run.steps=15"}));
  EXPECT_TRUE(more.finished);
  EXPECT_EQ(more.step, 15U);
}

TEST_F(Session, RefusesToResumeAcrossAnotherModel) {
  train(config());
  const Problem problem = problem_of(config({"model.layers=3"}));
  EXPECT_EQ(problem.kind, ErrorKind::usage);
  EXPECT_THAT(problem.found, HasSubstr("model.layers was 2, is 3"));
  EXPECT_THAT(problem.hint, HasSubstr("run.folder"));
}

TEST_F(Session, RefusesToResumeOnOtherData) {
  train(config());
  std::filesystem::remove_all(data());
  write_tiny_dataset(data(), 2);
  EXPECT_EQ(problem_of(config({"run.steps=15"})).kind, ErrorKind::data);
}

TEST_F(Session, RefusesAFolderThatAnotherProcessTrainsIn) {
  make_folders(run());
  const FileLock lock(RunFolder{run()}.lock());
  EXPECT_THAT(problem_of(config()).found, HasSubstr("another process"));
}

TEST_F(Session, AVanishedOrDamagedShardIsADataError) {
  const Path shard = data() / "training-00000.tokens";
  {
    std::fstream stream(shard, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(-3, std::ios::end);
    stream.put('\x7f');
  }
  EXPECT_EQ(problem_of(config({"run.steps=200"})).kind, ErrorKind::data);
  std::filesystem::remove(shard);
  EXPECT_EQ(problem_of(config()).kind, ErrorKind::data);
}

TEST_F(Session, AFolderThatIsNoDatasetIsADataError) {
  std::filesystem::remove_all(data());
  EXPECT_EQ(problem_of(config()).kind, ErrorKind::data);
}

TEST_F(Session, RefusesMoreMemoryThanThereIs) {
  const Problem problem = problem_of(
      config({"batch.micro_batch=1000000", "batch.seq_len=16", "batch.tokens_per_step=16000000",
              "model.hidden_size=4096", "model.heads=64", "model.layers=64"}));
  EXPECT_EQ(problem.kind, ErrorKind::failed);
  EXPECT_THAT(problem.subject, HasSubstr("memory"));
  EXPECT_THAT(problem.hint, HasSubstr("micro_batch"));
}

TEST_F(Session, RefusesMoreThreadsThanAreAllowed) {
  EXPECT_EQ(problem_of(tiny_config({"data.folder=" + data().string(),
                                    "run.folder=" + run().string(), "run.threads=4000"}))
                .kind,
            ErrorKind::usage);
}

TEST_F(Session, ADryRunWritesNothingAndCountsEverything) {
  const DryRun run_ahead = dry_run(config());
  EXPECT_FALSE(std::filesystem::exists(run()));
  EXPECT_EQ(run_ahead.steps, 12U);
  EXPECT_EQ(run_ahead.parameters, parameter_count(run_ahead.model));
  EXPECT_GT(run_ahead.tokens_per_second, 0);
  EXPECT_NEAR(run_ahead.last_lr, 0.1 * 0.01, 1e-9);
  EXPECT_THAT(describe(run_ahead), HasSubstr("model.embed_tokens.weight"));
}

TEST_F(Session, NamesTheFilesOfABatch) {
  const DatasetSource source(data(), {.sequences = 2, .length = 16});
  const std::vector<std::string> files = source.files(0, 4);
  ASSERT_FALSE(files.empty());
  EXPECT_THAT(files[0], HasSubstr("document-"));
}

TEST_F(Session, EventFilesOfAResumedRunAnnounceTheirStep) {
  train(config({"log.tensorboard=true"}));
  train(config({"log.tensorboard=true", "run.steps=14"}));
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(RunFolder{run()}.tensorboard())) {
    EXPECT_THAT(entry.path().filename().string(), HasSubstr("tfevents"));
    ++files;
  }
  EXPECT_EQ(files, 2U);
}

}  // namespace
}  // namespace cairn
