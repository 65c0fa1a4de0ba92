// `cairn bench ablation` and `cairn bench draw`, from the command line to what they leave.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "cairn/base/file.h"
#include "cairn/cli/bench.h"
#include "cairn/cli/program.h"
#include "cairn/io/json.h"
#include "tests/support/files.h"
#include "tests/support/verbs.h"

namespace cairn {
namespace {

using testing::HasSubstr;

Ran run(const std::vector<std::string>& words) {
  static const std::vector<VerbGroup> groups = {
      {"all", {&kBenchAblationVerb, &kBenchDrawVerb, &kBenchDecodeVerb}}};
  return run_captured(groups, words);
}

TEST(BenchAblation, AddsPartByPartAndCanBeDrawn) {
  const Ran ran = run({"ablation", "--shape", "15m", "--format", "q4_0", "--depth", "4", "--blocks",
                       "2", "--tokens", "1", "--threads", "1", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json line = parse_json(ran.out, "bench ablation");
  ASSERT_EQ(line["steps"].size(), 5);
  EXPECT_EQ(line["steps"][1]["part"], "fusion");
  for (size_t i = 1; i < 5; ++i) {
    const Json& step = line["steps"][i];
    EXPECT_GT(step["ms"], 0);
    EXPECT_LE(step["low"], step["gain"]);
    EXPECT_LE(step["gain"], step["high"]);
  }
  EXPECT_GT(line["mbu"], 0);
  if (std::system("gnuplot --version > /dev/null 2>&1") != 0) GTEST_SKIP() << "no gnuplot";
  const TempFolder folder;
  write_file_atomically(folder / "results", ran.out);
  const std::string output = (folder / "picture").string();
  const Ran drawn = run({"draw", (folder / "results").string(), "--output", output});
  ASSERT_EQ(drawn.code, 0) << drawn.err;
  EXPECT_EQ(drawn.out, output + "-speed.svg\n" + output + "-speed.png\n" + output +
                           "-ablation.svg\n" + output + "-ablation.png\n");
  EXPECT_THAT(read_file(output + "-ablation.svg"), HasSubstr("+ prefetch"));
}

TEST(BenchAblation, RefusesWhatItCannotMeasure) {
  EXPECT_THAT(run({"ablation", "--format", "q9"}).err, HasSubstr("found q9"));
  EXPECT_THAT(run({"ablation", "--shape", "15m", "--depth", "0"}).err, HasSubstr("1 or more"));
  EXPECT_THAT(run({"decode", "--without", "fusion,streams"}).err, HasSubstr("constant-k"));
}

TEST(BenchDraw, TellsCachesAndMechanismsApartOverDepth) {
  if (std::system("gnuplot --version > /dev/null 2>&1") != 0) GTEST_SKIP() << "no gnuplot";
  const TempFolder folder;
  std::string lines;
  for (const std::string other : {"", ",\"cache_type\":\"q8_0\"", ",\"mechanism\":\"path\""})
    for (const int depth : {0, 128, 4096})
      lines += "{\"bench\":\"decode\",\"model\":\"135m\",\"format\":\"q4_0\",\"depth\":" +
               std::to_string(depth) + ",\"tokens_per_second\":500,\"bandwidth_gbs\":40," +
               "\"bytes\":80000000" + other + "}\n";
  write_file_atomically(folder / "results", lines);
  const std::string output = (folder / "picture").string();
  const Ran drawn = run({"draw", (folder / "results").string(), "--output", output});
  ASSERT_EQ(drawn.code, 0) << drawn.err;
  const std::string picture = read_file(output + "-depth.svg");
  EXPECT_THAT(picture, HasSubstr("135m q4_0, cache q8_0"));
  EXPECT_THAT(picture, HasSubstr("135m q4_0, path"));
}

TEST(BenchDraw, NamesAFileWithoutResults) {
  const TempFolder folder;
  write_file_atomically(folder / "other", "{\"bench\":\"gemv\"}\n");
  const Ran ran = run({"draw", (folder / "other").string()});
  EXPECT_EQ(ran.code, 3);
  EXPECT_THAT(ran.err, HasSubstr("cairn bench ablation --json"));
}

}  // namespace
}  // namespace cairn
