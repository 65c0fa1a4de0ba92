#include "cairn/data/corpus.h"

#include <gtest/gtest.h>

#include <fstream>

#include "cairn/base/error.h"
#include "tests/support/temporary_folder.h"

namespace cairn {
namespace {

class CorpusTest : public testing::Test {
 protected:
  CorpusTest() : root_(temporary_.path()), team_(2, true) {
    std::filesystem::create_directories(root_ / "inner");
  }

  void put(const std::string& name, const std::string& text) {
    std::ofstream(root_ / name, std::ios::binary) << text;
  }
  // Enough distinct lines that a file is no near-duplicate by chance.
  static std::string lines(int seed, int count = 20) {
    std::string text;
    for (int i = 0; i < count; ++i)
      text += "a line of file " + std::to_string(seed) + " number " + std::to_string(i) + "\n";
    return text;
  }
  Corpus gather(double held_out = 0.3) {
    CorpusOptions options;
    options.roots = {root_};
    options.held_out_fraction = held_out;
    return gather_corpus(options, team_);
  }

  TemporaryFolder temporary_;
  Path root_;
  ThreadTeam team_;
};

TEST_F(CorpusTest, SplitsByNameAndIsTheSameEachTime) {
  for (int i = 0; i < 100; ++i) put("file" + std::to_string(i), lines(i));
  const Corpus first = gather(), second = gather();
  EXPECT_EQ(first.training.size() + first.held_out.size(), 100U);
  EXPECT_GT(first.held_out.size(), 15U);
  EXPECT_LT(first.held_out.size(), 45U);
  ASSERT_EQ(first.training.size(), second.training.size());
  for (size_t i = 0; i < first.training.size(); ++i)
    EXPECT_EQ(first.training[i].name, second.training[i].name);
  // A file's part does not depend on the others.
  for (int i = 0; i < 100; i += 2) std::filesystem::remove(root_ / ("file" + std::to_string(i)));
  for (const CorpusFile& file : gather().held_out) {
    const bool before = std::any_of(first.held_out.begin(), first.held_out.end(),
                                    [&](const CorpusFile& f) { return f.name == file.name; });
    EXPECT_TRUE(before) << file.name;
  }
}

TEST_F(CorpusTest, LeavesOutBinaryShortAndLinkedFiles) {
  put("text", lines(1));
  put("inner/utf8", lines(2) + "caf\xc3\xa9\n");
  put("binary", lines(3) + std::string(1, '\0'));
  put("latin", std::string(200, '\xe9'));
  put("one_byte", "x");
  std::filesystem::create_symlink(root_ / "text", root_ / "link");
  std::filesystem::create_directory_symlink(root_, root_ / "inner" / "circle");
  const Corpus corpus = gather(0);
  ASSERT_EQ(corpus.training.size(), 2U);
  EXPECT_EQ(corpus.training[0].name, "inner/utf8");
  EXPECT_EQ(corpus.report.binary, 2U);
  EXPECT_EQ(corpus.report.too_small, 1U);
}

TEST_F(CorpusTest, RefusesHeldOutFilesThatTrainingGivesAway) {
  for (int i = 0; i < 60; ++i) put("file" + std::to_string(i), lines(i % 2));
  const Corpus corpus = gather();
  EXPECT_TRUE(corpus.held_out.empty() || corpus.held_out_is_a_tail);
  EXPECT_EQ(corpus.training.size(), 2U);
  EXPECT_EQ(corpus.report.copies, 58U);

  for (int i = 0; i < 60; ++i)
    put("file" + std::to_string(i), lines(1000) + "the only own line of " + std::to_string(i));
  const Corpus near = gather();
  EXPECT_TRUE(near.held_out.empty());
  EXPECT_GT(near.report.near_duplicates, 5U);
  // The tail that was tried instead is one more.
  EXPECT_EQ(near.report.near_duplicates + near.training.size(), 61U);
  for (const CorpusFile& file : near.training)
    EXPECT_EQ(file.bytes, std::filesystem::file_size(file.path));
}

TEST_F(CorpusTest, SaysWhatIsMissing) {
  EXPECT_THROW(gather(), Error);  // empty
  put("one_byte", "x");
  try {
    gather();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::data);
    EXPECT_NE(std::string(error.what()).find("1 too small"), std::string::npos) << error.what();
  }
  CorpusOptions nowhere;
  nowhere.roots = {root_ / "absent"};
  EXPECT_THROW(gather_corpus(nowhere, team_), Error);
  EXPECT_THROW(gather_corpus({}, team_), Error);
}

TEST_F(CorpusTest, KeepsAFileThatSharesFewLinesOrOnlyShortOnes) {
  for (int i = 0; i < 60; ++i) {
    std::string text = lines(i);
    for (int copy = 0; copy < 15; ++copy) text += "a licence that all files open with\n";
    for (int copy = 0; copy < 40; ++copy) text += "  }\n#endif\n";
    put("file" + std::to_string(i), text);
  }
  const Corpus corpus = gather();
  EXPECT_EQ(corpus.report.near_duplicates, 0U);
  EXPECT_EQ(corpus.training.size() + corpus.held_out.size(), 60U);
}

TEST_F(CorpusTest, SeesThroughIndentationAndCase) {
  for (int i = 0; i < 60; ++i) {
    std::string text;
    for (int line = 0; line < 20; ++line)
      text += std::string(static_cast<size_t>(i), ' ') + (i % 2 == 0 ? "SOME" : "some") +
              std::string(static_cast<size_t>(1 + i % 3), '\t') + "line " + std::to_string(line) +
              " of all\n";
    put("file" + std::to_string(i), text);
  }
  const Corpus corpus = gather();
  EXPECT_TRUE(corpus.held_out.empty());
  EXPECT_GT(corpus.report.near_duplicates, 5U);
}

TEST_F(CorpusTest, TheReportDoesNotDependOnThreads) {
  for (int i = 0; i < 80; ++i) put("file" + std::to_string(i), lines(i / 3) + lines(i));
  const Corpus two = gather();
  ThreadTeam one(1);
  CorpusOptions options;
  options.roots = {root_};
  options.held_out_fraction = 0.3;
  const Corpus single = gather_corpus(options, one);
  ASSERT_EQ(single.held_out.size(), two.held_out.size());
  for (size_t i = 0; i < two.held_out.size(); ++i)
    EXPECT_EQ(single.held_out[i].name, two.held_out[i].name);
  EXPECT_EQ(single.report.near_duplicates, two.report.near_duplicates);
  EXPECT_GT(two.report.near_duplicates, 0U);
}

TEST_F(CorpusTest, HoldsOutTheEndOfASingleFile) {
  put("book", lines(1, 1000));
  CorpusOptions options;
  options.roots = {root_ / "book"};
  options.held_out_fraction = 0.1;
  options.max_file_bytes = 1000;  // not for a file that was named
  const Corpus corpus = gather_corpus(options, team_);
  ASSERT_EQ(corpus.training.size(), 1U);
  ASSERT_EQ(corpus.held_out.size(), 1U);
  EXPECT_TRUE(corpus.held_out_is_a_tail);
  const std::string begin(CorpusText(corpus.training[0]).text());
  const std::string end(CorpusText(corpus.held_out[0]).text());
  EXPECT_EQ(begin + end, lines(1, 1000));
  EXPECT_EQ(begin.back(), '\n');
  EXPECT_NEAR(static_cast<double>(end.size()), 0.1 * static_cast<double>(lines(1, 1000).size()),
              60);

  options.held_out_fraction = 0;
  EXPECT_TRUE(gather_corpus(options, team_).held_out.empty());
}

TEST_F(CorpusTest, HoldsNothingOutOfASingleLine) {
  put("line", std::string(200, 'x'));
  const Corpus corpus = gather(0.1);
  EXPECT_EQ(total_bytes(corpus.training) + total_bytes(corpus.held_out), 200U);
  EXPECT_FALSE(corpus.training.empty());
}

TEST_F(CorpusTest, AFileThatChangedIsReadAsItWasGatheredOrRefused) {
  put("file", lines(1));
  const Corpus corpus = gather(0);
  EXPECT_EQ(Documents(corpus.training).views()[0], lines(1));
  put("file", lines(1) + "more");
  EXPECT_EQ(Documents(corpus.training).views()[0], lines(1));
  put("file", lines(1).substr(1));
  EXPECT_THROW(Documents{corpus.training}, Error);
  std::filesystem::remove(root_ / "file");
  EXPECT_THROW(Documents{corpus.training}, Error);
}

}  // namespace
}  // namespace cairn
