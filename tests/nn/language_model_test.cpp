#include "cairn/nn/language_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "cairn/base/cpu.h"
#include "cairn/base/error.h"
#include "cairn/base/random.h"
#include "cairn/io/json.h"
#include "cairn/io/safetensors.h"
#include "tests/support/golden.h"
#include "tests/support/numbers.h"

namespace cairn {
namespace {

ModelConfig small_config() {
  ModelConfig config;
  config.vocab_size = 97;
  config.hidden_size = 48;
  config.intermediate_size = 80;
  config.layers = 2;
  config.heads = 6;
  config.kv_heads = 2;
  config.head_dim = 8;
  config.context_length = 64;
  return config;
}

Batch random_batch(const ModelConfig& config, size_t sequences, size_t length, uint64_t seed) {
  const RandomStream random(seed, "batch");
  Batch batch{.sequences = sequences, .length = length};
  for (size_t i = 0; i < sequences * length; ++i) {
    batch.tokens.push_back(static_cast<int32_t>(random.below(config.vocab_size, i)));
    batch.targets.push_back(random.below(4, i, 2) == 0
                                ? kIgnoredTarget
                                : static_cast<int32_t>(random.below(config.vocab_size, i, 1)));
    batch.positions.push_back(static_cast<int32_t>(i % length));
    if (i % length == 0) batch.offsets.push_back(static_cast<int32_t>(i));
  }
  batch.offsets.push_back(static_cast<int32_t>(batch.tokens.size()));
  return batch;
}

// Rows [first, first + count) of a batch.
Batch part_of(const Batch& whole, size_t first, size_t count) {
  Batch part{.sequences = count, .length = whole.length};
  const size_t begin = first * whole.length, end = begin + count * whole.length;
  for (size_t i = begin; i < end; ++i) {
    part.tokens.push_back(whole.tokens[i]);
    part.targets.push_back(whole.targets[i]);
    part.positions.push_back(whole.positions[i]);
  }
  for (size_t s = 0; s <= count; ++s)
    part.offsets.push_back(static_cast<int32_t>(s * whole.length));
  return part;
}

TEST(LanguageModel, LossAndGradientsMatchPyTorch) {
  const Path folder = golden_folder() / "training";
  Model model = load_model(folder);
  const Json golden = read_json(folder / "batch.json");
  Batch batch{.sequences = golden["sequences"], .length = golden["length"]};
  batch.tokens = golden["tokens"].get<std::vector<int32_t>>();
  batch.targets = golden["targets"].get<std::vector<int32_t>>();
  batch.offsets = golden["offsets"].get<std::vector<int32_t>>();
  for (size_t i = 0; i < batch.tokens.size(); ++i)
    batch.positions.push_back(static_cast<int32_t>(i % batch.length));

  ThreadTeam team(2, true);
  LanguageModel program(model, {batch.sequences, batch.length, Precision::f32}, team);
  const LossSum sum = program.forward_backward(batch);
  EXPECT_NEAR(sum.loss, golden["loss"].get<double>(), 1e-5 * sum.loss);
  EXPECT_EQ(sum.targets, batch.target_count());

  const TensorArchive expected(folder / "gradients.safetensors");
  for (const Parameter& parameter : model.parameters()) {
    const StoredTensor& tensor = expected.find(parameter.spec.name);
    std::vector<float> gradient(parameter.size);
    ASSERT_EQ(tensor.bytes.size(), parameter.size * sizeof(float));
    std::memcpy(gradient.data(), tensor.bytes.data(), tensor.bytes.size());
    const auto found = program.gradients().subspan(parameter.offset, parameter.size);
    EXPECT_LE(norm_error(found, gradient), 1e-4) << parameter.spec.name;
  }
}

TEST(LanguageModel, AccumulatedGradientsEqualThoseOfTheWholeBatch) {
  const ModelConfig config = small_config();
  Model model(config);
  model.initialize(1);
  ThreadTeam team(2, true);
  const Batch whole = random_batch(config, 32, 16, 3);
  std::vector<float> reference;
  for (const size_t micro : {32, 16, 4, 1}) {
    LanguageModel program(model, {micro, 16, Precision::f32}, team);
    double loss = 0;
    for (size_t first = 0; first < 32; first += micro)
      loss += program.forward_backward(part_of(whole, first, micro)).loss;
    const std::vector<float> gradient(program.gradients().begin(), program.gradients().end());
    if (reference.empty()) reference = gradient;
    EXPECT_LE(norm_error(gradient, reference), 1e-6) << micro << " sequences at once";
    EXPECT_GT(loss, 0);
  }
}

TEST(LanguageModel, AWholeStepReplacesItsGradientsInLessMemory) {
  ModelConfig config = small_config();
  for (const bool tied : {true, false}) {
    config.tie_embeddings = tied;
    Model model(config);
    model.initialize(1);
    ThreadTeam team(2, true);
    const TrainingShape adding{4, 16, Precision::f32}, replacing{4, 16, Precision::f32, true};
    LanguageModel one(model, adding, team), other(model, replacing, team);
    const Batch first = random_batch(config, 4, 16, 5), second = random_batch(config, 4, 16, 6);
    one.forward_backward(second);
    other.forward_backward(first);
    other.forward(first);  // writes over the gradients
    other.forward_backward(second);
    for (const Parameter& p : model.parameters()) {
      const auto expected = one.gradients().subspan(p.offset, p.size);
      const auto found = other.gradients().subspan(p.offset, p.size);
      EXPECT_TRUE(std::equal(expected.begin(), expected.end(), found.begin())) << p.spec.name;
    }
  }
  config.layers = 12;
  EXPECT_LT(LanguageModel::memory(config, {4, 64, Precision::f32, true}, 2).total(),
            LanguageModel::memory(config, {4, 64, Precision::f32}, 2).total());
}

TEST(LanguageModel, TakesChangedWeightsAtTheNextPass) {
  const ModelConfig config = small_config();
  Model model(config), changed(config);
  model.initialize(1);
  changed.initialize(2);
  ThreadTeam team(2, true);
  LanguageModel program(model, {2, 16, Precision::f32}, team);
  LanguageModel other(changed, {2, 16, Precision::f32}, team);
  const Batch batch = random_batch(config, 2, 16, 5);
  program.forward_backward(batch);
  std::copy(changed.weights().begin(), changed.weights().end(), model.weights().begin());
  EXPECT_EQ(program.forward(batch).loss, other.forward(batch).loss);
}

TEST(LanguageModel, GivesTheSameBitsForAnyNumberOfThreads) {
  const ModelConfig config = small_config();
  for (const Precision precision : {Precision::f32, Precision::bf16}) {
    std::vector<float> reference;
    for (const int threads : {1, 2, 5}) {
      Model model(config);
      model.initialize(1);
      ThreadTeam team(threads, true);
      LanguageModel program(model, {6, 50, precision}, team);
      program.forward_backward(random_batch(config, 6, 50, 3));
      const std::vector<float> gradient(program.gradients().begin(), program.gradients().end());
      if (reference.empty()) reference = gradient;
      EXPECT_EQ(gradient, reference) << threads << " threads";
    }
  }
}

TEST(LanguageModel, EvaluatesFewerSequencesThanItTrainsOn) {
  const ModelConfig config = small_config();
  Model model(config);
  model.initialize(1);
  ThreadTeam team(2, true);
  LanguageModel program(model, {8, 32, Precision::f32}, team);
  const Batch whole = random_batch(config, 8, 32, 3);
  const double all = program.forward(whole).loss;
  double parts = 0;
  for (size_t first = 0; first < 8; first += first == 0 ? 3 : 5)
    parts += program.forward(part_of(whole, first, first == 0 ? 3 : 5)).loss;
  EXPECT_NEAR(parts, all, 1e-5 * all);
  EXPECT_EQ(program.forward_backward(whole).loss, all);
}

TEST(LanguageModel, AnswersWithTheLikeliestTokenWhateverIsAsked) {
  const ModelConfig config = small_config();
  Model model(config);
  model.initialize(1);
  ThreadTeam team(2, true);
  LanguageModel program(model, {2, 32, Precision::f32}, team);
  Batch batch = random_batch(config, 2, 32, 3);
  program.forward(batch);
  const std::vector<int32_t> answers(program.answers().begin(), program.answers().end());
  ASSERT_EQ(answers.size(), 64U);
  // One target alone tells the loss of its token: the answer's is the lowest of the vocabulary.
  for (const size_t position : {0, 31, 40}) {
    std::fill(batch.targets.begin(), batch.targets.end(), kIgnoredTarget);
    batch.targets[position] = answers[position];
    const double best = program.forward(batch).loss;
    for (int32_t token = 0; token < 97; ++token) {
      batch.targets[position] = token;
      EXPECT_GE(program.forward(batch).loss, best);
    }
    EXPECT_EQ(program.answers()[position], answers[position]);
  }
}

TEST(LanguageModel, ATokenDoesNotSeeWhatComesLater) {
  const ModelConfig config = small_config();
  Model model(config);
  model.initialize(1);
  ThreadTeam team(1);
  LanguageModel program(model, {1, 32, Precision::f32}, team);
  Batch batch = random_batch(config, 1, 32, 3);
  // Only the targets of the first half count.
  for (size_t i = 16; i < 32; ++i) batch.targets[i] = kIgnoredTarget;
  const double before = program.forward(batch).loss;
  for (size_t i = 16; i < 32; ++i) batch.tokens[i] = (batch.tokens[i] + 1) % 97;
  EXPECT_EQ(program.forward(batch).loss, before);
}

TEST(LanguageModel, DocumentsDoNotSeeEachOther) {
  const ModelConfig config = small_config();
  Model model(config);
  model.initialize(1);
  ThreadTeam team(1);
  LanguageModel program(model, {1, 32, Precision::f32}, team);
  Batch batch = random_batch(config, 1, 32, 3);
  for (size_t i = 0; i < 16; ++i) batch.targets[i] = kIgnoredTarget;
  batch.offsets = {0, 16, 32};
  const double before = program.forward(batch).loss;
  for (size_t i = 0; i < 16; ++i) batch.tokens[i] = (batch.tokens[i] + 1) % 97;
  EXPECT_EQ(program.forward(batch).loss, before);
  batch.offsets = {0, 32};
  EXPECT_NE(program.forward(batch).loss, before);
}

TEST(LanguageModel, NamesTheFirstLayerThatIsNotFinite) {
  const ModelConfig config = small_config();
  Model model(config);
  model.initialize(1);
  model.matrix("model.layers.1.mlp.down_proj.weight").data[5] =
      std::numeric_limits<float>::quiet_NaN();
  ThreadTeam team(2, true);
  LanguageModel program(model, {2, 16, Precision::f32}, team);
  const Batch batch = random_batch(config, 2, 16, 3);
  EXPECT_FALSE(std::isfinite(program.forward_backward(batch).loss));
  EXPECT_EQ(program.first_non_finite(), "layer 1 linear");
}

TEST(LanguageModel, SaysItsMemoryBeforeTakingIt) {
  const ModelConfig config = small_config();
  const TrainingShape shape{4, 32, Precision::f32};
  const TrainingMemory memory = LanguageModel::memory(config, shape, 2);
  EXPECT_EQ(memory.weights, block_bytes(config));
  // At least the residual stream and what attention reads, for every layer.
  EXPECT_GT(memory.activations, 2 * 4 * 32 * sizeof(float) * (2 * 48 + 80 + 48 + 160));
}

TEST(LanguageModel, RefusesBatchesThatDoNotFit) {
  const ModelConfig config = small_config();
  Model model(config);
  ThreadTeam team(1);
  LanguageModel program(model, {2, 16, Precision::f32}, team);
  EXPECT_THROW(program.forward_backward(random_batch(config, 1, 16, 3)), Error);
  EXPECT_THROW(program.forward(random_batch(config, 3, 16, 3)), Error);
  Batch outside = random_batch(config, 2, 16, 3);
  outside.tokens[7] = 97;
  try {
    program.forward_backward(outside);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::data);
    EXPECT_NE(std::string(error.what()).find("token 7"), std::string::npos);
  }
  EXPECT_THROW(LanguageModel(model, {1, 65, Precision::f32}, team), Error);
}

}  // namespace
}  // namespace cairn
