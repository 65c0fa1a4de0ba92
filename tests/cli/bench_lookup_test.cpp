// `cairn bench lookup`, from the command line to what it reports.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

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

class BenchLookup : public testing::Test {
 protected:
  void save(size_t context) const {
    const std::string text = "def total(orders): return the same words, the same words";
    const std::string_view view = text;
    ThreadTeam team(1);
    BpeTrainingOptions training;
    training.vocab_size = 270;
    save_tokenizer(train_bpe(std::span(&view, 1), training, team), folder_.path());
    ModelConfig config;
    config.vocab_size = 270;
    config.hidden_size = config.intermediate_size = 16;
    config.layers = 1;
    config.heads = config.kv_heads = 2;
    config.head_dim = 8;
    config.context_length = context;
    Model made(config, 0.4);
    made.initialize(3);
    save_model(made, folder_.path());
  }
  Ran run(const std::vector<std::string>& more) const {
    static const std::vector<VerbGroup> groups = {{"all", {&kBenchLookupVerb}}};
    std::vector<std::string> words = {"lookup", folder_.path().string(), "--threads",
                                      "1",      "--repetitions",         "2"};
    words.insert(words.end(), more.begin(), more.end());
    return run_captured(groups, words);
  }
  TempFolder folder_;
};

TEST_F(BenchLookup, ReportsEachKindOfTextWithAndWithout) {
  save(4096);
  const Ran ran = run({"--tokens", "40", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  std::istringstream lines(ran.out);
  std::vector<std::string> tasks;
  for (std::string text; std::getline(lines, text);) {
    const Json line = parse_json(text, "bench lookup");
    tasks.push_back(line["task"]);
    EXPECT_GT(line["ratio"], 0);
    EXPECT_GE(line["ratio"], line["ratio_least"]);
    EXPECT_GE(line["tokens_per_pass"], 1);
    EXPECT_LE(line["tokens_per_pass"], 8);
    EXPECT_GE(line["accepted"], 0);
    EXPECT_LE(line["accepted"], 1);
  }
  EXPECT_EQ(tasks, (std::vector<std::string>{"edit", "quote", "new"}));
}

TEST_F(BenchLookup, RefusesAContextThatIsTooShortAndTextsOfOneToken) {
  save(64);
  EXPECT_THAT(run({"--tokens", "40"}).err, testing::HasSubstr("at most 64 tokens"));
  EXPECT_THAT(run({"--tokens", "1"}).err, testing::HasSubstr("2 or more"));
}

}  // namespace
}  // namespace cairn
