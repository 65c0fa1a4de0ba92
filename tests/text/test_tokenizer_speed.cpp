#include "cairn/text/tokenizer_speed.h"

#include "cairn/base/error.h"

namespace cairn {
namespace {

TEST(TokenizerSpeed, MeasuresEveryRate) {
  const std::string text = "some words, some more words and the same words again\n";
  const std::vector<std::string_view> documents = {text, text};
  ThreadTeam team(1);
  const TokenizerSpeed speed = measure_tokenizer_speed(documents, {}, team, 2);
  EXPECT_EQ(speed.bytes, 2 * text.size());
  EXPECT_GT(speed.tokens, 0u);
  EXPECT_LT(speed.tokens, speed.bytes);
  EXPECT_EQ(speed.threads, 1);
  for (const double rate : {speed.train_rate, speed.split_rate, speed.encode_rate,
                            speed.decode_rate, speed.long_word_seconds}) {
    EXPECT_GT(rate, 0);
  }
}

TEST(TokenizerSpeed, WithoutTextThereIsNothingToMeasure) {
  ThreadTeam team(1);
  EXPECT_THROW(measure_tokenizer_speed({}, {}, team, 1), Error);
}

}  // namespace
}  // namespace cairn
