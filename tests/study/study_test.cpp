// Studies from configuration to table: what is run, what is remembered, and that an interruption
// changes nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cairn/base/log.h"
#include "cairn/runs/run_folder.h"
#include "cairn/study/report.h"
#include "tests/support/files.h"
#include "tests/support/golden.h"
#include "tests/train/tiny_dataset.h"

namespace cairn {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kSmall = R"([study]
seeds = 2
score = "error"
[data]
task = {name = "flip_flop", length = 16, ignore = 0.0}
[model]
hidden_size = 16
layers = 1
heads = 2
[batch]
micro_batch = 8
[run]
steps = 6
precision = "f32"
threads = 1
[eval]
every = 3
windows = 16
[log]
tensorboard = false
[[mechanism]]
name = "rope"
attention = "softmax"
lr = [1e-3, 1e-2]
[[mechanism]]
name = "no positions"
attention = "softmax"
options = {position = "none"}
optim = {weight_decay = 0.0}
[[test]]
name = "same"
sequences = 20
[[test]]
name = "twice as long"
sequences = 20
task = {length = 32}
only = ["rope"]
)";

class StudyRuns : public testing::Test {
 protected:
  void SetUp() override { set_log_level(LogLevel::warning); }
  void TearDown() override { set_log_level(LogLevel::info); }

  Study study(const std::string& text = kSmall, std::vector<std::string> overrides = {}) const {
    const Path file = folder_ / "small.toml";
    write_file_atomically(file, text);
    return load_study({.file = file, .overrides = std::move(overrides)});
  }
  Path results(const std::string& name = "results") const { return folder_ / (name + ".jsonl"); }
  Path runs(const std::string& name = "runs") const { return folder_ / name; }
  TempFolder folder_;
};

// The lines of a results file without what the clock decides.
std::vector<Json> timeless(const Path& file) {
  std::vector<Json> lines;
  std::istringstream text(read_file(file));
  for (std::string line; std::getline(text, line);) {
    lines.push_back(parse_json(line, file.string()));
    lines.back().erase("seconds");
    for (auto& [name, score] : lines.back()["scores"].items()) score.erase("seconds");
  }
  return lines;
}

TEST_F(StudyRuns, ReadsMechanismsTestsAndWhatAllShare) {
  const Study study = this->study();
  EXPECT_EQ(study.name, "small");
  EXPECT_EQ(study.seeds, 2U);
  ASSERT_EQ(study.mechanisms.size(), 2U);
  EXPECT_EQ(study.mechanisms[0].lr, (std::vector<double>{1e-3, 1e-2}));
  ASSERT_EQ(study.tests.size(), 2U);
  EXPECT_FALSE(study.tests[1].taken_by("no positions"));
  const StudyPlan plan = plan_study(study, StudyResults(results()), runs());
  // Seed 0 of both rates and of the other mechanism; the sweep decides about rope's second seed.
  ASSERT_EQ(plan.runs.size(), 4U);
  EXPECT_EQ(plan.waiting, 1U);
  const TrainConfig& bare = plan.runs[2].config;
  EXPECT_EQ(bare.model.attention.values.at("position"), OptionValue(std::string("none")));
  EXPECT_EQ(bare.optim.weight_decay, 0);
  EXPECT_EQ(plan.runs[0].config.optim.weight_decay, TrainConfig{}.optim.weight_decay);
  EXPECT_EQ(plan.runs[3].config.run.seed, 1U);
  EXPECT_EQ(plan.runs[3].config.data.seed, 1U);
}

TEST_F(StudyRuns, TrainsTestsAndLetsTheSweepChoose) {
  const Study study = this->study();
  StudyResults found(results());
  ASSERT_TRUE(run_study(study, found, runs(), kNoDeadline));
  EXPECT_EQ(found.size(), 5U);
  const std::vector<StudyRow> rows = study_rows(study, found);
  const StudyPlan plan = plan_study(study, found, runs());
  EXPECT_EQ(plan.waiting, 0U);
  const auto loss = [&](size_t run) {
    return found.find(plan.runs[run].hash)->at("held_out").at("loss").get<double>();
  };
  EXPECT_EQ(rows[0].lr, loss(0) <= loss(1) ? 1e-3 : 1e-2);
  EXPECT_EQ(rows[0].lines.size(), 2U);
  const Json& line = *rows[0].lines[0];
  EXPECT_EQ(line["steps"], 6);
  EXPECT_EQ(line["tokens"], 6 * 8 * 16);
  EXPECT_EQ(line["curve"]["tokens"].size(), 3U);
  EXPECT_EQ(line["scores"]["twice as long"]["length"], 32);
  EXPECT_EQ(line["scores"]["same"]["sequences"], 20);
  EXPECT_FALSE(rows[1].lines[0]->at("scores").contains("twice as long"));
}

