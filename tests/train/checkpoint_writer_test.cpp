// Checkpoints written behind training's back.
#include "cairn/train/checkpoint_writer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <thread>

#include "cairn/base/error.h"
#include "cairn/base/log.h"
#include "tiny_run.h"

namespace cairn {
namespace {

using testing::HasSubstr;

// Holds up the first write into the checkpoint of `step` until release(), or fails it.
class Gate final : public FileFaults {
 public:
  Gate(const std::string& step, int error) : step_(step), error_(error) { set_file_faults(this); }
  ~Gate() override { set_file_faults(nullptr); }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  Outcome before(Operation operation, const Path& path, size_t /*bytes*/) override {
    if (operation != Operation::write || path.string().find(step_) == std::string::npos) return {};
    reached_ = true;
    if (error_ != 0) return {.error = error_};
    // A deadlock would be the failure to find: after a while the test goes on and says so.
    for (int i = 0; i < 20000 && !released_; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return {};
  }
  void release() { released_ = true; }
  bool reached() const { return reached_; }
  bool released() const { return released_; }

 private:
  std::string step_;
  int error_;
  std::atomic<bool> reached_{false}, released_{false};
};

const std::vector<std::string> kEvery4 = {"run.steps=8", "checkpoint.every=4", "eval.every=0"};

// A source that opens the gate when the run asks for the batch with sample `at`.
class Opener final : public BatchSource {
 public:
  Opener(CountingSource& source, Gate& gate, uint64_t at) : source_(source), gate_(gate), at_(at) {}
  uint64_t samples() const override { return source_.samples(); }
  uint64_t fingerprint() const override { return source_.fingerprint(); }
  void seek(uint64_t first) override { source_.seek(first); }
  Batch next() override {
    if (source_.position() >= at_) gate_.release();
    return source_.next();
  }
  std::vector<std::string> files(uint64_t first, uint64_t count) const override {
    return source_.files(first, count);
  }
  uint64_t held_out_windows() const override { return 0; }
  Batch held_out(uint64_t first, uint64_t count) const override {
    return source_.held_out(first, count);
  }
  double bytes_per_token() const override { return 1; }

 private:
  CountingSource& source_;
  Gate& gate_;
  uint64_t at_;
};

TEST(CheckpointWriter, TrainingGoesOnWhileOneIsWrittenAndTheCopyIsOfItsStep) {
  const TemporaryFolder folder, whole;
  Gate gate("tmp-step-00000004", 0);
  const TrainConfig config = tiny_config(kEvery4);
  ThreadTeam team(1);
  CountingSource counting(2, 16);
  Opener source(counting, gate, 6 * 4);  // four samples a step: in the seventh step
  Trainer trainer({.config = config,
                   .data = source,
                   .team = team,
                   .model = config.model_config(CountingSource::kVocabulary),
                   .folder = {folder.path()}});
  EXPECT_EQ(trainer.run(), Trainer::Outcome::finished);
  EXPECT_TRUE(gate.reached());
  EXPECT_TRUE(gate.released()) << "the seventh step waited for the checkpoint of the fourth";
  TinyRun four(whole.path(), {"run.steps=8", "checkpoint.background=false", "checkpoint.every=4",
                              "eval.every=0"});
  four.run();
  for (const char* step : {"step-00000004", "step-00000008"})
    EXPECT_EQ(load_model(folder.path() / "checkpoints" / step).weights_hash(),
              load_model(whole.path() / "checkpoints" / step).weights_hash())
        << step;
}

TEST(CheckpointWriter, AFailedWriteEndsTheRunWithACheckpointErrorAndTheOlderOneStays) {
  set_log_level(LogLevel::error);
  for (const char* background : {"true", "false"}) {
    const TemporaryFolder folder;
    const std::vector<std::string> overrides = {"run.steps=40", "checkpoint.every=4",
                                                std::string("checkpoint.background=") + background};
    {
      TinyRun run(folder.path(), overrides);
      Gate gate("tmp-step-00000008", ENOSPC);
      try {
        run.run();
        ADD_FAILURE() << "the error got lost, background " << background;
      } catch (const Error& error) {
        EXPECT_EQ(error.exit_code(), 5);
        EXPECT_THAT(error.what(), HasSubstr("No space left"));
      }
      EXPECT_LT(run.trainer().state().step, 13U) << "the next checkpoint had to notice";
    }
    TinyRun again(folder.path(), overrides);
    EXPECT_EQ(again.trainer().state().step, 4U);
  }
  set_log_level(LogLevel::info);
}

TEST(CheckpointWriter, AFailureOfTheLastWriteIsNotLost) {
  set_log_level(LogLevel::error);
  const TemporaryFolder folder;
  TinyRun run(folder.path(), kEvery4);
  const Gate gate("tmp-step-00000008", EIO);
  EXPECT_THROW(run.run(), Error);
  set_log_level(LogLevel::info);
}

TEST(CheckpointWriter, DeletesNothingWhenTheNewestIsDamaged) {
  const TemporaryFolder folder;
  CheckpointStore store(folder.path());
  for (const uint64_t step : {1, 2, 3})
    store.write(step, 0, [&](const Path& place) { write_file_atomically(place / "a", "a"); });
  truncate_file(folder.path() / "step-00000003" / "a", 0);
  store.retain({.keep_last = 1});
  EXPECT_EQ(store.steps(), (std::vector<uint64_t>{1, 2, 3}));
}

}  // namespace
}  // namespace cairn
