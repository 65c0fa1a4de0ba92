// The program around the verbs, run with verbs of the test's own.
#include "cairn/cli/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <new>
#include <optional>
#include <stdexcept>

#include "cairn/base/error.h"
#include "cairn/base/log.h"
#include "cairn/base/progress.h"

namespace cairn {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

struct Seen {
  std::string file;
  std::vector<std::string> more;
  std::string name = "plain";
  int64_t count = 7;
  double rate = 0.5;
  std::optional<double> given;
  std::vector<std::string> from;
  bool json = false;
  std::vector<std::string> overrides;
  int runs = 0;
};

Seen* g_seen = nullptr;

std::function<int()> prepare_all(Arguments& arguments) {
  Seen& seen = *g_seen;
  arguments.positional("FILE", "the file", seen.file);
  arguments.positionals("MORE", "more files", seen.more, false);
  arguments.option("-n,--name", "a name", seen.name);
  arguments.option("--count", "a count", seen.count);
  arguments.option("--rate", "a rate", seen.rate);
  arguments.option("--given", "a rate that may be left open", seen.given);
  arguments.option("--from", "where from", seen.from);
  arguments.flag("--json", "print JSON", seen.json);
  arguments.overrides("sets a key of the configuration", seen.overrides);
  return [&seen] {
    ++seen.runs;
    return 0;
  };
}

std::function<int()> prepare_named(Arguments& arguments) {
  arguments.positional("-f,--file,FILE", "the file", g_seen->file);
  return [] { return 0; };
}
std::function<int()> prepare_bare(Arguments&) {
  return [] { return 75; };
}
std::function<int()> prepare_error(Arguments&) {
  return []() -> int {
    throw Error({.kind = ErrorKind::checkpoint, .doing = "saving", .found = "no room"});
  };
}
std::function<int()> prepare_memory(Arguments&) {
  return []() -> int { throw std::bad_alloc(); };
}
std::function<int()> prepare_surprise(Arguments&) {
  return []() -> int { throw std::runtime_error("a library's own words"); };
}

const Verb kAll{.name = "all",
                .does = "Takes everything",
                .example = "cairn all x --json",
                .prepare = prepare_all};
const Verb kGroup{.name = "group",
                  .does = "Holds verbs",
                  .example = "cairn group stop",
                  .subverbs = {{.name = "stop", .does = "Stops", .prepare = prepare_bare},
                               {.name = "error", .does = "Fails", .prepare = prepare_error},
                               {.name = "memory", .does = "Fills", .prepare = prepare_memory},
                               {.name = "odd", .does = "Odd", .prepare = prepare_surprise}}};

const Verb kNamed{.name = "named", .does = "Takes a file", .prepare = prepare_named};

class Program : public testing::Test {
 protected:
  void SetUp() override { g_seen = &seen; }
  void TearDown() override {
    set_progress_quiet(false);
    set_log_level(LogLevel::info);
  }
  int run(const std::vector<std::string>& arguments) {
    const std::vector<VerbGroup> groups = {{"First", {&kAll, &kNamed}}, {"Second", {&kGroup}}};
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const int code = run_program(groups, arguments);
    out = testing::internal::GetCapturedStdout();
    err = testing::internal::GetCapturedStderr();
    return code;
  }
  Seen seen;
  std::string out, err;
};

TEST_F(Program, ReadsEveryKindOfArgument) {
  EXPECT_EQ(run({"all", "a", "b", "c", "-n", "x y", "--count=64k", "--rate", "-1.5e-3", "--from",
                 "p", "--from=q", "--json"}),
            0);
  EXPECT_EQ(err, "");
  EXPECT_EQ(seen.file, "a");
  EXPECT_THAT(seen.more, ElementsAre("b", "c"));
  EXPECT_EQ(seen.name, "x y");
  EXPECT_EQ(seen.count, 64000);
  EXPECT_EQ(seen.rate, -1.5e-3);
  EXPECT_THAT(seen.from, ElementsAre("p", "q"));
  EXPECT_TRUE(seen.json);
  EXPECT_EQ(seen.runs, 1);
}

TEST_F(Program, KeepsDefaultsOfWhatIsNotGiven) {
  EXPECT_EQ(run({"all", "a"}), 0);
  EXPECT_EQ(seen.name, "plain");
  EXPECT_EQ(seen.count, 7);
  EXPECT_EQ(seen.rate, 0.5);
  EXPECT_FALSE(seen.json);
  EXPECT_THAT(seen.overrides, IsEmpty());
}

TEST_F(Program, AnOptionMayBeLeftOpen) {
  EXPECT_EQ(run({"all", "a"}), 0);
  EXPECT_FALSE(seen.given.has_value());
  EXPECT_EQ(run({"all", "a", "--given", "0.5"}), 0);
  EXPECT_EQ(seen.given, 0.5);
  EXPECT_EQ(run({"all", "a", "--given", "half"}), 2);
  EXPECT_THAT(err, HasSubstr("--given"));
}

TEST_F(Program, ARepeatedOptionDoesNotSwallowThePositional) {
  EXPECT_EQ(run({"all", "--from", "p", "a"}), 0);
  EXPECT_THAT(seen.from, ElementsAre("p"));
  EXPECT_EQ(seen.file, "a");
}

TEST_F(Program, OverridesAreTakenWithAndWithoutEqualsSign) {
  EXPECT_EQ(run({"all", "--train.lr=1e-3", "--model.rope.theta", "-5", "a", "--x.name=a=b"}), 0);
  EXPECT_THAT(seen.overrides, ElementsAre("train.lr=1e-3", "model.rope.theta=-5", "x.name=a=b"));
  EXPECT_EQ(seen.file, "a");
  EXPECT_THAT(seen.more, IsEmpty());
}

TEST_F(Program, AnOverrideWithoutAValueIsWrongUse) {
  EXPECT_EQ(run({"all", "a", "--train.lr"}), 2);
  EXPECT_THAT(err, HasSubstr("--train.lr=VALUE"));
  EXPECT_EQ(seen.runs, 0);
}

TEST_F(Program, AFileNamedLikeAnOverrideCanFollowTwoDashes) {
  EXPECT_EQ(run({"all", "--", "--train.lr=3"}), 0);
  EXPECT_EQ(seen.file, "--train.lr=3");
  EXPECT_THAT(seen.overrides, IsEmpty());
}

TEST_F(Program, WholeNumbersAreExactOrRefused) {
  for (const auto& [text, value] :
       std::vector<std::pair<std::string, int64_t>>{{"0", 0},
                                                    {"-12", -12},
                                                    {"1e6", 1000000},
                                                    {"2.5k", 2500},
                                                    {"3M", 3000000},
                                                    {"9223372036854775807", INT64_MAX}}) {
    EXPECT_EQ(run({"all", "a", "--count", text}), 0) << text << err;
    EXPECT_EQ(seen.count, value) << text;
  }
  for (const std::string text : {"1.5", "abc", "", "12x", "1e30", "nan", "inf", "k", "0x10",
                                 "9223372036854775808", "1e16"}) {
    EXPECT_EQ(run({"all", "a", "--count=" + text}), 2) << text;
    EXPECT_THAT(err, HasSubstr("--count")) << text;
  }
}

TEST_F(Program, AnUnknownOptionSuggestsTheNearestOne) {
  EXPECT_EQ(run({"all", "a", "--jsno"}), 2);
  EXPECT_THAT(
      err, AllOf(HasSubstr("error: "), HasSubstr("--jsno"), HasSubstr("did you mean \"--json\"?")));
  EXPECT_EQ(seen.runs, 0);
}

TEST_F(Program, AMissingPositionalIsNamed) {
  EXPECT_EQ(run({"all"}), 2);
  EXPECT_THAT(err, HasSubstr("FILE"));
}

TEST_F(Program, APositionalWithNamesIsTakenEitherWay) {
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"named", "a"}, {"named", "-f", "a"}, {"named", "--file=a"}}) {
    seen.file.clear();
    EXPECT_EQ(run(words), 0);
    EXPECT_EQ(seen.file, "a");
  }
  EXPECT_EQ(run({"named", "a", "-f", "b"}), 2);
  EXPECT_EQ(run({"named"}), 2);
  EXPECT_THAT(err, HasSubstr("--file"));
}

