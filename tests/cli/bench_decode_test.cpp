// `cairn bench decode` and `cairn bench prefill`, from the command line to what they report.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "cairn/cli/bench.h"
#include "cairn/cli/program.h"
#include "cairn/io/json.h"
#include "tests/support/verbs.h"

namespace cairn {
namespace {

using testing::HasSubstr;

Ran run(std::vector<std::string> words) {
  static const std::vector<VerbGroup> groups = {{"all", {&kBenchDecodeVerb, &kBenchPrefillVerb}}};
  words.insert(words.begin() + 1, {"--shape", "15m", "--threads", "1", "--blocks", "2"});
  return run_captured(groups, words);
}

std::vector<Json> lines_of(const Ran& ran) {
  EXPECT_EQ(ran.code, 0) << ran.err;
  std::vector<Json> lines;
  std::istringstream stream(ran.out);
  for (std::string line; std::getline(stream, line);) lines.push_back(parse_json(line, "bench"));
  return lines;
}

TEST(BenchDecode, SaysWhatDepthCosts) {
  const auto lines =
      lines_of(run({"decode", "--depth", "40", "--depth", "0", "--tokens", "2", "--json"}));
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0]["depth"], 0);
  EXPECT_EQ(lines[1]["depth"], 40);
  EXPECT_FALSE(lines[0].contains("depth_cost"));
  EXPECT_TRUE(lines[1]["depth_cost"].is_number());
  EXPECT_EQ(lines[1]["cache_type"], "f16");
  EXPECT_EQ(lines[1]["cache_bytes"], 2 * 6 * 6 * 48 * 40 * 2);  // 6 layers, 6 heads of 48
  EXPECT_FALSE(lines[1].contains("versus"));
}

TEST(BenchDecode, SetsAMechanismBesideSoftmaxInItsType) {
  for (const std::string mechanism : {"path", "relative_bias"}) {
    const auto lines = lines_of(
        run({"decode", "--mechanism", mechanism, "--depth", "9", "--tokens", "2", "--json"}));
    ASSERT_EQ(lines.size(), 1U);
    EXPECT_EQ(lines[0]["mechanism"], mechanism);
    EXPECT_EQ(lines[0]["cache_type"], "f32");
    EXPECT_EQ(lines[0]["versus"]["mechanism"], "softmax");
    EXPECT_EQ(lines[0]["versus"]["cache_type"], "f32");
    EXPECT_GT(lines[0]["ratio"], 0);
  }
}

TEST(BenchDecode, CountsTheKeysThatEarlyExitLeavesUnread) {
  const auto lines = lines_of(
      run({"decode", "--mechanism", "stick_breaking", "--versus", "stick_breaking,exit_threshold=0",
           "--depth", "300", "--tokens", "2", "--cache-type", "bf16", "--json"}));
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0]["versus"]["options"], Json({"exit_threshold=0"}));
  EXPECT_EQ(lines[0]["versus"]["cache_bytes_read"], lines[0]["cache_bytes"]);
  EXPECT_LT(lines[0]["cache_bytes_read"], lines[0]["cache_bytes"]);
}

TEST(BenchPrefill, SetsAMechanismBesideAnother) {
  const auto lines = lines_of(run({"prefill", "--mechanism", "fox", "--option", "gate_bias=6",
                                   "--versus", "path,path_rank=8", "--tokens", "20", "--json"}));
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0]["options"], Json({"gate_bias=6"}));
  EXPECT_EQ(lines[0]["versus"]["options"], Json({"path_rank=8"}));
  EXPECT_GT(lines[0]["ratio"], 0);
  EXPECT_EQ(lines_of(run({"prefill", "--tokens", "5", "--json"}))[0]["mechanism"], "softmax");
}

TEST(BenchDecode, RefusesWhatItCannotMeasure) {
  EXPECT_THAT(run({"decode", "--depth", "-1"}).err, HasSubstr("0 or more"));
  EXPECT_THAT(run({"decode", "--option", "window"}).err, HasSubstr("key=value"));
  EXPECT_THAT(run({"decode", "--mechanism", "paths"}).err, HasSubstr("path"));
  EXPECT_THAT(run({"decode", "--mechanism", "path", "--option", "rank=3"}).err, HasSubstr("rank"));
  EXPECT_THAT(run({"decode", "--mechanism", "path", "--model", "m"}).err, HasSubstr("--shape"));
  EXPECT_THAT(run({"decode", "--mechanism", "path", "--cache-type", "q8_0"}).err,
              HasSubstr("f32 or bf16"));
}

}  // namespace
}  // namespace cairn
