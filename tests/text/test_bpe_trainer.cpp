#include "cairn/text/bpe_trainer.h"

#include <map>
#include <random>

#include "cairn/base/error.h"
#include "cairn/text/byte_level.h"
#include "cairn/text/tokenizer.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

// Words of a small made-up language, so that pairs repeat.
std::string made_up_text(size_t words, uint32_t seed) {
  const std::vector<std::string> parts = {"ba", "na", "in", "g",  "the", "x1", "_", "aaa",
                                          "==", "é",  "中", "st", "e",   "s",  "42"};
  std::mt19937 random(seed);
  std::string text;
  for (size_t i = 0; i < words; ++i) {
    for (size_t n = 1 + random() % 4; n > 0; --n) {
      text += parts[std::min(random() % parts.size(), random() % parts.size())];
    }
    text += random() % 6 == 0 ? "\n" : " ";
  }
  return text;
}

// BPE training as its definition says, counting everything anew for every merge.
std::vector<std::string> plain_training(const std::vector<std::string>& documents,
                                        const BpeTrainingOptions& options) {
  std::vector<std::string> vocabulary = options.special_tokens;
  std::map<std::string, int> ids;
  std::array<int, 256> byte_ids{};
  for (const uint8_t byte : byte_level_order()) {
    byte_ids[byte] = static_cast<int>(vocabulary.size());
    vocabulary.push_back(to_byte_level(std::string(1, static_cast<char>(byte))));
  }
  for (size_t i = 0; i < vocabulary.size(); ++i) ids[vocabulary[i]] = static_cast<int>(i);
  std::map<std::string, int64_t> words;
  const Pretokenizer pretokenizer(options.pretokenizer);
  for (const std::string& document : documents) {
    pretokenizer.for_each_word(document, [&](std::string_view w) { ++words[std::string(w)]; });
  }
  std::vector<std::pair<std::vector<int>, int64_t>> sequences;
  for (const auto& [word, count] : words) {
    std::vector<int> tokens;
    for (const char c : word) tokens.push_back(byte_ids[static_cast<unsigned char>(c)]);
    sequences.emplace_back(tokens, count);
  }
  while (vocabulary.size() < options.vocab_size) {
    std::map<std::pair<int, int>, int64_t> pairs;
    for (const auto& [tokens, count] : sequences) {
      for (size_t i = 0; i + 1 < tokens.size(); ++i) pairs[{tokens[i], tokens[i + 1]}] += count;
    }
    std::pair<int, int> best{-1, -1};
    int64_t most = 0;
    for (const auto& [pair, count] : pairs) {
      if (count > most) {
        best = pair;
        most = count;
      }
    }
    if (most < options.min_count) break;
    const std::string joined =
        vocabulary[static_cast<size_t>(best.first)] + vocabulary[static_cast<size_t>(best.second)];
    if (ids.emplace(joined, static_cast<int>(vocabulary.size())).second) {
      vocabulary.push_back(joined);
    }
    for (auto& [tokens, count] : sequences) {
      std::vector<int> merged;
      for (size_t i = 0; i < tokens.size(); ++i) {
        const bool found =
            i + 1 < tokens.size() && tokens[i] == best.first && tokens[i + 1] == best.second;
        merged.push_back(found ? ids[joined] : tokens[i]);
        if (found) ++i;
      }
      tokens = merged;
    }
  }
  return vocabulary;
}

TokenizerSpec train(const std::vector<std::string>& documents, const BpeTrainingOptions& options,
                    int threads = 1) {
  ThreadTeam team(threads, true);
  const std::vector<std::string_view> views(documents.begin(), documents.end());
  return train_bpe(views, options, team);
}

TEST(BpeTrainer, MergesWhatThePlainDefinitionMerges) {
  for (const uint32_t seed : {1u, 2u, 3u, 4u}) {
    const std::vector<std::string> documents = {made_up_text(300, seed), "",
                                                made_up_text(50, seed + 100)};
    BpeTrainingOptions options;
    options.vocab_size = 257 + 60;
    if (seed % 2 == 0) options.pretokenizer = Pretokenizer::smollm();
    EXPECT_EQ(train(documents, options).vocabulary, plain_training(documents, options));
  }
}

TEST(BpeTrainer, GivesTheSameTokenizerForEveryNumberOfThreads) {
  // Larger than a chunk, in one document and in many.
  std::vector<std::string> documents = {made_up_text(700000, 9)};
  for (uint32_t i = 0; i < 40; ++i) documents.push_back(made_up_text(1000 + i, i));
  BpeTrainingOptions options;
  options.vocab_size = 700;
  const TokenizerSpec one = train(documents, options, 1);
  EXPECT_EQ(one, train(documents, options, 2));
  EXPECT_EQ(one, train(documents, options, 5));
}

