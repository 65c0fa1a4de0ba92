#include "cairn/infer/engine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "cairn/base/error.h"
#include "cairn/infer/products.h"
#include "cairn/io/safetensors.h"
#include "cairn/nn/language_model.h"
#include "tests/infer/model_files.h"
#include "tests/support/golden.h"

namespace cairn {
namespace {

std::vector<float> all_logits(Engine& engine, std::span<const int32_t> tokens) {
  const size_t vocab = engine.config().vocab_size;
  std::vector<float> logits(tokens.size() * vocab);
  Session session = engine.start();
  session.append(tokens, {logits.data(), tokens.size(), vocab});
  return logits;
}

std::vector<float> copy(View1<const float> values) {
  return {values.begin(), values.end()};
}

double largest_difference(std::span<const float> a, std::span<const float> b) {
  double worst = a.size() == b.size() ? 0 : std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    worst = std::max(worst, std::abs(static_cast<double>(a[i]) - b[i]));
  return worst;
}

template <class T>
std::vector<T> stored(const TensorArchive& archive, const char* name) {
  const StoredTensor& tensor = archive.find(name);
  std::vector<T> values(tensor.bytes.size() / sizeof(T));
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

class EngineGolden : public testing::TestWithParam<const char*> {};

// Expected logits by Hugging Face transformers: tests/golden/make_model_golden.py.
TEST_P(EngineGolden, LogitsAreThoseOfTransformers) {
  const Path folder = golden_folder() / "models" / GetParam();
  const TensorArchive archive(folder / "expected.safetensors");
  const auto tokens = stored<int32_t>(archive, "tokens");
  const auto expected = stored<float>(archive, "logits");
  ThreadTeam team(1);
  Engine engine(load_model(folder), team);
  EXPECT_LE(largest_difference(all_logits(engine, tokens), expected), 1e-4);
  Session session = engine.start();
  const size_t vocab = engine.config().vocab_size;
  for (size_t t = 0; t < tokens.size(); ++t)
    EXPECT_LE(largest_difference(copy(session.append(tokens[t])),
                                 std::span(expected).subspan(t * vocab, vocab)),
              1e-4)
        << "token " << t;
}

INSTANTIATE_TEST_SUITE_P(Families, EngineGolden,
                         testing::Values("llama", "llama-untied", "llama-biases", "llama-linear",
                                         "llama-yarn", "mistral", "granite", "qwen2", "qwen3",
                                         "phi3", "gemma3"));

// The losses of nn's forward pass, one target at a time, against the engine's logits.
TEST(Engine, AgreesWithTheTrainingForward) {
  for (const bool tied : {true, false}) {
    ModelConfig config = small_config();
    config.tie_embeddings = tied;
    Model model = random_model(config);
    ThreadTeam team(2, true);
    Engine engine(model, team);
    const auto tokens = random_tokens(40, config.vocab_size);
    const auto logits = all_logits(engine, tokens);
    LanguageModel trainer(model, {.sequences = 1, .length = tokens.size()}, team);
    Batch batch{.sequences = 1, .length = tokens.size(), .tokens = tokens};
    batch.offsets = {0, static_cast<int32_t>(tokens.size())};
    for (size_t i = 0; i < tokens.size(); ++i) batch.positions.push_back(static_cast<int32_t>(i));
    for (const size_t place : {size_t{0}, size_t{1}, size_t{17}, tokens.size() - 1})
      for (const int32_t target : {0, 3, 159}) {
        batch.targets.assign(tokens.size(), kIgnoredTarget);
        batch.targets[place] = target;
        const float* row = logits.data() + place * config.vocab_size;
        double sum = 0;
        for (size_t i = 0; i < config.vocab_size; ++i) sum += std::exp(static_cast<double>(row[i]));
        EXPECT_NEAR(trainer.forward(batch).loss, std::log(sum) - row[target], 1e-4)
            << (tied ? "tied" : "untied") << ", token " << place << ", target " << target;
      }
  }
}

TEST(Engine, AnySplitOfATextGivesTheSameLogits) {
  Model model = random_model(small_config());
  ThreadTeam team(2, true);
  Engine engine(model, team);
  const auto tokens = random_tokens(300, model.config().vocab_size);
  Session whole = engine.start();
  const auto expected = copy(whole.append(tokens));
  for (const std::vector<size_t>& cuts : std::vector<std::vector<size_t>>{
           {1}, {16}, {17}, {31, 33}, {128}, {129, 130}, {64, 128, 192, 256}, {299}}) {
    Session session = engine.start();
    size_t begin = 0;
    for (const size_t cut : cuts) {
      session.append(std::span(tokens).subspan(begin, cut - begin));
      begin = cut;
    }
    const auto found = copy(session.append(std::span(tokens).subspan(begin)));
    EXPECT_LE(largest_difference(found, expected), 1e-4) << "first cut " << cuts[0];
  }
  Session one_by_one = engine.start();
  std::vector<float> last;
  for (const int32_t token : tokens) last = copy(one_by_one.append(token));
  EXPECT_LE(largest_difference(last, expected), 1e-4);
}

TEST(Engine, GivesTheSameBitsForAnyNumberOfThreads) {
  Model model = random_model(small_config());
  const auto tokens = random_tokens(150, model.config().vocab_size);
  std::vector<float> expected;
  for (const int threads : {1, 2, 4})
    for (const DType weights : {DType::f32, DType::bf16}) {
      ThreadTeam team(threads, true);
      Engine engine(model, team, {.weights = weights});
      auto logits = all_logits(engine, tokens);
      if (weights == DType::bf16) continue;
      if (expected.empty()) expected = logits;
      EXPECT_EQ(logits, expected) << threads << " threads";
    }
}

TEST(Engine, Bf16WeightsActLikeRoundedF32Weights) {
  Model model = random_model(small_config());
  Model rounded = random_model(small_config());
  for (const Parameter& parameter : rounded.parameters())
    if (parameter.spec.shape.size() == 2)
      for (float& value : rounded.values(parameter)) value = bf16::from_float(value).to_float();
  ThreadTeam team(1);
  Engine expected(rounded, team);
  Engine borrowed(model, team, {.weights = DType::bf16});
  Engine owning(random_model(small_config()), team, {.weights = DType::bf16});
  const auto tokens = random_tokens(70, model.config().vocab_size);
  const auto logits = all_logits(expected, tokens);
  EXPECT_LE(largest_difference(all_logits(borrowed, tokens), logits), 1e-4);
  EXPECT_EQ(all_logits(owning, tokens), all_logits(borrowed, tokens));
  EXPECT_EQ(2 * borrowed.bytes_per_token(), expected.bytes_per_token());
}

TEST(Engine, ABf16CacheStaysCloseToF32) {
  Model model = random_model(small_config());
  ThreadTeam team(1);
  Engine exact(model, team), rounded(model, team, {.cache = DType::bf16});
  const auto tokens = random_tokens(70, model.config().vocab_size);
  const double difference =
      largest_difference(all_logits(exact, tokens), all_logits(rounded, tokens));
  EXPECT_GT(difference, 0);
  EXPECT_LE(difference, 0.5);
}

TEST(Session, TruncatedItGoesOnAsIfTheRestHadNotBeen) {
  Model model = random_model(small_config());
  ThreadTeam team(1);
  Engine engine(model, team);
  const auto tokens = random_tokens(50, model.config().vocab_size);
  Session session = engine.start(), other = engine.start();
  session.append(tokens);
  session.truncate(20);
  EXPECT_EQ(session.length(), 20U);
  other.append(std::span(tokens).first(20));
  const auto expected = copy(other.append(7));
  EXPECT_LE(largest_difference(copy(session.append(7)), expected), 1e-4);
  EXPECT_THROW(session.truncate(22), Error);
}

TEST(Session, AForkIsIndependent) {
  Model model = random_model(small_config());
  ThreadTeam team(1);
  Engine engine(model, team);
  const auto tokens = random_tokens(30, model.config().vocab_size);
  Session session = engine.start();
  session.append(tokens);
  Session fork = session.fork();
  const auto expected = copy(session.append(3));
  fork.append(9);
  fork.append(10);
  session.append(4);
  EXPECT_EQ(fork.length(), 32U);
  fork.truncate(30);
  EXPECT_EQ(copy(fork.append(3)), expected);
  EXPECT_EQ(session.tokens().back(), 4);
}

TEST(Session, RefusesWhatDoesNotFitAndStaysAsItWas) {
  Model model = random_model(small_config());
  ThreadTeam team(1);
  Engine engine(model, team, {.context = 40});
  const auto tokens = random_tokens(41, model.config().vocab_size);
  Session session = engine.start();
  EXPECT_THROW(session.append(tokens), Error);
  EXPECT_EQ(session.length(), 0U);
  session.append(std::span(tokens).first(40));
  EXPECT_EQ(session.room(), 0U);
  EXPECT_THROW(session.append(1), Error);
  session.truncate(39);
  EXPECT_THROW(session.append(160), Error);
  EXPECT_THROW(session.append(-1), Error);
  EXPECT_THROW(session.append(std::span<const int32_t>()), Error);
  EXPECT_EQ(session.length(), 39U);
  session.append(1);
}

TEST(Engine, RefusesAContextBeyondTheModels) {
  Model model = random_model(small_config());
  ThreadTeam team(1);
  EXPECT_THROW(Engine(model, team, {.context = 321}), Error);
}

TEST(Products, FewAndManyTokensAgreeWithFloat64) {
  ThreadTeam team(2, true);
  Products products(team);
  const RandomStream stream(3, "products");
  for (const size_t rows : {5, 64, 65, 200})
    for (const size_t tokens : {1, 16, 17, 33, 65, 128}) {
      constexpr size_t kCols = 72;
      const size_t touched = Products::rows_touched(tokens);
      std::vector<float> w(rows * kCols), x(touched * kCols), y(touched * (rows + 3));
      std::vector<bf16> half(w.size());
      for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(stream.normal(i));
      for (size_t i = 0; i < w.size(); ++i) half[i] = bf16::from_float(w[i]);
      for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(stream.normal(i, 1));
      for (const bool narrow : {false, true}) {
        const View2<float> out(y.data(), touched, rows, rows + 3);
        GemvPart part{View2<const float>(w.data(), rows, kCols), out};
        if (narrow) part.w = View2<const bf16>(half.data(), rows, kCols);
        products.run({&part, 1}, {x.data(), touched, kCols}, tokens);
        double worst = 0;
        for (size_t t = 0; t < tokens; ++t)
          for (size_t r = 0; r < rows; ++r) {
            double sum = 0;
            for (size_t k = 0; k < kCols; ++k)
              sum +=
                  static_cast<double>(narrow ? half[r * kCols + k].to_float() : w[r * kCols + k]) *
                  x[t * kCols + k];
            worst = std::max(worst, std::abs(sum - out[t][r]));
          }
        EXPECT_LE(worst, 1e-4) << rows << " rows, " << tokens << " tokens, bf16 " << narrow;
      }
    }
}

}  // namespace
}  // namespace cairn
