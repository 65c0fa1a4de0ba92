#include "cairn/data/corpus.h"

#include <gtest/gtest.h>

#include <fstream>

#include "cairn/base/error.h"

namespace cairn {
namespace {

class CorpusTest : public testing::Test {
 protected:
  CorpusTest() : root_(testing::TempDir() + "corpus_test"), team_(2, true) {
    std::filesystem::remove_all(root_);
    std::filesystem::create_directories(root_ / "inner");
  }
  ~CorpusTest() override { std::filesystem::remove_all(root_); }

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
  EXPECT_TRUE(corpus.held_out.empty());
  EXPECT_EQ(corpus.training.size(), 2U);
  EXPECT_EQ(corpus.report.copies, 58U);

  for (int i = 0; i < 60; ++i)
    put("file" + std::to_string(i), lines(1000) + "the only own line of " + std::to_string(i));
  const Corpus near = gather();
  EXPECT_TRUE(near.held_out.empty());
  EXPECT_GT(near.report.near_duplicates, 5U);
  EXPECT_EQ(near.report.near_duplicates + near.training.size(), 60U);
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

TEST_F(CorpusTest, DocumentsNoticeAFileThatChanged) {
  put("file", lines(1));
  Corpus corpus = gather(0);
  EXPECT_EQ(Documents(corpus.training).views()[0], lines(1));
  put("file", lines(1) + "more");
  EXPECT_THROW(Documents{corpus.training}, Error);
  std::filesystem::remove(root_ / "file");
  EXPECT_THROW(Documents{corpus.training}, Error);
}

}  // namespace
}  // namespace cairn
