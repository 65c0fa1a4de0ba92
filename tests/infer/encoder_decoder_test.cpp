// T5 through the engine: against transformers (tests/golden/make_model_golden.py), a float64
// reference, and itself.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "cairn/infer/convert.h"
#include "cairn/infer/generate.h"
#include "cairn/io/safetensors.h"
#include "tests/infer/model_files.h"
#include "tests/infer/reference_decoder.h"
#include "tests/support/files.h"
#include "tests/support/golden.h"

namespace cairn {
namespace {

template <class T>
std::vector<T> golden(const std::string& name, const char* tensor) {
  const TensorArchive archive(golden_folder() / "models" / name / "expected.safetensors");
  const auto bytes = archive.find(tensor).bytes;
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

int32_t likeliest(View1<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// The largest difference, as a part of the largest of the expected.
double relative_error(std::span<const float> found, const std::vector<double>& expected) {
  double error = 0, largest = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    error = std::max(error, std::abs(found[i] - expected[i]));
    largest = std::max(largest, std::abs(expected[i]));
  }
  return error / largest;
}

class EncoderDecoder : public testing::TestWithParam<const char*> {
 protected:
  EncoderDecoder()
      : model_(load_model(golden_folder() / "models" / GetParam())),
        source_(golden<int32_t>(GetParam(), "source")),
        tokens_(golden<int32_t>(GetParam(), "tokens")) {}

  std::vector<float> logits(Session session) const {
    const size_t vocab = model_.config().vocab_size;
    std::vector<float> all(tokens_.size() * vocab);
    session.append(tokens_, {all.data(), tokens_.size(), vocab});
    return all;
  }

  Model model_;
  std::vector<int32_t> source_, tokens_;
};

TEST_P(EncoderDecoder, LogitsAreThoseOfTheFloat64ReferenceAndOfTransformers) {
  const std::vector<double> reference = reference_logits(model_, tokens_, {}, source_);
  const auto theirs = golden<float>(GetParam(), "logits");
  ThreadTeam team(2, true);
  Engine engine(model_, team);
  const std::vector<float> found = logits(engine.start(source_));
  EXPECT_LE(relative_error(found, reference), 1e-5);
  EXPECT_LE(relative_error(theirs, reference), 1e-5);
  EXPECT_LE(relative_error(found, {theirs.begin(), theirs.end()}), 1e-4);
}

TEST_P(EncoderDecoder, WritesGreedilyWhatTransformersWrite) {
  const auto expected = golden<int32_t>(GetParam(), "generated");
  ThreadTeam team(1);
  Engine engine(model_, team);
  Session session = engine.start(source_);
  std::vector<int32_t> written;
  int32_t id = likeliest(session.append(*engine.config().decoder_start_id));
  for (; written.size() < expected.size(); id = likeliest(session.append(id))) {
    written.push_back(id);
    if (id == engine.config().eos_ids[0]) break;
  }
  EXPECT_EQ(written, expected);
}

TEST_P(EncoderDecoder, TokenByTokenIsTheWholeTextForAnyThreads) {
  ThreadTeam one(1), three(3, true);
  Engine engine(model_, one), other(model_, three);
  const std::vector<float> whole = logits(engine.start(source_));
  EXPECT_EQ(logits(other.start(source_)), whole);
  Session session = engine.start(source_);
  const size_t vocab = model_.config().vocab_size;
  for (size_t t = 0; t < tokens_.size(); ++t) {
    const View1<const float> row = session.append(tokens_[t]);
    for (size_t i = 0; i < vocab; ++i) ASSERT_NEAR(row[i], whole[t * vocab + i], 5e-5) << t;
  }
}

TEST_P(EncoderDecoder, ForksAndTruncatedTextsGoOnWithTheirSource) {
  ThreadTeam team(2, true);
  Engine engine(model_, team);
  Session session = engine.start(source_);
  const std::span<const int32_t> all(tokens_);
  session.append(all.first(10));
  Session fork = session.fork();
  Session elsewhere = engine.start(std::span<const int32_t>(source_).first(7));
  elsewhere.append(all.first(10));
  const View1<const float> logits = session.append(all.subspan(10, 5));
  const std::vector<float> expected(logits.begin(), logits.end());
  fork.append(all.subspan(20, 8));
  fork.truncate(10);
  const View1<const float> again = fork.append(all.subspan(10, 5));
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(again[i], expected[i], 1e-6);
  const View1<const float> others = elsewhere.append(all.subspan(10, 5));
  EXPECT_GT(relative_error({others.data, others.size}, {expected.begin(), expected.end()}), 1e-3);
}

TEST_P(EncoderDecoder, FilesOfHalvesAreTheModelRounded) {
  const TempFolder folder;
  ThreadTeam team(2, true);
  write_gguf_model(open_as_gguf(golden_folder() / "models" / GetParam()), folder / "m.gguf",
                   &find_file_type("bf16"), {}, team);
  const GgufArchive archive(folder / "m.gguf");
  EXPECT_EQ(archive.tensor("enc.blk.0.attn_rel_b.weight").type, BlockType::f32);
  EXPECT_EQ(archive.tensor("dec.blk.1.cross_attn_k.weight").type, BlockType::bf16);
  Engine engine(open_gguf_weights(folder / "m.gguf"), team);
  const Model rounded = load_model(folder / "m.gguf");
  const auto expected = reference_logits(rounded, tokens_, round_to_bf16, source_);
  EXPECT_LE(relative_error(logits(engine.start(source_)), expected), 0.02);
}

INSTANTIATE_TEST_SUITE_P(Families, EncoderDecoder, testing::Values("t5", "t5-gated"));

// Rows of whole blocks, and a source longer than a pass of a decoder.
ModelConfig wide_config() {
  ModelConfig config = load_model(golden_folder() / "models" / "t5-gated").config();
  config.hidden_size = config.intermediate_size = 64;
  config.heads = config.kv_heads = 4;
  config.head_dim = 16;
  config.context_length = 320;
  return config;
}

TEST(EncoderDecoderEngine, ReadsALongSourceAsTheReferenceDoes) {
  Model model(wide_config());
  model.initialize(4);
  const auto source = random_tokens(300, 64), tokens = random_tokens(5, 64, 3);
  ThreadTeam team(2, true);
  Engine engine(model, team);
  Session session = engine.start(source);
  std::vector<float> found(5 * 64);
  session.append(tokens, {found.data(), 5, 64});
  EXPECT_LE(relative_error(found, reference_logits(model, tokens, {}, source)), 1e-5);
}

TEST(EncoderDecoderEngine, QuantisesItsMatricesAndNotTheTable) {
  Model model(wide_config());
  model.initialize(4);
  const TempFolder folder;
  ThreadTeam team(2, true);
  save_model(model, folder / "m");
  write_gguf_model(open_as_gguf(folder / "m"), folder / "q8.gguf", &find_file_type("q8_0"), {},
                   team);
  const GgufArchive archive(folder / "q8.gguf");
  EXPECT_EQ(archive.tensor("dec.blk.0.attn_rel_b.weight").type, BlockType::f32);
  EXPECT_EQ(archive.tensor("dec.blk.1.cross_attn_o.weight").type, BlockType::q8_0);
  const auto source = random_tokens(40, 64), tokens = random_tokens(9, 64, 3);
  const Model rounded = load_model(folder / "q8.gguf");
  const auto expected = reference_logits(rounded, tokens, round_to_int8, source);
  Engine engine(open_gguf_weights(folder / "q8.gguf"), team);
  Session session = engine.start(source);
  std::vector<float> found(9 * 64);
  session.append(tokens, {found.data(), 9, 64});
  EXPECT_LE(relative_error(found, expected), 0.02);
}

TEST(EncoderDecoderEngine, RefusesWhatItCannotRead) {
  ThreadTeam team(1);
  Engine decoder(random_model(small_config()), team);
  const std::vector<int32_t> source = {3, 4}, unknown = {3, 64};
  EXPECT_THROW(decoder.start(source), Error);
  Engine engine(load_model(golden_folder() / "models" / "t5"), team, {.context = 8});
  EXPECT_THROW(engine.start(), Error);
  EXPECT_THROW(engine.start({}), Error);
  EXPECT_THROW(engine.start(unknown), Error);
  EXPECT_THROW(engine.start(std::vector<int32_t>(9, 3)), Error);
  EXPECT_EQ(engine.start(std::vector<int32_t>(8, 3)).room(), 8U);
}

}  // namespace
}  // namespace cairn
