// Checkpoints under crashes, full disks and damage.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <mutex>

#include "cairn/base/error.h"
#include "cairn/base/log.h"
#include "cairn/train/checkpoint_store.h"
#include "tiny_run.h"

namespace cairn {
namespace {

using testing::HasSubstr;

// Counts file operations, of all threads; at number `at` ends the process or fails with `error`.
class Trap final : public FileFaults {
 public:
  Trap(size_t at, int error) : at_(at), error_(error) { set_file_faults(this); }
  ~Trap() override { set_file_faults(nullptr); }
  Trap(const Trap&) = delete;
  Trap& operator=(const Trap&) = delete;

  Outcome before(Operation operation, const Path& /*path*/, size_t bytes) override {
    const std::lock_guard lock(mutex_);
    if (seen_++ != at_) return {};
    if (error_ == 0) {
      // Half of a write is in the file when the process dies.
      if (operation == Operation::write && bytes > 1 && !halved_) {
        halved_ = true;
        --seen_;
        return {.limit = bytes / 2};
      }
      ::_exit(99);
    }
    return {.error = error_};
  }
  size_t seen() const { return seen_; }

 private:
  std::mutex mutex_;
  size_t at_, seen_ = 0;
  int error_;
  bool halved_ = false;
};

constexpr size_t kNever = SIZE_MAX;
const std::vector<std::string> kShort = {"run.steps=4", "checkpoint.every=1", "eval.every=0"};

TEST(Checkpoint, ACrashAtAnyFileOperationIsResumedToTheSameBits) {
  set_log_level(LogLevel::error);
  const TemporaryFolder whole;
  size_t operations = 0;
  uint64_t expected = 0;
  {
    Trap counter(kNever, 0);
    expected = TinyRun(whole.path(), kShort).run();
    operations = counter.seen();
  }
  ASSERT_GT(operations, 100U);
  // Every operation of the first two checkpoints, then some of the rest: they repeat.
  for (size_t at = 0; at < operations; at += at < operations / 2 ? 1 : 7) {
    const TemporaryFolder folder;
    const pid_t child = ::fork();
    if (child == 0) {
      Trap trap(at, 0);
      TinyRun(folder.path(), kShort).run();
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 99) << "operation " << at;
    ASSERT_EQ(TinyRun(folder.path(), kShort).run(), expected) << "operation " << at;
  }
  set_log_level(LogLevel::info);
}

TEST(Checkpoint, AFullDiskAtAnyOperationEndsInAnErrorAndKeepsTheOldOne) {
  set_log_level(LogLevel::error);
  const TemporaryFolder whole;
  const uint64_t expected = TinyRun(whole.path(), kShort).run();
  for (size_t at = 0; at < 360; at += 9) {
    const TemporaryFolder folder;
    // Two steps are safe, then the disk is full.
    TinyRun(folder.path(), {"run.steps=4", "checkpoint.every=2", "eval.every=0"}).run();
    std::filesystem::remove_all(folder.path() / "checkpoints" / "step-00000004");
    {
      auto run = std::make_unique<TinyRun>(folder.path(), kShort);
      Trap trap(at, ENOSPC);
      try {
        run->run();
      } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr("No space left"));
        const bool writing = error.problem().doing.find("checkpoints") != std::string::npos;
        EXPECT_EQ(error.kind(), writing ? ErrorKind::checkpoint : ErrorKind::failed);
      }
      run.reset();  // its writer may still be at work, and asks the trap
    }
    CheckpointStore store(RunFolder{folder.path()}.checkpoints());
    ASSERT_TRUE(store.newest().has_value());
    EXPECT_GE(store.newest()->step, 2U);
    ASSERT_EQ(TinyRun(folder.path(), kShort).run(), expected) << "operation " << at;
  }
  set_log_level(LogLevel::info);
}

void damage(const Path& file, size_t at) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekp(static_cast<std::streamoff>(at));
  stream.put('\x5a');
}

TEST(Checkpoint, ADamagedOneIsPassedOverForTheNewestThatIsWhole) {
  for (const char* file : {"model.safetensors", "optim.safetensors", "trainer.json", "MANIFEST"}) {
    const TemporaryFolder folder;
    TinyRun(folder.path()).run();
    damage(folder.path() / "checkpoints" / "step-00000012" / file, 100);
    EXPECT_EQ(TinyRun(folder.path()).trainer().state().step, 8U) << file;
  }
}

TEST(Checkpoint, AMissingOrCutFileIsPassedOver) {
  for (const char* file :
       {"model.safetensors", "optim.safetensors", "trainer.json", "config.json", "MANIFEST"}) {
    const TemporaryFolder folder;
    TinyRun(folder.path()).run();
    const Path path = folder.path() / "checkpoints" / "step-00000012" / file;
    truncate_file(path, std::filesystem::file_size(path) / 2);
    EXPECT_EQ(TinyRun(folder.path()).trainer().state().step, 8U) << file;
    std::filesystem::remove(path);
    EXPECT_EQ(TinyRun(folder.path()).trainer().state().step, 8U) << file;
  }
}

TEST(Checkpoint, KeepsTheNewestAndTheMultiplesAndTheBest) {
  const TemporaryFolder folder;
  TinyRun(folder.path(),
          {"checkpoint.every=1", "checkpoint.keep_last=3", "checkpoint.keep_every=5"})
      .run();
  const CheckpointStore store(RunFolder{folder.path()}.checkpoints());
  EXPECT_EQ(store.steps(), (std::vector<uint64_t>{5, 10, 11, 12}));
}

TEST(Checkpoint, KeepsTheBestWhenAsked) {
  const TemporaryFolder folder;
  CheckpointStore store(folder.path());
  for (const uint64_t step : {1, 2, 3, 4, 5})
    store.write(step, 0, [&](const Path& place) { write_file_atomically(place / "a", "a"); });
  store.retain({.keep_last = 1, .keep_every = 0, .steps = {2}});
  EXPECT_EQ(store.steps(), (std::vector<uint64_t>{2, 5}));
}

TEST(Checkpoint, RefusesBeforeWritingWhenThereIsNotEnoughSpace) {
  const TemporaryFolder folder;
  CheckpointStore store(folder.path());
  bool filled = false;
  try {
    store.write(1, uint64_t{1} << 62, [&](const Path&) { filled = true; });
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::checkpoint);
    EXPECT_THAT(error.what(), HasSubstr("free space"));
  }
  EXPECT_FALSE(filled);
}

TEST(Checkpoint, LeavesNothingBehindWhenWritingFails) {
  const TemporaryFolder folder;
  CheckpointStore store(folder.path());
  EXPECT_THROW(store.write(1, 0, [](const Path&) { throw Error({.doing = "x"}); }), Error);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Checkpoint, OpensAsAModelForInference) {
  const TemporaryFolder folder;
  TinyRun run(folder.path());
  const uint64_t hash = run.run();
  EXPECT_EQ(load_model(run.trainer().last_checkpoint()).weights_hash(), hash);
}

}  // namespace
}  // namespace cairn
