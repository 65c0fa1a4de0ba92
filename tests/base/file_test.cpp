#include "cairn/base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <set>
#include <sstream>

#include "cairn/base/error.h"
#include "tests/support/temporary_folder.h"

namespace cairn {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Operation = FileFaults::Operation;

// Read without the layer under test.
std::string content_of(const Path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

size_t entries_of(const Path& folder) {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    (void)entry;
    ++count;
  }
  return count;
}

// Fails, or ends the process, at the operation with number `at`; counts them all.
class FaultAt final : public FileFaults {
 public:
  explicit FaultAt(int at = -1, int error = 0, bool crash = false)
      : at_(at), error_(error), crash_(crash) {
    set_file_faults(this);
  }
  ~FaultAt() override { set_file_faults(nullptr); }
  FaultAt(const FaultAt&) = delete;
  FaultAt& operator=(const FaultAt&) = delete;

  Outcome before(Operation operation, const Path& path, size_t) override {
    EXPECT_FALSE(path.empty());
    seen.push_back(operation);
    if (static_cast<int>(seen.size()) - 1 != at_) return {};
    if (crash_) _exit(99);
    return {.error = error_};
  }
  std::vector<Operation> seen;

 private:
  int at_, error_;
  bool crash_;
};

// Lets each write(2) take only a few bytes, and none after `room` bytes.
class SmallDisk final : public FileFaults {
 public:
  SmallDisk(size_t bite, size_t room) : bite_(bite), room_(room) { set_file_faults(this); }
  ~SmallDisk() override { set_file_faults(nullptr); }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  Outcome before(Operation operation, const Path&, size_t bytes) override {
    if (operation != Operation::write) return {};
    if (room_ == 0) return {.error = ENOSPC};
    const size_t taken = std::min({bite_, room_, bytes});
    room_ -= taken;
    return {.limit = taken};
  }

 private:
  size_t bite_, room_;
};

// The error that `action` throws; fails the test when it throws none.
template <class Action>
Error error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error";
  return Error({.doing = "nothing"});
}

TEST(MappedFile, ShowsTheBytesOfTheFile) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "stone by stone");
  const MappedFile file(folder / "a");
  EXPECT_EQ(file.text(), "stone by stone");
  EXPECT_EQ(file.size(), 14U);
  EXPECT_EQ(file.bytes().size(), 14U);
  file.will_need(0, 14);
  file.will_need(5, SIZE_MAX);
  file.will_need(SIZE_MAX, 1);
}

TEST(MappedFile, AnEmptyFileIsAnEmptySpan) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "");
  const MappedFile file(folder / "a");
  EXPECT_TRUE(file.bytes().empty());
  EXPECT_EQ(file.text(), "");
}

TEST(MappedFile, MovesWithoutLosingTheBytes) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "first");
  write_file_atomically(folder / "b", "second");
  MappedFile a(folder / "a");
  MappedFile moved = std::move(a);
  EXPECT_EQ(moved.text(), "first");
  moved = MappedFile(folder / "b");
  EXPECT_EQ(moved.text(), "second");
  EXPECT_EQ(moved.path(), folder / "b");
  EXPECT_TRUE(MappedFile().bytes().empty());
}

TEST(MappedFile, StaysValidWhenTheFileIsReplaced) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "old");
  const MappedFile file(folder / "a");
  write_file_atomically(folder / "a", "new!");
  EXPECT_EQ(file.text(), "old");
}

TEST(MappedFile, WhatIsNoRegularFileIsADataError) {
  const TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  const Error absent = error_of([&] { MappedFile(folder / "absent"); });
  EXPECT_EQ(absent.kind(), ErrorKind::data);
  EXPECT_THAT(absent.what(), AllOf(HasSubstr("absent"), HasSubstr("No such file")));
  const Error is_folder = error_of([&] { MappedFile(folder.path()); });
  EXPECT_EQ(is_folder.kind(), ErrorKind::data);
  EXPECT_THAT(is_folder.what(), HasSubstr("a folder"));
  const Error pipe = error_of([&] { MappedFile(folder / "pipe"); });  // and does not wait
  EXPECT_EQ(pipe.kind(), ErrorKind::data);
  EXPECT_THAT(pipe.what(), HasSubstr("a regular file"));
}

