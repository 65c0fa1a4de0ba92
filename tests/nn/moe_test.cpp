#include "cairn/nn/moe.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cairn/base/cpu.h"
#include "cairn/base/random.h"
#include "cairn/nn/language_model.h"

namespace cairn {
namespace {

ModelConfig moe_config() {
  ModelConfig config;
  config.architecture = "granitemoeshared";
  config.vocab_size = 50;
  config.hidden_size = 24;
  config.intermediate_size = 20;
  config.layers = 2;
  config.heads = 2;
  config.kv_heads = 1;
  config.head_dim = 12;
  config.context_length = 128;
  config.attention_scale = 0.3;
  config.experts = 5;
  config.experts_per_token = 2;
  config.shared_intermediate_size = 12;
  return config;
}

Model random_model(const ModelConfig& config) {
  Model model(config, 0.4);
  model.initialize(3);
  return model;
}

Batch random_batch(size_t sequences, size_t length, size_t vocab) {
  const RandomStream stream(7, "tokens");
  Batch batch{.sequences = sequences, .length = length};
  for (size_t i = 0; i < sequences * length; ++i) {
    batch.tokens.push_back(static_cast<int32_t>(stream.below(vocab, 2 * i)));
    batch.targets.push_back(static_cast<int32_t>(stream.below(vocab, 2 * i + 1)));
    batch.positions.push_back(static_cast<int32_t>(i % length));
  }
  for (size_t s = 0; s <= sequences; ++s) batch.offsets.push_back(static_cast<int32_t>(s * length));
  return batch;
}

std::vector<float> gradients_of(Model& model, const Batch& batch, int threads,
                                Precision precision = Precision::f32) {
  ThreadTeam team(threads, true);
  LanguageModel program(model, {batch.sequences, batch.length, precision, true}, team);
  program.forward_backward(batch);
  return {program.gradients().begin(), program.gradients().end()};
}

// More tokens than a block, so that some experts have several and others a part of one.
TEST(MixtureOfExperts, GivesTheSameBitsForAnyNumberOfThreads) {
  Model model = random_model(moe_config());
  const Batch batch = random_batch(3, 97, 50);
  EXPECT_EQ(gradients_of(model, batch, 1), gradients_of(model, batch, 3));
}

// A step along the gradient of one tensor changes the loss by its squared norm, to first order.
TEST(MixtureOfExperts, GradientsAreThoseOfDifferences) {
  Model model = random_model(moe_config());
  const Batch batch = random_batch(1, 90, 50);
  const std::vector<float> gradients = gradients_of(model, batch, 2);
  ThreadTeam team(2, true);
  LanguageModel program(model, {1, 90}, team);
  for (const char* name : {"model.layers.0.block_sparse_moe.router.layer.weight",
                           "model.layers.0.block_sparse_moe.input_linear.weight",
                           "model.layers.1.block_sparse_moe.output_linear.weight",
                           "model.layers.0.shared_mlp.input_linear.weight",
                           "model.layers.0.post_attention_layernorm.weight"}) {
    const Parameter& parameter = model.find(name);
    const auto gradient = std::span(gradients).subspan(parameter.offset, parameter.size);
    double squares = 0;
    for (const float g : gradient) squares += double{g} * g;
    // Small enough that no token changes its experts.
    const double step = 1e-3 / std::sqrt(squares);
    const auto loss_at = [&](double factor) {
      const View1<float> values = model.values(parameter);
      const std::vector<float> before(values.begin(), values.end());
      for (size_t i = 0; i < values.size; ++i)
        values[i] += static_cast<float>(factor * step) * gradient[i];
      const double loss = program.forward(batch).loss;
      std::copy(before.begin(), before.end(), values.begin());
      return loss;
    };
    const double slope = (loss_at(1) - loss_at(-1)) / (2 * step);
    EXPECT_NEAR(slope / squares, 1, 0.03) << name;
  }
}

TEST(MixtureOfExperts, Bf16StaysNearF32) {
  if (usable_isa() < Isa::avx512_bf16) GTEST_SKIP() << "no bf16 products here";
  ModelConfig config = moe_config();
  config.experts_per_token = config.experts;  // rounding changes no choice
  Model model = random_model(config);
  const Batch batch = random_batch(2, 70, 50);
  const auto exact = gradients_of(model, batch, 2);
  const auto rounded = gradients_of(model, batch, 2, Precision::bf16);
  double off = 0, all = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    off += std::pow(double{exact[i]} - rounded[i], 2);
    all += std::pow(double{exact[i]}, 2);
  }
  EXPECT_LT(std::sqrt(off / all), 0.1);
}

// The loss pulls the router towards the experts that fewer tokens chose.
TEST(MixtureOfExperts, TheLoadBalancingLossEvensTheChoices) {
  ModelConfig config = moe_config();
  config.router_loss = 10;
  Model model = random_model(config);
  const Batch batch = random_batch(2, 64, 50);
  const std::string name = "model.layers.0.block_sparse_moe.router.layer.weight";
  config.router_loss = 0;
  Model without = random_model(config);
  const auto pulled = gradients_of(model, batch, 2), plain = gradients_of(without, batch, 2);
  const Parameter& router = model.find(name);
  double difference = 0;
  for (size_t i = 0; i < router.size; ++i)
    difference += std::abs(pulled[router.offset + i] - plain[router.offset + i]);
  EXPECT_GT(difference, 1e-3);
  const Parameter& experts = model.find("model.layers.1.block_sparse_moe.output_linear.weight");
  for (size_t i = 0; i < experts.size; ++i)
    ASSERT_EQ(pulled[experts.offset + i], plain[experts.offset + i])
        << "of the last layer's experts";
}

}  // namespace
}  // namespace cairn