TEST_F(StudyRuns, AnInterruptedGridLeavesTheSameLines) {
  const Study study = this->study();
  StudyResults whole(results("whole"));
  ASSERT_TRUE(run_study(study, whole, runs("whole"), kNoDeadline));
  // One that is stopped again and again: inside runs by their STOP file, and started anew.
  size_t sessions = 0;
  for (bool finished = false; !finished; ++sessions) {
    ASSERT_LT(sessions, 20U);
    StudyResults cut(results("cut"));
    for (const StudyRun& run : plan_study(study, cut, runs("cut")).runs)
      if (!is_done(study, run, cut)) {
        const RunFolder folder{run.config.run.folder};
        const bool begun = std::filesystem::exists(folder.checkpoints());
        make_folders(folder.root);
        if (!begun) write_file_atomically(folder.stop_file(), "");
      }
    finished = run_study(study, cut, runs("cut"), kNoDeadline);
  }
  EXPECT_GT(sessions, 3U);
  EXPECT_EQ(timeless(results("cut")), timeless(results("whole")));
}

TEST_F(StudyRuns, WhatIsDoneIsNotDoneAgain) {
  const Study study = this->study(kSmall, {"run.steps=2"});
  StudyResults first(results());
  ASSERT_TRUE(run_study(study, first, runs(), kNoDeadline));
  std::filesystem::remove_all(runs());
  StudyResults again(results());
  EXPECT_TRUE(run_study(study, again, runs(), kNoDeadline));
  EXPECT_EQ(timeless(results()).size(), 5U);
}

TEST_F(StudyRuns, ANewTestIsTakenWithoutTrainingAgain) {
  const std::vector<std::string> few = {"run.steps=2"};
  StudyResults first(results());
  ASSERT_TRUE(run_study(study(kSmall, few), first, runs(), kNoDeadline));
  const Study more = study(std::string(kSmall) +
                               "[[test]]\nname = \"noisy\"\nsequences = 8\n"
                               "task = {ignore = 0.9}\n",
                           few);
  StudyResults second(results());
  EXPECT_FALSE(is_done(more, plan_study(more, second, runs()).runs[0], second));
  ASSERT_TRUE(run_study(more, second, runs(), kNoDeadline));
  const StudyRun run = plan_study(more, second, runs()).runs[0];
  const Json line = *second.find(run.hash);
  EXPECT_EQ(line["scores"]["noisy"]["sequences"], 8);
  EXPECT_EQ(line["scores"]["same"], first.find(run.hash)->at("scores").at("same"));
  EXPECT_EQ(line["steps"], 2);
}

TEST_F(StudyRuns, ADeadlineStopsBetweenRuns) {
  StudyResults found(results());
  EXPECT_FALSE(run_study(study(), found, runs(), std::chrono::steady_clock::now()));
  EXPECT_EQ(found.size(), 0U);
}

TEST_F(StudyRuns, ADivergedRunIsAResult) {
  const Study study = this->study(kSmall, {"optim.clip=0", "run.steps=60", "model.init_std=1.0"});
  Study wild = study;
  wild.mechanisms = {study.mechanisms[1]};
  wild.mechanisms[0].lr = {10};
  wild.overrides.push_back("health.on_spike=stop");
  wild.overrides.push_back("health.threshold=1");
  wild.seeds = 1;
  StudyResults found(results());
  ASSERT_TRUE(run_study(wild, found, runs(), kNoDeadline));
  const std::vector<StudyRow> rows = study_rows(wild, found);
  EXPECT_EQ(rows[0].diverged, 1U);
  EXPECT_THAT(study_table(wild, found), HasSubstr("1 diverged"));
}

TEST_F(StudyRuns, TheHashIsOfWhatIsLearnedOnly) {
  const StudyResults none(results());
  const auto hash = [&](const std::vector<std::string>& overrides) {
    return plan_study(study(kSmall, overrides), none, runs()).runs[0].hash;
  };
  const std::string plain = hash({});
  EXPECT_EQ(hash({"run.threads=2", "checkpoint.every=5", "log.every=7"}), plain);
  EXPECT_EQ(plan_study(study(), none, runs("elsewhere")).runs[0].hash, plain);
  for (const char* key : {"run.steps=7", "model.layers=2", "data.task.ignore=0.1",
                          "optim.beta2=0.9", "model.attention.rope_theta=5000.0"})
    EXPECT_NE(hash({key}), plain) << key;
}