TEST_F(Program, AnUnknownVerbSuggestsTheNearestOne) {
  EXPECT_EQ(run({"gruop"}), 2);
  EXPECT_THAT(err, AllOf(HasSubstr("\"gruop\""), HasSubstr("did you mean \"group\"?")));
  EXPECT_EQ(run({"group", "stpo"}), 2);
  EXPECT_THAT(err, HasSubstr("did you mean \"stop\"?"));
  EXPECT_EQ(run({"zzzzzzzz"}), 2);
  EXPECT_THAT(err, HasSubstr("cairn --help"));
}

TEST_F(Program, HelpNamesEveryVerbUnderItsHeading) {
  EXPECT_EQ(run({"--help"}), 0);
  EXPECT_THAT(out, AllOf(HasSubstr("First\n  all"), HasSubstr("Second\n  group")));
  EXPECT_EQ(run({}), 2) << "nothing was asked for";
  EXPECT_THAT(out, HasSubstr("Second\n  group"));
}

TEST_F(Program, AVerbsHelpShowsArgumentsDefaultsAndExampleAndRunsNothing) {
  EXPECT_EQ(run({"all", "--help"}), 0);
  EXPECT_THAT(out, AllOf(HasSubstr("cairn all x --json"), HasSubstr("FILE"), HasSubstr("--count"),
                         HasSubstr("7"), HasSubstr("--section.key=VALUE")));
  EXPECT_EQ(seen.runs, 0);
  EXPECT_EQ(run({"group", "--help"}), 0);
  EXPECT_THAT(out, AllOf(HasSubstr("stop"), HasSubstr("cairn group stop")));
}

