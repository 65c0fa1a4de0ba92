// The model as a recording: puts the operations of the architecture that a ModelConfig describes
// onto a tape.
#pragma once

#include "cairn/autograd/operations.h"
#include "cairn/model/model.h"

namespace cairn {

// Where the model finds its weights: the block of the model and a gradient block laid out alike.
// Null blocks serve for planning.
class WeightTable {
 public:
  WeightTable(const ModelConfig& config, float* values, float* gradients);
  // By Hugging Face name. A vector comes as a matrix of one row.
  WeightRef operator[](const std::string& name) const;

 private:
  std::vector<Parameter> parameters_;
  float* values_;
  float* gradients_;
};

// What a model reads. The source is of encoder-decoders alone.
struct ModelInputs {
  TokenInputs tokens, source;
};

// Records the encoder, where there is one, then embedding, layers, final norm and head.
// `mechanisms`, `streams` and `result` must outlive the tape.
void record_model(Recorder& recorder, const ModelConfig& config, const WeightTable& weights,
                  const LayerAttention& mechanisms, const ModelInputs& streams, LossResult& result);

}  // namespace cairn
