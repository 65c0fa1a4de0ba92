#include "cairn/runs/catalog.h"

#include <gtest/gtest.h>

#include "cairn/runs/lineage.h"
#include "tests/support/files.h"

namespace cairn {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Catalog : public testing::Test {
 protected:
  RunFolder make_run(const std::string& name, const std::string& metrics) {
    const RunFolder run{folder_ / name};
    make_folders(run.root);
    write_file_atomically(run.config(), "[run]\nsteps = 3\n");
    write_file_atomically(run.metrics(), metrics);
    return run;
  }
  TempFolder folder_;
};

constexpr const char* kMetrics =
    "{\"step\":0,\"tokens\":0,\"elapsed_s\":1,\"val_loss\":4.5}\n"
    "{\"step\":1,\"tokens\":64,\"loss\":4.25,\"loss_average\":4.25,\"elapsed_s\":2,"
    "\"tokens_per_second\":100,\"skipped\":0}\n"
    "{\"step\":1,\"tokens\":64,\"elapsed_s\":3,\"val_loss\":4.0,\"bits_per_byte\":2.5}\n"
    "{\"step\":2,\"event\":\"rewind\",\"rewinds\":2}\n"
    "{\"step\":2,\"tokens\":128,\"loss\":4.5,\"loss_average\":4.375,\"elapsed_s\":4,"
    "\"tokens_per_second\":300,\"skipped\":1}\n"
    "{\"step\":2,\"tokens\":128,\"elapsed_s\":5,\"val_loss\":4.125,\"bits_per_byte\":2.75}\n"
    "{\"step\":3,\"tok";  // being written

TEST_F(Catalog, TellsHowARunWent) {
  const RunFolder run = make_run("a", kMetrics);
  for (const char* step : {"step-00000002", "step-00000001", "tmp-step-00000003-77", "step-x"})
    make_folders(run.checkpoints() / step);
  const RunSummary summary = summarize_run(run.root);
  EXPECT_EQ(summary.step, 2U);
  EXPECT_EQ(summary.tokens, 128U);
  EXPECT_EQ(summary.seconds, 5);
  EXPECT_EQ(summary.tokens_per_second, 300);  // the upper one of two
  EXPECT_EQ(summary.loss, 4.375);
  EXPECT_EQ(summary.held_out_loss, 4.125);
  EXPECT_EQ(summary.bits_per_byte, 2.75);
  EXPECT_EQ(summary.best_held_out, 4.0);
  EXPECT_EQ(summary.best_step, 1U);
  EXPECT_EQ(summary.skipped, 1U);
  EXPECT_EQ(summary.rewinds, 2U);
  EXPECT_THAT(summary.checkpoints, ElementsAre(1, 2));
  EXPECT_FALSE(summary.parent.has_value());
}

TEST_F(Catalog, KnowsBegunStoppedRunningAndFinishedRuns) {
  const RunFolder run = make_run("a", "");
  EXPECT_EQ(summarize_run(run.root).state, RunState::begun);
  make_folders(run.checkpoints() / "step-00000002");
  EXPECT_EQ(summarize_run(run.root).state, RunState::stopped);
  {
    const FileLock lock(run.lock());
    EXPECT_EQ(summarize_run(run.root).state, RunState::running);
  }
  make_folders(run.model());
  write_file_atomically(run.model() / "config.json", "{}");
  EXPECT_EQ(summarize_run(run.root).state, RunState::finished);
}

TEST_F(Catalog, FindsRunsAtAnyDepthButNotInsideRuns) {
  make_run("b", "");
  make_run("deep/er/a", "");
  make_run("b/checkpoints/odd", "");
  make_folders(folder_ / "empty");
  std::filesystem::create_directory_symlink(folder_.path(), folder_ / "circle");
  EXPECT_THAT(find_runs(folder_.path()), ElementsAre(folder_ / "b", folder_ / "deep/er/a"));
  EXPECT_THAT(find_runs(folder_ / "b"), ElementsAre(folder_ / "b"));
  EXPECT_THAT(message_of([&] { find_runs(folder_ / "none"); }, ErrorKind::data),
              HasSubstr("nothing there"));
}

TEST_F(Catalog, WhatIsNoRunAndWhatIsDamagedIsNamed) {
  make_folders(folder_ / "x");
  EXPECT_THAT(message_of([&] { summarize_run(folder_ / "x"); }, ErrorKind::data),
              HasSubstr("config.toml"));
  const RunFolder run = make_run("a", "{\"step\":1}\nnonsense\n");
  EXPECT_THAT(message_of([&] { summarize_run(run.root); }, ErrorKind::data),
              HasSubstr("metrics.jsonl line 2"));
}

TEST_F(Catalog, ParentsAndBranchPointsReadBack) {
  const RunFolder run = make_run("a", ""), child = make_run("b", "");
  EXPECT_FALSE(read_parent(run).has_value());
  write_parent(child, {.how = "cooldown", .folder = run.root, .step = 7, .tokens = 448});
  const auto parent = read_parent(child);
  ASSERT_TRUE(parent.has_value());
  EXPECT_EQ(parent->how, "cooldown");
  EXPECT_EQ(parent->folder, run.root);
  EXPECT_EQ(parent->step, 7U);
  EXPECT_EQ(parent->tokens, 448U);
  EXPECT_THAT(branch_points(run), ElementsAre());
  for (const uint64_t step : {7, 3, 7}) add_branch_point(run, step, child.root);
  EXPECT_THAT(branch_points(run), ElementsAre(3, 7));
  {
    FileWriter torn(run.branches(), FileWriter::Mode::append);
    torn.write("{\"step\": 9, \"ru");
    torn.close();
  }
  EXPECT_THAT(branch_points(run), ElementsAre(3, 7));
  write_file_atomically(child.parent(),
                        "{\"how\":\"magic\",\"folder\":\"x\",\"step\":1,\"tokens\":1}");
  EXPECT_THAT(message_of([&] { read_parent(child); }, ErrorKind::data), HasSubstr("how"));
}

}  // namespace
}  // namespace cairn