TEST_F(Program, AGroupAloneShowsItsVerbsAsWrongUse) {
  EXPECT_EQ(run({"group"}), 2);
  EXPECT_THAT(out, HasSubstr("stop"));
}

TEST_F(Program, VersionIsOneLine) {
  EXPECT_EQ(run({"--version"}), 0);
  EXPECT_EQ(out, std::string("cairn ") + CAIRN_VERSION + "\n");
}

TEST_F(Program, TheActionsResultIsTheExitCode) {
  EXPECT_EQ(run({"group", "stop"}), kExitStopped);
}

TEST_F(Program, AnErrorIsPrintedWholeWithItsExitCode) {
  EXPECT_EQ(run({"group", "error"}), 5);
  EXPECT_EQ(err, "error: saving\n  found no room\n");
}

TEST_F(Program, OutOfMemoryAndForeignExceptionsEndInMessages) {
  EXPECT_EQ(run({"group", "memory"}), 1);
  EXPECT_THAT(err, HasSubstr("error: out of memory"));
  EXPECT_EQ(run({"group", "odd"}), 1);
  EXPECT_EQ(err, "error: a library's own words\n");
}

TEST_F(Program, LogLevelsAreCheckedAndQuietKeepsWarnings) {
  EXPECT_EQ(run({"all", "a", "--log-level", "loud"}), 2);
  EXPECT_THAT(err, HasSubstr("loud"));
  EXPECT_EQ(run({"all", "a", "--quiet"}), 0);
  testing::internal::CaptureStderr();
  log_info("hidden");
  log_warning("shown");
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr("warning"), HasSubstr(": shown\n"), Not(HasSubstr("hidden"))));
}

}  // namespace
}  // namespace cairn
