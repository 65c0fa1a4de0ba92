// `cairn bench exit`, from the command line to what it reports.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "cairn/base/file.h"
#include "cairn/cli/bench.h"
#include "cairn/cli/program.h"
#include "cairn/io/json.h"
#include "cairn/model/model.h"
#include "cairn/text/bpe_trainer.h"
#include "cairn/text/tokenizer_json.h"
#include "tests/support/files.h"
#include "tests/support/verbs.h"

namespace cairn {
namespace {

using testing::HasSubstr;

class BenchExit : public testing::Test {
 protected:
  void SetUp() override {
    std::string text;
    for (int i = 0; i < 200; ++i) text += "so many words, " + std::to_string(i * i) + " of them. ";
    write_file_atomically(folder_ / "text", text);
    ThreadTeam team(1);
    BpeTrainingOptions training;
    training.vocab_size = 270;
    const std::string_view view = text;
    save_tokenizer(train_bpe(std::span(&view, 1), training, team), model());
    save_with("stick_breaking");
  }
  void save_with(const std::string& mechanism) const {
    ModelConfig config;
    config.vocab_size = 270;
    config.hidden_size = config.intermediate_size = 16;
    config.layers = 1;
    config.heads = config.kv_heads = 2;
    config.head_dim = 8;
    config.context_length = 64;
    config.attention.mechanism = mechanism;
    Model made(config, 0.4);
    made.initialize(3);
    save_model(made, model());
  }
  Path model() const { return folder_ / "model"; }
  Ran run(const std::vector<std::string>& more) const {
    static const std::vector<VerbGroup> groups = {{"all", {&kBenchExitVerb}}};
    std::vector<std::string> words = {
        "exit", model().string(), (folder_ / "text").string(), "--threads", "1", "--repetitions",
        "1"};
    words.insert(words.end(), more.begin(), more.end());
    return run_captured(groups, words);
  }
  TempFolder folder_;
};

TEST_F(BenchExit, ReportsTimesVisitsAndPerplexityOfBoth) {
  const Ran ran = run({"--tokens", "1024", "--windows", "1", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json line = parse_json(ran.out, "bench exit");
  EXPECT_EQ(line["mechanism"], "stick_breaking");
  EXPECT_GT(line["visited"], 0);
  EXPECT_LT(line["visited"], 0.6) << "a fresh model gives its sticks away soon";
  EXPECT_LT(std::abs(line["perplexity_change"].get<double>()), 1e-4);
  EXPECT_GT(line["perplexity"], 1);
  for (const char* phase : {"train_attention", "train", "prefill", "decode"}) {
    EXPECT_GT(line[phase]["ms"], 0) << phase;
    EXPECT_GT(line[phase]["ms_without"], 0) << phase;
  }
}

TEST_F(BenchExit, NeedsATextThatIsLongEnough) {
  const Ran ran = run({"--tokens", "100000"});
  EXPECT_NE(ran.code, 0);
  EXPECT_THAT(ran.err, HasSubstr("at least 100064 tokens"));
  EXPECT_THAT(run({"--tokens", "1"}).err, HasSubstr("2 or more"));
}

TEST_F(BenchExit, NamesTheMechanismThatCannotStop) {
  save_with("softmax");
  const Ran ran = run({"--tokens", "64"});
  EXPECT_NE(ran.code, 0);
  EXPECT_THAT(ran.err, HasSubstr("found softmax"));
}

}  // namespace
}  // namespace cairn
