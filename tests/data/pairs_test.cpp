#include "cairn/data/pairs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "cairn/base/error.h"
#include "cairn/text/bpe_trainer.h"
#include "tests/support/temporary_folder.h"

namespace cairn {
namespace {

using testing::HasSubstr;

class Pairs : public testing::Test {
 protected:
  Pairs() : team_(1) {}

  Path write(const std::string& name, const std::string& text) {
    std::ofstream(folder_.path() / name) << text;
    return folder_.path() / name;
  }
  Tokenizer tokenizer() {
    const std::vector<std::string_view> texts = {"one two three four five six seven"};
    return Tokenizer(train_bpe(texts, {.vocab_size = 270}, team_));
  }
  DatasetInfo pack(const Path& file, double held_out_fraction = 0) {
    return pack_pairs({.files = {file}, .held_out_fraction = held_out_fraction}, tokenizer(),
                      folder_.path() / "dataset");
  }
  std::string message_of(const Path& file) {
    try {
      pack(file);
    } catch (const Error& error) {
      EXPECT_EQ(error.problem().kind, ErrorKind::data);
      return error.what();
    }
    return "no error";
  }

  ThreadTeam team_;
  TemporaryFolder folder_;
};

TEST_F(Pairs, LinesBecomeDocumentsInTurns) {
  const Path file = write("a.jsonl",
                          "{\"source\": \"one two\", \"target\": \"three\"}\n"
                          "\n{\"source\": \"four\\tfive\", \"target\": \"\", \"id\": 7}\r\n");
  const DatasetInfo info = pack(file);
  EXPECT_TRUE(info.pairs);
  EXPECT_TRUE(read_dataset_info(folder_.path() / "dataset").pairs);
  EXPECT_EQ(info.training.documents, 4U);
  const TokenStream stream(folder_.path() / "dataset", Split::training);
  const PairBatches pairs(stream, {.length = 16});
  const Tokenizer words = tokenizer();
  const auto text = [&](std::vector<int32_t> tokens, size_t begin, size_t end) {
    return words.decode(std::vector<int32_t>(tokens.begin() + static_cast<int64_t>(begin),
                                             tokens.begin() + static_cast<int64_t>(end)));
  };
  const Batch batch = pairs.in_order(0, 2);
  const auto& cuts = batch.source.offsets;
  EXPECT_EQ(text(batch.source.tokens, 0, static_cast<size_t>(cuts[1]) - 1), "one two");
  EXPECT_EQ(text(batch.source.tokens, 16, static_cast<size_t>(cuts[3]) - 1), "four\tfive");
  EXPECT_EQ(batch.targets[16], info.eos_id);  // an empty target is its end
  EXPECT_EQ(batch.target_count(), static_cast<size_t>(batch.offsets[1]) + 1);
}

TEST_F(Pairs, OfTabSeparatedLinesTooAndHeldOutByTheirText) {
  std::string text;
  for (int i = 0; i < 200; ++i)
    text += "one " + std::to_string(i) + "\ttwo " + std::to_string(i) + "\n";
  const DatasetInfo info = pack(write("a.tsv", text + text), 0.25);
  EXPECT_EQ(info.training.documents + info.held_out.documents, 800U);
  EXPECT_GT(info.held_out.documents, 100U);
  EXPECT_LT(info.held_out.documents, 300U);
  EXPECT_EQ(info.held_out.documents % 4, 0U);  // equal pairs are in one part
  const TokenStream stream(folder_.path() / "dataset", Split::training);
  EXPECT_THAT(PairBatches(stream, {.length = 8}).origin(3), HasSubstr("a.tsv:"));
}

TEST_F(Pairs, NameTheLineThatIsNone) {
  EXPECT_THAT(message_of(write("a.tsv", "one\ttwo\nthree four\n")), HasSubstr("a.tsv:2"));
  EXPECT_THAT(message_of(write("b.jsonl", "{\"source\": \"one\"}\n")), HasSubstr("b.jsonl:1"));
  EXPECT_THAT(message_of(write("c.jsonl", "{\"source\": \"one\", \"target\": 2}\n")),
              HasSubstr("target"));
  EXPECT_THAT(message_of(write("d.jsonl", "")), HasSubstr("at least one pair"));
}

}  // namespace
}  // namespace cairn