TEST_F(StudyRuns, TextIsTestedBeyondTheLengthOfTraining) {
  write_tiny_dataset(folder_ / "data");
  const Study study = this->study(
      "[study]\nseeds = 1\nscore = \"loss\"\n[data]\nfolder = \"" + (folder_ / "data").string() +
      "\"\n[model]\nhidden_size = 16\nlayers = 1\nheads = 2\n"
      "[batch]\nseq_len = 16\nmicro_batch = 4\n[run]\nsteps = 4\nthreads = 1\n"
      "precision = \"f32\"\n[log]\ntensorboard = false\n"
      "[[mechanism]]\nname = \"rope\"\nattention = \"softmax\"\n"
      "[[test]]\nname = \"16\"\n"
      "[[test]]\nname = \"64\"\nlength = 64\nstride = 16\n"
      "[[test]]\nname = \"64, one window\"\nlength = 64\nsequences = 1\n");
  StudyResults found(results());
  ASSERT_TRUE(run_study(study, found, runs(), kNoDeadline));
  const Json& scores = study_rows(study, found)[0].lines[0]->at("scores");
  // Every held-out token but the first is predicted once, whatever the windows.
  const TokenStream held_out(folder_ / "data", Split::held_out);
  EXPECT_EQ(scores["16"]["targets"], held_out.tokens() - 1);
  EXPECT_EQ(scores["64"]["targets"], held_out.tokens() - 1);
  EXPECT_EQ(scores["64"]["length"], 64);
  EXPECT_EQ(scores["64, one window"]["targets"], 64);
  EXPECT_NE(scores["16"]["loss"], scores["64"]["loss"]);
}

// A line as run_study() writes it, with scores of the test's own.
Json line_of(const StudyRun& run, uint64_t targets, uint64_t right) {
  const double accuracy = static_cast<double>(right) / static_cast<double>(targets);
  return {
      {"config", run.hash},
      {"seconds", 60.0},
      {"held_out", {{"loss", 0.1}, {"accuracy", accuracy}}},
      {"curve", {{"tokens", {0.0, 100.0}}, {"loss", {1.0, 0.1}}, {"accuracy", {0.5, accuracy}}}},
      {"scores",
       {{"same",
         {{"test", "x"},
          {"accuracy", accuracy},
          {"targets", targets},
          {"right", right},
          {"loss", 0.1}}}}}};
}

TEST_F(StudyRuns, TheTableShowsMeansIntervalsAndBounds) {
  const Study study = this->study();
  StudyResults found(results());
  const StudyPlan plan = plan_study(study, found, runs());
  found.append(line_of(plan.runs[2], 1000, 900));
  found.append(line_of(plan.runs[3], 1000, 700));
  std::string table = study_table(study, found);
  EXPECT_THAT(table, HasSubstr("| answers wrong | lr | seeds | same | twice as long |"));
  EXPECT_THAT(table, HasSubstr("| rope | open | 0 |  |  |"));
  // Mean 0.2, deviation 0.1414: 12.706 * 0.1414 / sqrt(2) = 1.27.
  EXPECT_THAT(table, HasSubstr("| no positions | 0.001 | 2 | 20.0 % ± 1.3e+02, worst 30.0 % |"));
  found.append(line_of(plan.runs[2], 1000, 1000));
  found.append(line_of(plan.runs[3], 2000, 2000));
  table = study_table(study, found);
  EXPECT_THAT(table, HasSubstr("0 % (0 of 3.00k wrong, error < 1.0e-03)"));
  const Json json = study_table_json(study, found);
  EXPECT_EQ(json["rows"][1]["tests"]["same"]["trials"], 3000);
}

TEST_F(StudyRuns, TheListSaysWhatIsMissing) {
  const Study study = this->study();
  StudyResults found(results());
  EXPECT_THAT(study_list(study, found, runs()), HasSubstr("small: 0 of 5 runs done"));
  ASSERT_TRUE(run_study(study, found, runs(), kNoDeadline));
  const std::string list = study_list(study, found, runs());
  EXPECT_THAT(list, HasSubstr("done     no positions  lr 0.001  seed 1"));
  EXPECT_THAT(list, HasSubstr("small: 5 of 5 runs done"));
}

TEST_F(StudyRuns, ThePictureHoldsACurveOfEachMechanism) {
  const Study study = this->study();
  StudyResults found(results());
  EXPECT_EQ(study_plot_script(study, found, "svg", "x"), "");
  const StudyPlan plan = plan_study(study, found, runs());
  found.append(line_of(plan.runs[2], 1000, 900));
  found.append(line_of(plan.runs[3], 1000, 700));
  const std::string script = study_plot_script(study, found, "svg", "x");
  EXPECT_THAT(script, HasSubstr("'no positions'"));
  EXPECT_THAT(script, HasSubstr("$learning1 << EOD\n0 0.5 0.5 0.5\n100 0.2 0.1 0.3\nEOD"));
  EXPECT_THAT(script, HasSubstr("$tests1 << EOD\n0.025 0.2 0 1\nEOD")) << "within what can be";
  EXPECT_THAT(script, HasSubstr("bars: 95 % interval"));
  EXPECT_THAT(script, Not(HasSubstr("'rope'")));
}

