// A folder of one's own, file faults, and the message of an expected error, for tests.
#pragma once

#include <gtest/gtest.h>

#include <cerrno>
#include <string>

#include "cairn/base/error.h"
#include "cairn/base/file.h"
#include "tests/support/temporary_folder.h"

namespace cairn {

// A new empty folder that counts what is in it.
class TempFolder : public TemporaryFolder {
 public:
  // Number of files directly inside.
  size_t files() const {
    size_t count = 0;
    for (const auto& item : std::filesystem::directory_iterator(path()))
      count += item.is_regular_file() ? 1 : 0;
    return count;
  }
};

// Lets the file operation number `fail_at` (counted from 0) fail with `error`, and every write take
// at most `limit` bytes. Installed while it lives.
class FaultyFiles : public FileFaults {
 public:
  explicit FaultyFiles(size_t fail_at = SIZE_MAX, int error = ENOSPC, size_t limit = SIZE_MAX)
      : fail_at_(fail_at), error_(error), limit_(limit) {
    set_file_faults(this);
  }
  ~FaultyFiles() override { set_file_faults(nullptr); }

  Outcome before(Operation, const Path&, size_t) override {
    return {.error = seen_++ == fail_at_ ? error_ : 0, .limit = limit_};
  }
  // Operations so far: a first run without a fault says how many there are to fail.
  size_t seen() const { return seen_; }

 private:
  size_t fail_at_;
  int error_;
  size_t limit_;
  size_t seen_ = 0;
};

// The message of the Error of that kind that `action` throws; a failure when it throws none.
template <class Action>
std::string message_of(Action action, ErrorKind kind = ErrorKind::data) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(kind)) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

}  // namespace cairn
