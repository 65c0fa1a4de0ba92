// Every family of models, trained: loss and gradients against Hugging Face transformers
// (tests/golden/make_model_golden.py).
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "cairn/io/safetensors.h"
#include "cairn/model/architecture.h"
#include "cairn/nn/language_model.h"
#include "tests/support/golden.h"

namespace cairn {
namespace {

template <class T>
std::vector<T> stored(const TensorArchive& archive, const char* name) {
  const StoredTensor& tensor = archive.find(name);
  std::vector<T> values(tensor.bytes.size() / sizeof(T));
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

Batch next_tokens(const std::vector<int32_t>& tokens) {
  Batch batch{.sequences = 1, .length = tokens.size(), .tokens = tokens};
  for (size_t i = 0; i < tokens.size(); ++i) {
    batch.targets.push_back(i + 1 < tokens.size() ? tokens[i + 1] : kIgnoredTarget);
    batch.positions.push_back(static_cast<int32_t>(i));
  }
  batch.offsets = {0, static_cast<int32_t>(tokens.size())};
  return batch;
}

// The source of an encoder-decoder fills only the beginning of its stream: what is left of it and
// the empty end of the tokens are a sequence of padding.
void add_source(const std::vector<int32_t>& source, Batch& batch) {
  const auto length = static_cast<int32_t>(batch.length),
             read = static_cast<int32_t>(source.size());
  batch.source.tokens = source;
  batch.source.tokens.resize(batch.length);
  batch.source.positions = batch.positions;
  batch.source.offsets = {0, read, length};
  batch.offsets = {0, length, length};
}

double cross_entropy(std::span<const float> logits, const Batch& batch) {
  const size_t vocab = logits.size() / batch.length;
  double loss = 0;
  for (size_t t = 0; t + 1 < batch.length; ++t) {
    const auto row = logits.subspan(t * vocab, vocab);
    double sum = 0;
    for (const float logit : row) sum += std::exp(static_cast<double>(logit));
    loss += std::log(sum) - row[static_cast<size_t>(batch.targets[t])];
  }
  return loss;
}

// Norm, product with the weights, product with a wave.
struct Marks {
  double squares = 0, weights = 0, wave = 0;
  size_t place = 0;

  void add(float gradient, float weight) {
    squares += double{gradient} * gradient;
    weights += double{gradient} * weight;
    wave += gradient * std::cos(static_cast<double>(place++));
  }
};

class Family : public testing::TestWithParam<const char*> {};

TEST_P(Family, LossAndGradientsAreThoseOfTransformers) {
  const Path folder = golden_folder() / "models" / GetParam();
  const TensorArchive archive(folder / "expected.safetensors");
  const auto expected = stored<float>(archive, "gradients");
  Batch batch = next_tokens(stored<int32_t>(archive, "tokens"));
  if (archive.tensors().count("source") != 0) add_source(stored<int32_t>(archive, "source"), batch);
  Model model = load_model(folder);
  for (const bool whole_step : {false, true}) {
    ThreadTeam team(2, true);
    LanguageModel program(model, {1, batch.length, Precision::f32, whole_step}, team);
    const double loss = cross_entropy(stored<float>(archive, "logits"), batch);
    EXPECT_NEAR(program.forward_backward(batch).loss, loss, 1e-5 * loss);

    std::vector<StoredRows> tensors = stored_tensors(model.config());
    std::sort(tensors.begin(), tensors.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    ASSERT_EQ(expected.size(), 3 * tensors.size());
    for (size_t i = 0; i < tensors.size(); ++i) {
      Marks marks;
      for (const std::string& part : tensors[i].parts) {
        const Parameter& parameter = model.find(part);
        const auto gradient = program.gradients().subspan(parameter.offset, parameter.size);
        for (size_t k = 0; k < parameter.size; ++k)
          marks.add(gradient[k], model.values(parameter)[k]);
      }
      const double norm = expected[3 * i], limit = 1e-4 * (norm + 1e-3);
      EXPECT_NEAR(std::sqrt(marks.squares), norm, limit) << tensors[i].name;
      const auto size = std::sqrt(static_cast<double>(marks.place));
      EXPECT_NEAR(marks.weights, expected[3 * i + 1], limit * size) << tensors[i].name;
      EXPECT_NEAR(marks.wave, expected[3 * i + 2], limit * size) << tensors[i].name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Family,
                         testing::Values("llama", "llama-untied", "llama-biases", "llama-linear",
                                         "llama-yarn", "llama-dynamic", "mistral", "granite",
                                         "granitemoe", "granitemoeshared", "qwen2", "qwen3", "phi3",
                                         "phi3-longrope", "gemma3", "gemma3-multimodal", "t5",
                                         "t5-gated"));

}  // namespace
}  // namespace cairn
