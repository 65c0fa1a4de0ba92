// An encoder-decoder trained on pairs.
#include "cairn/train/pair_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "cairn/base/error.h"
#include "cairn/infer/engine.h"
#include "cairn/train/session.h"
#include "tests/support/golden.h"
#include "tiny_dataset.h"
#include "tiny_run.h"

namespace cairn {
namespace {

using testing::HasSubstr;

constexpr int32_t kEnd = 1;

std::vector<int32_t> source_of(uint64_t pair) {
  const RandomStream random(5, "pairs test");
  std::vector<int32_t> tokens;
  for (uint64_t i = 0; i < 2 + pair % 4; ++i)
    tokens.push_back(static_cast<int32_t>(2 + random.below(6, pair, i)));
  return tokens;
}

// The target is the source backwards.
void write_reversals(const Path& folder) {
  make_folders(folder);
  DatasetInfo info{.vocab_size = 8, .tokenizer = 9, .eos_id = kEnd, .pairs = true};
  for (const Split split : {Split::training, Split::held_out}) {
    const bool training = split == Split::training;
    SplitInfo& part = training ? info.training : info.held_out;
    ShardWriter writer(info.vocab_size, info.tokenizer);
    std::string files;
    for (uint64_t pair = 0; pair < (training ? 2000U : 20U); ++pair) {
      std::vector<int32_t> tokens = source_of(pair + (training ? 0 : 4000));
      std::vector<int32_t> backwards(tokens.rbegin(), tokens.rend());
      for (std::vector<int32_t>* document : {&tokens, &backwards}) {
        document->push_back(kEnd);
        writer.add_document(*document);
        files += "pairs.jsonl:" + std::to_string(pair + 1) + "\n";
      }
    }
    part = {.tokens = writer.tokens(),
            .documents = writer.documents(),
            .bytes = writer.tokens(),
            .shards = {std::string(split_name(split)) + "-00000.tokens"}};
    writer.write(folder / part.shards[0]);
    write_file_atomically(folder / (std::string(split_name(split)) + ".files"), files);
  }
  write_dataset_info(info, folder);
}

ModelConfig tiny_t5() {
  ModelConfig config = load_model(golden_folder() / "models" / "t5").config();
  config.vocab_size = 8;
  config.hidden_size = 32;
  config.intermediate_size = 64;
  config.encoder_layers = config.layers = 1;
  config.logits_divisor = std::sqrt(32.0);
  config.context_length = 8;
  return config;
}

class PairTraining : public testing::Test {
 protected:
  PairTraining() {
    write_reversals(folder_.path() / "data");
    Model model(tiny_t5());
    model.initialize(3);
    save_model(model, folder_.path() / "t5");
  }
  TrainConfig config(const std::string& run, std::vector<std::string> overrides = {}) const {
    overrides.insert(overrides.begin(), {"data.folder=" + (folder_.path() / "data").string(),
                                         "run.folder=" + (folder_.path() / run).string()});
    return parse_config(
        "[batch]\ntokens_per_step = 256\nmicro_batch = 16\nseq_len = 8\n[optim]\nlr = 0.01\n"
        "[run]\nsteps = 300\nthreads = 1\nprecision = \"f32\"\n[checkpoint]\nevery = 10\n"
        "[eval]\nevery = 300\nwindows = 20\n[log]\ntensorboard = false\n",
        "pairs.toml", overrides);
  }
  SessionOptions from_t5() const { return {.from = folder_.path() / "t5"}; }
  TemporaryFolder folder_;
};

TEST_F(PairTraining, ABatchHoldsAPairASequence) {
  const TokenStream stream(folder_.path() / "data", Split::training);
  const PairBatches pairs(stream, {.length = 5, .start_id = 0});
  EXPECT_EQ(pairs.size(), 2000U);
  const Batch batch = pairs.in_order(1, 2);  // of 3 and of 4 tokens
  const std::vector<int32_t> a = source_of(1), b = source_of(2);
  EXPECT_THAT(batch.source.tokens,
              testing::ElementsAre(a[0], a[1], a[2], kEnd, 0, b[0], b[1], b[2], b[3], kEnd));
  EXPECT_THAT(batch.source.offsets, testing::ElementsAre(0, 4, 5, 10, 10));
  EXPECT_THAT(batch.tokens,
              testing::ElementsAre(0, a[2], a[1], a[0], 0, 0, b[3], b[2], b[1], b[0]));
  EXPECT_THAT(batch.targets, testing::ElementsAre(a[2], a[1], a[0], kEnd, kIgnoredTarget, b[3],
                                                  b[2], b[1], b[0], kEnd));
  EXPECT_THAT(batch.offsets, testing::ElementsAre(0, 4, 5, 10, 10));
  EXPECT_THAT(batch.positions, testing::ElementsAre(0, 1, 2, 3, 0, 0, 1, 2, 3, 4));
  EXPECT_THROW(pairs.in_order(1999, 2), Error);
}

TEST_F(PairTraining, EveryPairComesOnceAnEpoch) {
  PairSource source(folder_.path() / "data", 4, {.length = 8, .seed = 7});
  std::multiset<std::string> first, second;
  for (uint64_t sample = 0; sample < 2000; ++sample) {
    first.insert(source.files(sample, 1)[0]);
    second.insert(source.files(2000 + sample, 1)[0]);
  }
  EXPECT_EQ(std::set<std::string>(first.begin(), first.end()).size(), 2000U);
  EXPECT_EQ(first, second);
  EXPECT_NE(source.files(0, 4), source.files(2000, 4));
}

TEST_F(PairTraining, LearnsToWriteASourceBackwards) {
  const SessionResult result = train(config("run"), from_t5());
  EXPECT_LT(result.held_out_loss, 0.2);
  ThreadTeam team(1);
  Engine engine(load_model(result.model), team);
  const std::vector<int32_t> source = {3, 5, 4, 7, kEnd}, expected = {7, 4, 5, 3, kEnd};
  Session session = engine.start(source);
  std::vector<int32_t> written;
  int32_t id = *engine.config().decoder_start_id;
  while (written.size() < expected.size()) {
    const View1<const float> logits = session.append(id);
    id = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    written.push_back(id);
  }
  EXPECT_EQ(written, expected);
}

TEST_F(PairTraining, AStoppedRunEndsInTheSameWeights) {
  const TrainConfig whole = config("whole", {"run.steps=12"});
  const TrainConfig parts = config("parts", {"run.steps=12"});
  const SessionResult expected = train(whole, from_t5());
  const Path stop = RunFolder{folder_.path() / "parts"}.stop_file();
  make_folders(stop.parent_path());
  write_file_atomically(stop, "");
  EXPECT_LT(train(parts, from_t5()).step, 12U);
  const SessionResult found = train(parts, from_t5());
  EXPECT_EQ(found.step, 12U);
  EXPECT_EQ(load_model(found.model).weights_hash(), load_model(expected.model).weights_hash());
}

TEST_F(PairTraining, PairsAreForEncoderDecodersAndTextsAreNot) {
  EXPECT_THROW(train(config("run")), Error);
  write_tiny_dataset(folder_.path() / "texts");
  EXPECT_THROW(
      train(config("run", {"data.folder=" + (folder_.path() / "texts").string()}), from_t5()),
      Error);
}

}  // namespace
}  // namespace cairn
