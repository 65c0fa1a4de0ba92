#include "cairn/base/progress.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <regex>
#include <thread>

#include "cairn/base/log.h"

namespace cairn {
namespace {

TEST(Format, Durations) {
  EXPECT_EQ(format_duration(0), "0:00");
  EXPECT_EQ(format_duration(59.4), "0:59");
  EXPECT_EQ(format_duration(59.5), "1:00");
  EXPECT_EQ(format_duration(247), "4:07");
  EXPECT_EQ(format_duration(3599.9), "1:00:00");
  EXPECT_EQ(format_duration(3723), "1:02:03");
  EXPECT_EQ(format_duration(360000), "100:00:00");
  EXPECT_EQ(format_duration(-5), "0:00");
}

TEST(Format, CountsHaveThreeSignificantDigits) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(7), "7");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(0.5), "0.50");
  EXPECT_EQ(format_count(1000), "1.00k");
  EXPECT_EQ(format_count(1499), "1.50k");
  EXPECT_EQ(format_count(12345678), "12.3M");
  EXPECT_EQ(format_count(134.6e6), "135M");
  EXPECT_EQ(format_count(999499), "999k");
  EXPECT_EQ(format_count(999999), "1.00M");
  EXPECT_EQ(format_count(2.5e9), "2.50G");
  EXPECT_EQ(format_count(7e15), "7000T");
  EXPECT_EQ(format_count(-1500), "-1.50k");
}

TEST(Format, BytesHaveBinaryPrefixes) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(512), "512 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1.0 KiB");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes(uint64_t{1024} * 1024 - 1), "1.0 MiB");
  EXPECT_EQ(format_bytes(uint64_t{5} << 30), "5.0 GiB");
  EXPECT_EQ(format_bytes(~uint64_t{0}), "16777216.0 TiB");
}

TEST(ProgressText, SaysShareRateAndTimeLeft) {
  EXPECT_EQ(progress_text("packing", 37 << 20, 100 << 20, "B", 2),
            "packing   37%  18.5 MiB/s  0:03 left");
  EXPECT_EQ(progress_text("merging", 4000, 4000, "merges", 4),
            "merging  100%  1.00k merges/s  0:00 left");
}

TEST(ProgressText, LeavesOutWhatCannotBeKnown) {
  EXPECT_EQ(progress_text("reading", 5000, 0, "lines", 1), "reading  5.00k lines/s");
  EXPECT_EQ(progress_text("reading", 0, 10, "lines", 3), "reading    0%");
  EXPECT_EQ(progress_text("reading", 0, 0, "lines", 0), "reading");
  EXPECT_EQ(progress_text("reading", 12, 10, "lines", 1), "reading  100%  12 lines/s  0:00 left");
}

std::string shown_on_no_terminal(ProgressLine::Style style) {
  testing::internal::CaptureStderr();
  {
    ProgressLine line(style);
    line.show("too early");
    line.show("step 1", true);
    line.show("too soon after");
    line.show("step 2", true);
  }
  return testing::internal::GetCapturedStderr();
}

TEST(ProgressLine, WithoutATerminalPrintsPlainLines) {
  EXPECT_EQ(shown_on_no_terminal(ProgressLine::Style::automatic), "step 1\nstep 2\n");
}

TEST(ProgressLine, QuietPrintsNothing) {
  EXPECT_EQ(shown_on_no_terminal(ProgressLine::Style::quiet), "");
  set_progress_quiet(true);
  EXPECT_EQ(shown_on_no_terminal(ProgressLine::Style::automatic), "");
  set_progress_quiet(false);
}

TEST(ProgressCount, ShortWorkShowsNothing) {
  testing::internal::CaptureStderr();
  ProgressCount progress("short", 10, "steps");
  progress.advance(10);
  progress.finish();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

// Standard error as a terminal of `columns` columns, for one test.
class Terminal {
 public:
  explicit Terminal(unsigned short columns) {
    main_ = posix_openpt(O_RDWR | O_NOCTTY);
    grantpt(main_);
    unlockpt(main_);
    struct winsize size {};
    size.ws_col = columns;
    size.ws_row = 24;
    ioctl(main_, TIOCSWINSZ, &size);
    const int other = open(ptsname(main_), O_RDWR | O_NOCTTY);
    saved_ = dup(STDERR_FILENO);
    dup2(other, STDERR_FILENO);
    close(other);
  }
  ~Terminal() {
    restore();
    close(main_);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  // The first `lines` lines printed, without carriage returns before line feeds (the terminal adds
  // them). Waits for them: the kernel passes them on when it likes.
  std::string take(int lines) {
    std::fflush(stderr);
    restore();
    std::string text;
    while (std::count(text.begin(), text.end(), '\n') < lines) {
      char buffer[4096];
      const ssize_t length = read(main_, buffer, sizeof buffer);
      if (length <= 0) break;
      text.append(buffer, static_cast<size_t>(length));
    }
    for (size_t at; (at = text.find("\r\n")) != std::string::npos;) text.erase(at, 1);
    return text;
  }

 private:
  void restore() {
    if (saved_ < 0) return;
    dup2(saved_, STDERR_FILENO);
    close(saved_);
    saved_ = -1;
  }
  int main_ = -1;
  int saved_ = -1;
};

TEST(ProgressLine, OnATerminalRewritesOneLineThatFits) {
  Terminal terminal(12);
  {
    ProgressLine line;
    line.show("step 1", true);
    line.show("a line of more than twelve columns", true);
  }
  EXPECT_EQ(terminal.take(2), "\r\x1b[Kstep 1\n\r\x1b[Ka line of m\n");
}

TEST(ProgressLine, ALogMessageStartsOnItsOwnLine) {
  Terminal terminal(80);
  {
    ProgressLine line;
    while (!line.due()) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    line.show("step 1");
    log_debug("not shown at this level");
    log_warning("careful");
    log_warning("again");
  }
  EXPECT_THAT(terminal.take(3),
              testing::MatchesRegex("\r.\\[Kstep 1\n[^\n]*warning[^\n]*: careful\n[^\n]*again\n"));
}

TEST(Log, LevelsHideWhatIsBelowThem) {
  testing::internal::CaptureStderr();
  set_log_level(LogLevel::debug);
  log_debug("a");
  set_log_level(LogLevel::warning);
  log_info("b");
  log_warning("c");
  set_log_level(LogLevel::error);
  log_warning("d");
  log_error("{} is not a format");
  set_log_level(LogLevel::off);
  log_error("e");
  set_log_level(LogLevel::info);
  log_info("f");
  // The levels are coloured when the first message went to a terminal.
  EXPECT_EQ(
      std::regex_replace(testing::internal::GetCapturedStderr(), std::regex("\x1b\\[[0-9]*m"), ""),
      "debug: a\nwarning: c\nerror: {} is not a format\ninfo: f\n");
}

}  // namespace
}  // namespace cairn