TEST(ReadFile, ReadsAllAndRefusesTooMuch) {
  const TemporaryFolder folder;
  const std::string bytes("zero\0inside", 11);
  write_file_atomically(folder / "a", bytes);
  EXPECT_EQ(read_file(folder / "a"), bytes);
  EXPECT_EQ(read_file(folder / "a", 11), bytes);
  const Error error = error_of([&] { read_file(folder / "a", 10); });
  EXPECT_EQ(error.kind(), ErrorKind::data);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("at most 10 bytes"), HasSubstr("11 bytes")));
  EXPECT_EQ(error_of([&] { read_file(folder / "b"); }).kind(), ErrorKind::data);
}

TEST(FileWriter, CreatesAppendsAndCounts) {
  const TemporaryFolder folder;
  {
    FileWriter writer(folder / "a");
    writer.write("one");
    writer.write("two", 3);
    writer.write("");
    EXPECT_EQ(writer.written(), 6U);
    FileWriter moved = std::move(writer);
    moved.write("three");
    EXPECT_EQ(moved.written(), 11U);
    moved.sync();
    moved.close();
    moved.close();  // harmless
  }
  {
    FileWriter writer(folder / "a", FileWriter::Mode::append);
    writer.write("+");
    writer.close();
  }
  EXPECT_EQ(content_of(folder / "a"), "onetwothree+");
  FileWriter(folder / "a").close();
  EXPECT_EQ(content_of(folder / "a"), "") << "create starts anew";
}

TEST(FileWriter, ShortWritesLoseNothing) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 1000; ++i) text += std::to_string(i);
  for (const size_t bite : {1, 7, 1000}) {
    const SmallDisk disk(bite, SIZE_MAX);
    FileWriter writer(folder / "a");
    writer.write(text);
    writer.close();
    EXPECT_EQ(content_of(folder / "a"), text);
    EXPECT_EQ(writer.written(), text.size());
  }
}

TEST(FileWriter, AFullDiskIsAnErrorThatNamesFileAndRemedy) {
  const TemporaryFolder folder;
  const SmallDisk disk(4, 10);
  FileWriter writer(folder / "a");
  const Error error = error_of([&] { writer.write("more than ten bytes"); });
  EXPECT_EQ(error.kind(), ErrorKind::failed);
  EXPECT_THAT(error.what(), AllOf(HasSubstr((folder / "a").string()),
                                  HasSubstr("No space left on device"), HasSubstr("free some")));
  EXPECT_EQ(writer.written(), 10U);
}

TEST(FileWriter, TheKernelsOwnFullDiskIsTheSameError) {
  FileWriter writer("/dev/full");
  EXPECT_THAT(error_of([&] { writer.write("x"); }).what(), HasSubstr("No space left on device"));
}

TEST(FileWriter, EveryOperationCanFail) {
  const TemporaryFolder folder;
  const auto work = [&] {
    FileWriter writer(folder / "a");
    writer.write("x");
    writer.sync();
    writer.close();
  };
  const std::vector<Operation> order = [&] {
    FaultAt none;
    work();
    return none.seen;
  }();
  ASSERT_THAT(order, testing::ElementsAre(Operation::open, Operation::write, Operation::sync,
                                          Operation::close));
  for (size_t at = 0; at < order.size(); ++at) {
    const FaultAt fault(static_cast<int>(at), EIO);
    EXPECT_THAT(error_of(work).what(), HasSubstr("Input/output error")) << at;
  }
}

TEST(FileWriter, AFolderThatIsNotThereIsAnError) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { FileWriter(folder / "no/a"); }).what(),
              AllOf(HasSubstr("no/a"), HasSubstr("No such file or directory")));
}

