// Models and texts for the tests of infer/.
#pragma once

#include <cmath>
#include <span>
#include <vector>

#include "cairn/base/random.h"
#include "cairn/infer/engine.h"
#include "cairn/model/model.h"

namespace cairn {

// A small Llama whose weights are large enough that every part shows in the logits.
inline Model random_model(ModelConfig config, uint64_t seed = 5) {
  Model model(std::move(config));
  model.initialize(seed);
  const RandomStream stream(seed, "test gains");
  for (const Parameter& parameter : model.parameters()) {
    const View1<float> values = model.values(parameter);
    const bool vector = parameter.spec.shape.size() == 1;
    const float scale =
        vector ? 0.0F : 50.0F / std::sqrt(static_cast<float>(parameter.spec.shape.back()));
    for (size_t i = 0; i < values.size; ++i)
      values[i] = vector ? 1.0F + 0.2F * static_cast<float>(stream.normal(i)) : values[i] * scale;
  }
  return model;
}

inline ModelConfig small_config() {
  ModelConfig config;
  config.vocab_size = 160;
  config.hidden_size = 48;
  config.intermediate_size = 72;
  config.layers = 3;
  config.heads = 6;
  config.kv_heads = 2;
  config.head_dim = 16;
  config.context_length = 320;
  return config;
}

// Every mechanism of the registry as it starts, and softmax with the options that change its way
// through the engine.
inline std::vector<AttentionOptions> every_mechanism() {
  std::vector<AttentionOptions> all;
  for (const std::string& name : attention_names()) all.push_back({name, {}});
  all.push_back({"softmax", {{"window", int64_t{20}}}});
  all.push_back({"softmax", {{"qk_norm", true}}});
  all.push_back({"softmax", {{"position", std::string("none")}}});
  all.push_back({"softmax", {{"position", std::string("alibi")}}});
  all.push_back({"softmax", {{"qk_conv", int64_t{3}}}});
  all.push_back({"path_fox", {{"qk_norm", true}, {"path_nh", int64_t{2}}}});
  all.push_back({"stick_breaking", {{"head_norm", true}, {"logit_bias", -2.0}}});
  return all;
}

inline Model random_model_around(const AttentionOptions& attention, ModelConfig config) {
  config.attention = attention;
  Model model = random_model(std::move(config));
  for (const Parameter& parameter : model.parameters())  // or scores would be in the thousands
    if (parameter.spec.name.find("conv1d") != std::string::npos)
      for (float& value : model.values(parameter)) value *= 0.03F;
  return model;
}

inline std::vector<int32_t> random_tokens(size_t count, size_t vocab_size, uint64_t seed = 9) {
  const RandomStream stream(seed, "test tokens");
  std::vector<int32_t> tokens(count);
  for (size_t i = 0; i < count; ++i) tokens[i] = static_cast<int32_t>(stream.below(vocab_size, i));
  return tokens;
}

// What follows each of the tokens, read in one pass: [tokens, vocab_size].
inline std::vector<float> all_logits(Engine& engine, std::span<const int32_t> tokens) {
  const size_t vocab = engine.config().vocab_size;
  std::vector<float> logits(tokens.size() * vocab);
  Session session = engine.start();
  session.append(tokens, {logits.data(), tokens.size(), vocab});
  return logits;
}

}  // namespace cairn
