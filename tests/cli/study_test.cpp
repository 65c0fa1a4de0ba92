// `cairn study attention` and `cairn data sample --task`, from the command line to what they print.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cairn/cli/program.h"
#include "cairn/io/json.h"
#include "tests/support/files.h"
#include "tests/support/verbs.h"

namespace cairn {
namespace {

using testing::HasSubstr;
using testing::Not;

Ran cairn(const std::vector<std::string>& arguments) {
  static const std::vector<VerbGroup> groups = {{"all", {&kDataVerb, &kStudyVerb}}};
  return run_captured(groups, arguments);
}

class StudyVerb : public testing::Test {
 protected:
  // A study of two runs that take a moment.
  Ran study(std::vector<std::string> more) const {
    std::vector<std::string> words = {"study",
                                      "attention",
                                      "--task",
                                      "recall",
                                      "--mechanisms",
                                      "softmax",
                                      "--seeds",
                                      "2",
                                      "--results",
                                      (folder_ / "results.jsonl").string(),
                                      "--runs",
                                      (folder_ / "runs").string(),
                                      "--pictures",
                                      (folder_ / "pictures/recall").string(),
                                      "--data.task.pairs=2",
                                      "--model.hidden_size=16",
                                      "--model.layers=1",
                                      "--model.heads=2",
                                      "--batch.micro_batch=4",
                                      "--eval.windows=4",
                                      "--run.steps=3",
                                      "--run.threads=1",
                                      "--run.precision=f32",
                                      "--log.tensorboard=false"};
    words.insert(words.end(), more.begin(), more.end());
    return cairn(words);
  }
  TempFolder folder_;
};

TEST_F(StudyVerb, TrainsTablesDrawsAndRemembers) {
  const Ran first = study({});
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_THAT(first.out, HasSubstr("| softmax | 0.001 | 2 |"));
  EXPECT_THAT(first.err, HasSubstr("run 2 of 2: softmax  lr 0.001  seed 1"));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "pictures/recall.svg"));
  const Ran again = study({});
  EXPECT_EQ(again.out, first.out);
  EXPECT_THAT(again.err, Not(HasSubstr("run 1 of 2")));
  EXPECT_EQ(study({"--table"}).out, first.out);
  EXPECT_THAT(study({"--list"}).out, HasSubstr("recall: 2 of 2 runs done"));
}

TEST_F(StudyVerb, StopsInTimeAndGoesOn) {
  const Ran stopped = study({"--max-minutes", "1e-9"});
  EXPECT_EQ(stopped.code, 75);
  EXPECT_THAT(stopped.out, HasSubstr("recall: 0 of 2 runs done"));
  EXPECT_EQ(study({}).code, 0);
}

TEST_F(StudyVerb, PrintsJsonForMachines) {
  const Ran ran = study({"--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json table = parse_json(ran.out, "the table");
  EXPECT_EQ(table["rows"][0]["seeds"], 2);
  EXPECT_TRUE(table["rows"][0]["tests"]["as trained"].contains("half_width"));
}

TEST_F(StudyVerb, WrongUseIsExplained) {
  EXPECT_EQ(cairn({"study", "attention"}).code, 2);
  const Ran task = cairn({"study", "attention", "--task", "recal", "--run.steps=1", "--list"});
  EXPECT_EQ(task.code, 2);
  EXPECT_THAT(task.err, HasSubstr("did you mean \"recall\"?"));
  const Ran key = study({"--run.stps=3"});
  EXPECT_EQ(key.code, 2);
  EXPECT_THAT(key.err, HasSubstr("run.steps"));
}

TEST(DataSample, ShowsATaskForPeopleAndForMachines) {
  const Ran people = cairn({"data", "sample", "--task", "shell_game", "--task.length=4"});
  ASSERT_EQ(people.code, 0) << people.err;
  EXPECT_THAT(people.out, HasSubstr("start>cup0 swap("));
  const Ran machines =
      cairn({"data", "sample", "--task", "recall", "--task.pairs=2", "--count", "2", "--json"});
  ASSERT_EQ(machines.code, 0) << machines.err;
  EXPECT_EQ(std::count(machines.out.begin(), machines.out.end(), '\n'), 2);
  const Json line = parse_json(machines.out.substr(0, machines.out.find('\n')), "the sample");
  EXPECT_EQ(line["tokens"].size(), 7U);
  EXPECT_EQ(line["targets"].size(), 7U);
  EXPECT_EQ(cairn({"data", "sample"}).code, 2);
  EXPECT_EQ(cairn({"data", "sample", "folder", "--task", "recall"}).code, 2);
}

}  // namespace
}  // namespace cairn
