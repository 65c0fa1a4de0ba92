// A model small enough for every test.
#pragma once

#include "cairn/model/model.h"

namespace cairn {

inline ModelConfig tiny_config() {
  ModelConfig config;
  config.vocab_size = 11;
  config.hidden_size = 12;
  config.intermediate_size = 20;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 4;
  config.context_length = 32;
  config.attention.values["rope_theta"] = 10000.0;
  config.bos_ids = {1};
  config.eos_ids = {2};
  return config;
}

}  // namespace cairn