TEST(WriteFileAtomically, AFailureAtAnyPointKeepsTheOldContentAndLeavesNoLitter) {
  const TemporaryFolder folder;
  const Path path = folder / "latest";
  int operations = 0;
  {
    const FaultAt none;
    write_file_atomically(path, "old");
    operations = static_cast<int>(none.seen.size());
  }
  ASSERT_EQ(operations, 6) << "open, write, sync, close, rename, sync of the folder";
  for (int at = 0; at < operations; ++at) {
    write_file_atomically(path, "old");
    const FaultAt fault(at, ENOSPC);
    error_of([&] { write_file_atomically(path, "new"); });
    // The last operation makes the rename durable; then the new content already stands.
    EXPECT_EQ(content_of(path), at + 1 == operations ? "new" : "old") << "operation " << at;
    EXPECT_EQ(entries_of(folder.path()), 1U) << "operation " << at;
  }
}

TEST(WriteFileAtomically, ACrashAtAnyPointLeavesTheOldOrTheNewContent) {
  const TemporaryFolder folder;
  const Path path = folder / "latest";
  std::set<std::string> outcomes;
  for (int at = 0; at < 7; ++at) {
    write_file_atomically(path, "old");
    const pid_t child = fork();
    if (child == 0) {
      const FaultAt fault(at, 0, true);
      write_file_atomically(path, "new");
      _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), at < 6 ? 99 : 0);
    EXPECT_THAT(content_of(path), testing::AnyOf("old", "new")) << "crash at " << at;
    outcomes.insert(content_of(path));
  }
  EXPECT_EQ(outcomes.size(), 2U);
}

TEST(WriteFileAtomically, ATargetThatCannotBeIsRefusedBeforeItIsFilled) {
  const TemporaryFolder folder;
  make_folders(folder / "inside");
  bool filled = false;
  const auto refusal = [&](const Path& path) -> std::string {
    try {
      write_file_atomically(path, [&](FileWriter&) { filled = true; });
    } catch (const Error& error) {
      return error.what();
    }
    return "written";
  };
  EXPECT_THAT(refusal(folder / "inside"), testing::HasSubstr("found a folder"));
  EXPECT_THAT(refusal(folder / "none/x"), testing::HasSubstr("found no such folder"));
  EXPECT_FALSE(filled);
  // A link is replaced itself, also one to a folder.
  std::filesystem::create_directory_symlink(folder / "inside", folder / "link");
  write_file_atomically(folder / "link", "x");
  EXPECT_EQ(content_of(folder / "link"), "x");
}

TEST(WriteFileAtomically, WorksInTheCurrentFolder) {
  const TemporaryFolder folder;
  const Path before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  write_file_atomically("bare", "x");
  std::filesystem::current_path(before);
  EXPECT_EQ(content_of(folder / "bare"), "x");
}

TEST(Folders, AreMadeRenamedAndSynced) {
  const TemporaryFolder folder;
  make_folders(folder / "a/b/c");
  make_folders(folder / "a/b/c");
  EXPECT_TRUE(std::filesystem::is_directory(folder / "a/b/c"));
  rename_file(folder / "a", folder / "z");
  EXPECT_TRUE(std::filesystem::is_directory(folder / "z/b/c"));
  sync_folder(folder.path());
  EXPECT_GT(free_space(folder.path()), 0U);
  write_file_atomically(folder / "f", "12345");
  truncate_file(folder / "f", 2);
  EXPECT_EQ(content_of(folder / "f"), "12");
}

