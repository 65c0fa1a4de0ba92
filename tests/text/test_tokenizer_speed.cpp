#include "cairn/text/tokenizer_speed.h"

#include "cairn/base/error.h"
#include "cairn/text/tokenizer_json.h"
#include "tests/support/temporary_folder.h"

namespace cairn {
namespace {

TEST(TokenizerSpeed, MeasuresEveryRate) {
  const std::string text = "some words, some more words and the same words again\n";
  const std::vector<std::string_view> documents = {text, text};
  ThreadTeam team(1);
  TokenizerSpec spec;
  const TokenizerTrainingSpeed trained = measure_tokenizer_training(documents, {}, team, 2, spec);
  EXPECT_EQ(trained.threads, 1);
  EXPECT_GT(trained.train_rate, 0);
  const Tokenizer tokenizer(std::move(spec));
  const TokenizerUseSpeed speed = measure_tokenizer_use(tokenizer, documents, 2);
  EXPECT_EQ(speed.bytes, 2 * text.size());
  EXPECT_GT(speed.tokens, 0u);
  EXPECT_LT(speed.tokens, speed.bytes);
  for (const double rate :
       {speed.split_rate, speed.encode_rate, speed.decode_rate, speed.long_word_seconds}) {
    EXPECT_GT(rate, 0);
  }
}

TEST(TokenizerSpeed, LoadsTheFileThatItIsGiven) {
  const std::string text = "a few words";
  const std::vector<std::string_view> documents = {text};
  ThreadTeam team(1);
  TokenizerSpec spec;
  measure_tokenizer_training(documents, {}, team, 1, spec);
  const TemporaryFolder temporary;
  const Path folder = temporary / "tokenizer";
  save_tokenizer(spec, folder);
  EXPECT_GT(measure_tokenizer_load(folder, 2), 0);
  EXPECT_THROW(measure_tokenizer_load(folder / "none", 1), Error);
}

TEST(TokenizerSpeed, WithoutTextThereIsNothingToMeasure) {
  ThreadTeam team(1);
  TokenizerSpec spec;
  EXPECT_THROW(measure_tokenizer_training({}, {}, team, 1, spec), Error);
}

}  // namespace
}  // namespace cairn
