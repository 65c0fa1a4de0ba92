#include "cairn/runs/metrics.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <limits>

#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/runs/plot.h"

namespace cairn {
namespace {

using testing::HasSubstr;

class Metrics : public testing::Test {
 protected:
  Metrics() {
    std::string pattern = (std::filesystem::temp_directory_path() / "cairn-runs-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~Metrics() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  Path file() const { return folder_ / "metrics.jsonl"; }
  void write_steps(uint64_t count) const {
    MetricsLog log(file());
    for (uint64_t step = 1; step <= count; ++step)
      log.write({{"step", step},
                 {"tokens", 100 * step},
                 {"loss", 3.0 / static_cast<double>(step)},
                 {"lr", 1e-3},
                 {"tokens_per_second", 1000.0 + static_cast<double>(step)}});
  }
  Path folder_;
};

TEST_F(Metrics, NumbersAreWrittenAsTheJsonWriterWritesThem) {
  const double infinite = std::numeric_limits<double>::infinity();
  const std::vector<double> values = {0.0,     1.0,     -2.5,        1e-7,
                                      1.0 / 3, 6.02e23, 123456789.0, infinite};
  {
    MetricsLog log(file());
    for (const double value : values) log.write({{"step", uint64_t{7}}, {"value", value}});
  }
  const std::vector<Json> lines = read_metrics(file());
  ASSERT_EQ(lines.size(), values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_TRUE(lines[i].at("step").is_number_integer());
    if (values[i] == infinite) {
      EXPECT_TRUE(lines[i].at("value").is_null());
      continue;
    }
    EXPECT_TRUE(lines[i].at("value").is_number_float()) << values[i];
    EXPECT_EQ(lines[i].at("value").get<double>(), values[i]);
  }
}

TEST_F(Metrics, ReadBackWhatWasWritten) {
  write_steps(3);
  const Series loss = series(read_metrics(file()), "tokens", "loss");
  EXPECT_EQ(loss.x, (std::vector<double>{100, 200, 300}));
  EXPECT_EQ(loss.y, (std::vector<double>{3.0, 1.5, 1.0}));
}

TEST_F(Metrics, ATornLastLineIsLeftOutAtEveryLength) {
  write_steps(2);
  const std::string text = read_file(file());
  const size_t first = text.find('\n') + 1;
  for (size_t length = 0; length <= text.size(); ++length) {
    write_file_atomically(file(), text.substr(0, length));
    EXPECT_EQ(read_metrics(file()).size(), length < first ? 0U : length < text.size() ? 1U : 2U);
  }
}

TEST_F(Metrics, RewindingKeepsTheOldTailBeside) {
  write_steps(5);
  EXPECT_EQ(rewind_metrics(file(), 3).size(), 2U);
  EXPECT_EQ(read_metrics(file()).size(), 3U);
  EXPECT_EQ(read_metrics(file().string() + ".orphan-1").size(), 2U);
  EXPECT_TRUE(rewind_metrics(file(), 3).empty());
  EXPECT_FALSE(std::filesystem::exists(file().string() + ".orphan-2"));
  EXPECT_EQ(rewind_metrics(file(), 0, true).size(), 3U);
  EXPECT_TRUE(read_metrics(file()).empty());
}

TEST_F(Metrics, ABrokenLineIsNamed) {
  write_file_atomically(file(), "{\"step\": 1}\n{\"step\": }\n");
  try {
    read_metrics(file());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::data);
    EXPECT_THAT(error.what(), HasSubstr("line 2"));
  }
}

TEST_F(Metrics, PlotsEscapeTheNamesOfRuns) {
  write_steps(4);
  const Path evil = folder_ / "it's `touch x` \"$(y)\"";
  make_folders(evil);
  std::filesystem::copy(file(), evil / "metrics.jsonl");
  const std::string script = plot_script({.runs = {evil}}, "svg", folder_ / "out.svg");
  EXPECT_THAT(script, HasSubstr("it''s `touch x` \"$(y)\"'"));
}

TEST_F(Metrics, PlotsNeedARunWithSteps) {
  EXPECT_THROW(plot_script({}, "svg", "x"), Error);
  EXPECT_THROW(plot_script({.runs = {folder_}}, "svg", "x"), Error);
  write_steps(1);
  EXPECT_THROW(plot_script({.runs = {folder_}, .x = "weeks"}, "svg", "x"), Error);
}

TEST_F(Metrics, DrawsBothPictures) {
  if (std::system("command -v gnuplot > /dev/null") != 0) GTEST_SKIP() << "no gnuplot";
  write_steps(2000);
  const std::vector<Path> files = plot_runs({.runs = {folder_, folder_}, .output = folder_ / "p"});
  ASSERT_EQ(files.size(), 2U);
  EXPECT_THAT(read_file(files[0]), HasSubstr("<svg"));
  EXPECT_EQ(read_file(files[1]).substr(1, 3), "PNG");
}

}  // namespace
}  // namespace cairn