TEST(Folders, FailuresNameThePath) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "f", "");
  EXPECT_THAT(error_of([&] { make_folders(folder / "f/x"); }).what(), HasSubstr("f/x"));
  EXPECT_THAT(error_of([&] { rename_file(folder / "no", folder / "b"); }).what(), HasSubstr("no"));
  EXPECT_THAT(error_of([&] { sync_folder(folder / "no"); }).what(), HasSubstr("no"));
  EXPECT_THAT(error_of([&] { truncate_file(folder / "no", 0); }).what(), HasSubstr("no"));
  EXPECT_THAT(error_of([&] { free_space(folder / "no"); }).what(), HasSubstr("no"));
  for (const auto& [operation, action] : std::vector<std::pair<Operation, std::function<void()>>>{
           {Operation::make_folder, [&] { make_folders(folder / "m"); }},
           {Operation::rename, [&] { rename_file(folder / "f", folder / "g"); }},
           {Operation::sync_folder, [&] { sync_folder(folder.path()); }},
           {Operation::truncate, [&] { truncate_file(folder / "f", 0); }}}) {
    const FaultAt fault(0, EACCES);
    EXPECT_THAT(error_of(action).what(), HasSubstr("Permission denied"));
    EXPECT_THAT(fault.seen, testing::ElementsAre(operation));
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "m"));
  EXPECT_TRUE(std::filesystem::exists(folder / "f"));
}

TEST(FileLock, HoldsOffOthersUntilItIsReleased) {
  const TemporaryFolder folder;
  const Path path = folder / "lock";
  {
    const FileLock lock(path);
    const Error error = error_of([&] { const FileLock second(path); });
    EXPECT_EQ(error.kind(), ErrorKind::failed);
    EXPECT_THAT(error.what(), HasSubstr("process " + std::to_string(getpid())));
  }
  const FileLock again(path);
}

TEST(FileLock, EndsWithItsProcessHoweverThatEnds) {
  const TemporaryFolder folder;
  const Path path = folder / "lock";
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const FileLock lock(path);
    if (write(ready[1], "x", 1) != 1) _exit(1);
    for (;;) pause();
  }
  char letter = 0;
  ASSERT_EQ(read(ready[0], &letter, 1), 1);
  close(ready[0]);
  close(ready[1]);
  EXPECT_THAT(error_of([&] { const FileLock lock(path); }).what(),
              HasSubstr("process " + std::to_string(child)));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  const FileLock lock(path);
}

TEST(IsLocked, SeesALockWithoutTakingIt) {
  const TemporaryFolder folder;
  const Path path = folder / "lock";
  EXPECT_FALSE(is_locked(path));
  {
    const FileLock lock(path);
    EXPECT_TRUE(is_locked(path));
  }
  EXPECT_FALSE(is_locked(path));
  const FileLock again(path);
}

TEST(FileReader, ReadsAnyPartAndNamesTheFileWhenItHasBeenCut) {
  const TemporaryFolder folder;
  const Path path = folder / "data";
  write_file_atomically(path, "0123456789");
  const FileReader reader(path);
  EXPECT_EQ(reader.size(), 10U);
  std::string part(4, '.');
  reader.read(3, part.data(), part.size());
  EXPECT_EQ(part, "3456");
  truncate_file(path, 5);
  EXPECT_THAT(error_of([&] { reader.read(3, part.data(), part.size()); }).what(),
              AllOf(HasSubstr(path.string()), HasSubstr("found its end at byte 5")));
  EXPECT_EQ(error_of([&] { const FileReader none(folder / "none"); }).kind(), ErrorKind::data);
}

// Threads of other tests may be about: the death test runs in a fresh process.
TEST(MappedFileDeathTest, OneThatIsCutEndsTheProcessWithItsNameAndTheExitCodeOfData) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const TemporaryFolder folder;
  const Path path = folder / "data";
  const auto read_what_is_gone = [&] {
    write_file_atomically(path, std::string(1 << 16, 'x'));
    const MappedFile other(path);
    const MappedFile file(path);
    truncate_file(path, 4096);
    volatile char sink = file.text()[1 << 15];
    static_cast<void>(sink);
  };
  EXPECT_EXIT(read_what_is_gone(), testing::ExitedWithCode(3), "error: reading .*data");
}

}  // namespace
}  // namespace cairn