TEST(BpeTrainer, CuttingLargeDocumentsChangesNothing) {
  const std::string large = made_up_text(400000, 21);
  ASSERT_GT(large.size(), size_t{1} << 20);
  BpeTrainingOptions options;
  options.vocab_size = 500;
  TokenizerSpec cut = train({large}, options, 2);
  // A rule that the trainer does not know may not be cut; this one does the same.
  options.pretokenizer = {
      {.kind = PretokenizerStep::Kind::split, .pattern = std::string(kGpt2Pattern)}};
  const TokenizerSpec whole = train({large}, options, 1);
  EXPECT_EQ(cut.vocabulary, whole.vocabulary);
  EXPECT_EQ(cut.merges, whole.merges);
}

TEST(BpeTrainer, IdsAreSpecialTokensThenBytesThenMerges) {
  BpeTrainingOptions options;
  options.vocab_size = 260;
  options.special_tokens = {"<|endoftext|>", "<|pad|>"};
  const TokenizerSpec spec = train({"abababab ab ab"}, options);
  EXPECT_EQ(spec.vocabulary[0], "<|endoftext|>");
  EXPECT_EQ(spec.vocabulary[1], "<|pad|>");
  EXPECT_EQ(spec.vocabulary[2], "!");
  EXPECT_EQ(spec.vocabulary[257], "Ń");
  EXPECT_EQ(spec.vocabulary[258], "ab");
  EXPECT_EQ(spec.eos_id, 0);
  EXPECT_EQ(spec.added[1].content, "<|pad|>");
}

TEST(BpeTrainer, OfEqualCountsTheLowerIdsMergeFirst) {
  BpeTrainingOptions options;
  options.vocab_size = 258;
  // "cd" comes first in the text, "ab" has the lower ids.
  EXPECT_EQ(train({"cd\ncd\nab\nab"}, options).vocabulary.back(), "ab");
}

TEST(BpeTrainer, StopsWhenNoPairIsFrequentEnough) {
  BpeTrainingOptions options;
  options.vocab_size = 1000;
  EXPECT_EQ(train({"abc"}, options).vocabulary.size(), 257u);
  options.min_count = 1;
  EXPECT_EQ(train({"abc"}, options).vocabulary.size(), 259u);
}

TEST(BpeTrainer, LearnsFromBytesThatAreNotText) {
  std::string binary(5000, '\0');
  std::mt19937 random(3);
  for (char& c : binary) c = static_cast<char>(random());
  BpeTrainingOptions options;
  options.vocab_size = 300;
  const Tokenizer tokenizer(train({binary, "\xFF\xFF\xFF\xFF"}, options));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(binary)), binary);
}

TEST(BpeTrainer, RefusesOptionsThatCannotWork) {
  const auto refused = [](const BpeTrainingOptions& options) {
    try {
      train({"text"}, options);
    } catch (const Error& error) {
      return error.kind() == ErrorKind::usage;
    }
    return false;
  };
  BpeTrainingOptions options;
  options.vocab_size = 256;
  EXPECT_TRUE(refused(options));
  options = {};
  options.special_tokens = {"<s>", "<s>"};
  EXPECT_TRUE(refused(options));
  options.special_tokens = {""};
  EXPECT_TRUE(refused(options));
  options.special_tokens = {"a"};
  EXPECT_TRUE(refused(options));
}

TEST(BpeTrainer, AnEmptyCorpusIsADataError) {
  try {
    train({"", ""}, {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::data);
    EXPECT_THAT(error.what(), HasSubstr("empty"));
  }
}

TEST(BpeTrainer, WhatProgressThrowsEndsTheTraining) {
  ThreadTeam team(2, true);
  const std::string text = made_up_text(2000, 1);
  const std::vector<std::string_view> views = {text};
  EXPECT_THROW(train_bpe(views, {}, team,
                         [](const BpeTrainingProgress&) { throw std::runtime_error("stop"); }),
               std::runtime_error);
}

TEST(BpeTrainer, AnEmptyListOfSpecialTokensLeavesNoEnd) {
  BpeTrainingOptions options;
  options.special_tokens.clear();
  const TokenizerSpec spec = train({"abab"}, options);
  EXPECT_EQ(spec.eos_id, -1);
  EXPECT_EQ(spec.vocabulary[0], "!");
}

}  // namespace
}  // namespace cairn
