// `cairn attention show`, from the command line to what it prints and draws.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cairn/base/file.h"
#include "cairn/cli/program.h"
#include "cairn/io/json.h"
#include "cairn/model/model.h"
#include "tests/support/files.h"
#include "tests/support/verbs.h"

namespace cairn {
namespace {

using testing::HasSubstr;

class AttentionShow : public testing::Test {
 protected:
  void SetUp() override {
    ModelConfig config;
    config.vocab_size = 5;
    config.hidden_size = 16;
    config.intermediate_size = 16;
    config.layers = 2;
    config.heads = 2;
    config.kv_heads = 2;
    config.head_dim = 8;
    config.context_length = 64;
    config.attention.mechanism = "stick_breaking";
    Model model(config, 0.4);
    model.initialize(3);
    save_model(model, folder_ / "model");
  }
  Ran show(std::vector<std::string> more) const {
    static const std::vector<VerbGroup> groups = {{"all", {&kAttentionVerb}}};
    std::vector<std::string> words = {"attention", "show", (folder_ / "model").string()};
    words.insert(words.end(), more.begin(), more.end());
    return run_captured(groups, words);
  }
  TempFolder folder_;
};

const std::string kText = "w 1 i 0 i 1 r>1";

TEST_F(AttentionShow, NamesWhatTheLastTokenAttendsTo) {
  const Ran ran = show({kText, "--task", "flip_flop", "--layer", "1"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("layer 1, mean of 2 heads: token 6 \"r\" attends to"));
  EXPECT_THAT(ran.out, HasSubstr("stick"));
  EXPECT_THAT(show({kText, "--task", "flip_flop", "--layer", "0", "--token", "1"}).out,
              HasSubstr("given to no token"));  // its only earlier one does not take all
}

TEST_F(AttentionShow, WeightsOfATokenAreSharesInJson) {
  const Ran ran = show({kText, "--task", "flip_flop", "--head", "all", "--token", "4", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json shown = Json::parse(ran.out);
  EXPECT_EQ(shown.at("token"), 4);
  EXPECT_EQ(shown.at("tokens").at(6).at("text"), "r");
  ASSERT_EQ(shown.at("panels").size(), 4U);  // 2 layers of 2 heads
  for (const Json& panel : shown.at("panels")) {
    ASSERT_EQ(panel.at("weights").size(), 5U);
    double sum = 0;
    for (const double weight : panel.at("weights")) sum += weight;
    EXPECT_GT(sum, 0);
    EXPECT_LE(sum, 1);
    EXPECT_EQ(panel.at("extras").at("stick").at(3), 1.0);  // nothing newer than the last key
  }
}

TEST_F(AttentionShow, AllTokensAreRowsAndAPicture) {
  const std::string svg = (folder_ / "look.svg").string();
  const Ran ran =
      show({kText, "--task", "flip_flop", "--head", "max", "--token", "all", "--svg", svg});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("layer 0, strongest of 2 heads"));
  EXPECT_THAT(ran.out, HasSubstr(svg));
  EXPECT_THAT(read_file(svg), testing::StartsWith("<svg"));
}

TEST_F(AttentionShow, WhatCannotBeShownIsRefusedByName) {
  const auto message = [&](std::vector<std::string> words) {
    const Ran ran = show(std::move(words));
    EXPECT_EQ(ran.code, 2) << ran.out;
    return ran.err;
  };
  EXPECT_THAT(message({kText, "--task", "flip_flop", "--layer", "2"}), HasSubstr("0 to 1"));
  EXPECT_THAT(message({kText, "--task", "flip_flop", "--head", "x"}), HasSubstr("mean, max, all"));
  EXPECT_THAT(message({kText, "--task", "flip_flop", "--token", "7"}), HasSubstr("0 to 6"));
  EXPECT_THAT(message({"w 1 q", "--task", "flip_flop"}), HasSubstr("\"q\""));
  EXPECT_THAT(message({"--task", "flip_flop"}), HasSubstr("neither"));
  EXPECT_THAT(message({" ", "--task", "flip_flop"}), HasSubstr("at least one token"));
  EXPECT_EQ(show({kText}).code, 3);  // the folder has no tokenizer
}

}  // namespace
}  // namespace cairn
