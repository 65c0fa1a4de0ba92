// `cairn bench load`, from the command line to what it reports.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

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

Ran run(const std::vector<std::string>& words) {
  static const std::vector<VerbGroup> groups = {{"all", {&kBenchLoadVerb}}};
  return run_captured(groups, words);
}

void save_small_model(const Path& folder) {
  const std::string_view text = "the theme of the other then there";
  ThreadTeam team(1);
  BpeTrainingOptions training;
  training.vocab_size = 270;
  save_tokenizer(train_bpe(std::span(&text, 1), training, team), folder);
  ModelConfig config;
  config.vocab_size = 270;
  config.hidden_size = config.intermediate_size = 32;
  config.layers = 1;
  config.heads = config.kv_heads = 2;
  config.head_dim = 16;
  config.context_length = 64;
  Model model(config, 0.4);
  model.initialize(3);
  save_model(model, folder);
}

TEST(BenchLoad, TellsTheWholeAndItsParts) {
  const TempFolder folder;
  save_small_model(folder.path());
  const Ran ran = run({"load", folder.path().string(), "--precision", "q8_0", "--blocks", "2",
                       "--threads", "1", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json line = parse_json(ran.out, "bench load");
  EXPECT_EQ(line["threads"], 1);
  for (const char* part :
       {"total_ms", "tokenizer_ms", "weights_ms", "program_ms", "first_token_ms"})
    EXPECT_GT(line[part], 0) << part;
}

TEST(BenchLoad, RefusesNoBlocksAndNoModel) {
  const TempFolder folder;
  EXPECT_THAT(run({"load", folder.path().string(), "--blocks", "0"}).err,
              testing::HasSubstr("1 or more"));
  EXPECT_EQ(run({"load", (folder / "nothing").string(), "--threads", "1"}).code, 3);
}

}  // namespace
}  // namespace cairn
