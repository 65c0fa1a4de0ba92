// Sessions that meet what a shared machine does to them: files cut, folders
// locked away, little text.
#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>

#include "cairn/base/error.h"
#include "cairn/base/log.h"
#include "cairn/train/dataset_source.h"
#include "cairn/train/session.h"
#include "tiny_session.h"

namespace cairn {
namespace {

using testing::HasSubstr;

class Robustness : public TinySession {};

// Cuts a file at the 20th write into metrics.jsonl: in the middle of training.
class CutWhileTraining final : public FileFaults {
 public:
  explicit CutWhileTraining(const Path& file) : file_(file) { set_file_faults(this); }
  ~CutWhileTraining() override { set_file_faults(nullptr); }
  CutWhileTraining(const CutWhileTraining&) = delete;
  CutWhileTraining& operator=(const CutWhileTraining&) = delete;

  Outcome before(Operation operation, const Path& path, size_t /*bytes*/) override {
    if (operation == Operation::write && path.filename() == "metrics.jsonl" && ++lines_ == 20)
      std::filesystem::resize_file(file_, 200);
    return {};
  }

 private:
  Path file_;
  int lines_ = 0;
};

TEST_F(Robustness, AShardThatIsCutWhileTrainingIsADataErrorAndNothingIsLost) {
  const TrainConfig forty = config({"run.steps=40", "eval.every=0"});
  const uint64_t expected = load_model(train(forty).model).weights_hash();
  std::filesystem::remove_all(run());
  const Path shard = data() / "training-00000.tokens";
  const std::string whole = read_file(shard);
  {
    const CutWhileTraining cut(shard);
    const Problem problem = problem_of(forty);
    EXPECT_EQ(problem.kind, ErrorKind::data);
    EXPECT_THAT(problem.doing, HasSubstr("training-00000.tokens"));
    EXPECT_THAT(problem.hint, HasSubstr("another process has cut it"));
  }
  write_file_atomically(shard, whole);
  EXPECT_EQ(load_model(train(forty).model).weights_hash(), expected);
}

// Refuses to make folders, as where others own them.
class NobodysFolder final : public FileFaults {
 public:
  NobodysFolder() { set_file_faults(this); }
  ~NobodysFolder() override { set_file_faults(nullptr); }
  NobodysFolder(const NobodysFolder&) = delete;
  NobodysFolder& operator=(const NobodysFolder&) = delete;
  Outcome before(Operation operation, const Path& /*path*/, size_t /*bytes*/) override {
    return {.error = operation == Operation::make_folder ? EACCES : 0};
  }
};

TEST_F(Robustness, AFolderThatCannotBeWrittenIsNamed) {
  const NobodysFolder nobodys;
  const Problem problem = problem_of(config());
  EXPECT_EQ(problem.kind, ErrorKind::failed);
  EXPECT_THAT(problem.doing, HasSubstr(run().string()));
  EXPECT_THAT(problem.found, HasSubstr("Permission denied"));
}

TEST_F(Robustness, AContextLongerThanTheHeldOutTextIsStillEvaluated) {
  // 306 held-out tokens, windows of 16: the last one is short. One window of
  // 1000 would be, too.
  const DatasetSource source(data(), {.sequences = 1, .length = 1000});
  ASSERT_EQ(source.held_out_windows(), 1U);
  EXPECT_EQ(source.held_out(0, 1).target_count(), 305U);
}

TEST_F(Robustness, PatienceExportsTheBestCheckpoint) {
  const SessionResult result =
      train(config({"run.steps=100", "eval.every=2", "eval.patience=2", "optim.lr=1e-12",
                    "optim.weight_decay=0", "checkpoint.keep_last=1"}));
  EXPECT_TRUE(result.finished);
  EXPECT_LT(result.model_step, result.step);
  const Path best = CheckpointStore(RunFolder{run()}.checkpoints()).find(result.model_step);
  EXPECT_EQ(load_model(result.model).weights_hash(), load_model(best).weights_hash());
}

}  // namespace
}  // namespace cairn
