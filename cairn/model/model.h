// A model: its description and its named f32 weights in one block of memory.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "cairn/base/file.h"
#include "cairn/base/memory.h"
#include "cairn/model/config.h"

namespace cairn {

// One named tensor inside the model's block.
struct Parameter {
  ParameterSpec spec;
  size_t offset = 0;  // in floats from the start of the block; multiple of 16
  size_t size = 0;    // elements
};

// Where each tensor of `config` lies in a block, and the size of that block.
std::vector<Parameter> layout_parameters(const ModelConfig& config, double init_std = 0);
size_t block_bytes(const ModelConfig& config);

class Model {
 public:
  // Weights start at zero.
  explicit Model(ModelConfig config, double init_std = 0);

  const ModelConfig& config() const { return config_; }
  std::span<const Parameter> parameters() const { return parameters_; }
  // The whole block, padding between tensors (always zero) included.
  std::span<float> weights() { return buffer_.as<float>(); }
  std::span<const float> weights() const;
  View1<float> values(const Parameter& parameter);
  View1<const float> values(const Parameter& parameter) const;
  // By Hugging Face name; Error (usage) when there is none.
  const Parameter& find(std::string_view name) const;
  View2<float> matrix(std::string_view name);
  View1<float> vector(std::string_view name);

  // Draws every tensor from its own named stream of `seed`, element by element, so a tensor's start
  // does not depend on what else the model holds.
  void initialize(uint64_t seed);
  // A fingerprint of names, shapes and bits.
  uint64_t weights_hash() const;

 private:
  ModelConfig config_;
  std::vector<Parameter> parameters_;
  AlignedBuffer buffer_;
};

// A model of `config` that takes from `source` every tensor of the same name and shape; the others
// start as initialize(seed) leaves them.
Model rebuild_model(const ModelConfig& config, const Model& source, uint64_t seed = 0);

// Reads a Hugging Face folder (config.json and safetensors, sharded or not; f32, f16, bf16) or a
// GGUF file (gguf.h; also one of a set of shards), whose weights are decoded to f32.
// Every tensor must be there with the shape that the configuration implies; tied heads are
// accepted. Throws Error (data) naming file and tensor.
Model load_model(const Path& path);

// Writes config.json, generation_config.json and model.safetensors into `folder`, in `dtype`
// (f32 or bf16); above 5 GB the weights are sharded. Each file appears whole or not at all.
void save_model(const Model& model, const Path& folder, DType dtype = DType::f32);

}  // namespace cairn