TEST_F(StudyRuns, ATornLineIsCutOffAndDamageIsNamed) {
  const StudyPlan plan = plan_study(study(), StudyResults(results()), runs());
  const std::string line = json_line(line_of(plan.runs[2], 10, 9));
  for (size_t cut = 1; cut < line.size(); ++cut) {
    write_file_atomically(results(), line + line.substr(0, cut));
    StudyResults found(results());
    EXPECT_EQ(found.size(), 1U);
    if (cut % 50 != 1) continue;
    found.append(line_of(plan.runs[3], 10, 8));
    EXPECT_EQ(StudyResults(results()).size(), 2U) << "cut at " << cut;
  }
  write_file_atomically(results(), line + "{\"seed\": 1}\n");
  EXPECT_THAT(message_of([&] { StudyResults found(results()); }), HasSubstr("jsonl:2"));
}

TEST_F(StudyRuns, MechanismsAreChosenByNameOrRoom) {
  write_file_atomically(folder_ / "small.toml", kSmall);
  const auto load = [&](std::vector<std::string> names) {
    return load_study({.file = folder_ / "small.toml", .mechanisms = std::move(names)});
  };
  EXPECT_EQ(load({"no positions"}).mechanisms.size(), 1U);
  EXPECT_EQ(load({"softmax", "rope"}).mechanisms[0].name, "softmax");
  const std::string message = message_of([&] { load({"rop"}); }, ErrorKind::usage);
  EXPECT_THAT(message, HasSubstr("did you mean \"rope\"?"));
  const Study bare = load_study({.task = "recall", .overrides = {"run.steps=1"}});
  EXPECT_EQ(bare.mechanisms.size(), attention_names().size());
  EXPECT_EQ(bare.name, "recall");
}

// Of each example, the mechanisms that this program has.
TEST_F(StudyRuns, TheExamplesArePlannable) {
  const std::vector<std::string> rooms = attention_names();
  size_t files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(golden_folder() / "../../examples/studies")) {
    Study study = load_study({.file = entry.path()});
    std::erase_if(study.mechanisms, [&](const StudyMechanism& mechanism) {
      const TomlValue& room = mechanism.settings.at("model.attention.mechanism");
      return std::find(rooms.begin(), rooms.end(), std::get<std::string>(room.value)) ==
             rooms.end();
    });
    EXPECT_FALSE(study.mechanisms.empty()) << entry.path();
    const StudyPlan plan = plan_study(study, StudyResults(results()), runs());
    EXPECT_GE(plan.runs.size(), study.mechanisms.size()) << entry.path();
    for (const StudyRun& run : plan.runs) {
      const TaskOptions& task = run.config.data.task;
      if (!task.name.empty()) {
        EXPECT_GT(make_task(task)->length(), 0U) << entry.path();
      }
      for (const StudyTest& test : study.tests) EXPECT_FALSE(test_hash(test, run).empty());
    }
    ++files;
  }
  EXPECT_GE(files, 7U);
}

TEST_F(StudyRuns, WrongStudiesGetMessagesToActOn) {
  const auto refusal = [&](const std::string& more) {
    return message_of(
        [&] {
          const Study study = this->study(std::string(kSmall) + more);
          plan_study(study, StudyResults(results()), runs());
        },
        ErrorKind::usage);
  };
  EXPECT_THAT(refusal("[[test]]\nname = \"same\"\n"), HasSubstr("two of \"same\""));
  EXPECT_THAT(refusal("[[test]]\nsequences = 3\n"), HasSubstr("a name"));
  EXPECT_THAT(refusal("[[test]]\nname = \"x\"\nlengths = 3\n"), HasSubstr("test.lengths"));
  EXPECT_THAT(refusal("[[mechanism]]\nname = \"x\"\noption = {a = 1}\n"),
              HasSubstr("mechanism.option.a"));
  EXPECT_THAT(refusal("[[mechanism]]\nname = \"x\"\nattention = \"softmx\"\n"),
              HasSubstr("did you mean \"softmax\"?"));
  EXPECT_THAT(refusal("[[mechanism]]\nname = \"x\"\nlr = \"high\"\n"), HasSubstr("mechanism.lr"));
  EXPECT_THAT(refusal("[[mechanism]]\nname = \"a, b\"\n"), HasSubstr("without a comma"));
  EXPECT_THAT(refusal("[optim]\nlrr = 1\n"), HasSubstr("did you mean \"optim.lr\"?"));
}

}  // namespace
}  // namespace cairn
