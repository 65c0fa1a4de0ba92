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
