#include "cairn/base/suggest.h"

#include <gtest/gtest.h>

#include <vector>

namespace cairn {
namespace {

const std::vector<std::string> kWords = {"train", "tokenizer", "run", "--json", "train.lr"};

TEST(Suggest, FindsOneSlipOfEachKind) {
  EXPECT_EQ(closest_word("trian", kWords), "train") << "swapped";
  EXPECT_EQ(closest_word("trai", kWords), "train") << "missing";
  EXPECT_EQ(closest_word("trrain", kWords), "train") << "doubled";
  EXPECT_EQ(closest_word("traim", kWords), "train") << "replaced";
  EXPECT_EQ(closest_word("tokeniser", kWords), "tokenizer");
  EXPECT_EQ(closest_word("train.rl", kWords), "train.lr");
}

TEST(Suggest, SaysNothingWhenNothingIsNear) {
  EXPECT_EQ(closest_word("export", kWords), "");
  EXPECT_EQ(closest_word("", kWords), "");
  EXPECT_EQ(closest_word("train", {}), "");
  EXPECT_EQ(did_you_mean("export", kWords), "");
  EXPECT_EQ(closest_word(std::string(100000, 'a'), kWords), "") << "and does not take long";
}

TEST(Suggest, TheFirstOfEquallyNearWordsWins) {
  const std::vector<std::string> words = {"cat", "bat", "rat"};
  EXPECT_EQ(closest_word("zat", words), "cat");
}

TEST(Suggest, WordsTheHintAsAQuestion) {
  EXPECT_EQ(did_you_mean("--jsno", kWords), "did you mean \"--json\"?");
}

}  // namespace
}  // namespace cairn
