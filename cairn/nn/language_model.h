// A decoder language model recorded as a tape for one micro-batch shape: forward, backward and
// evaluation over the weights of a Model, which it borrows.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cairn/autograd/operations.h"
#include "cairn/base/thread_team.h"
#include "cairn/model/model.h"
#include "cairn/nn/batch.h"

namespace cairn {

enum class Precision { f32, bf16 };  // bf16: products in bf16, everything else f32 (mixed)

struct TrainingShape {
  size_t sequences = 0;  // micro-batch
  size_t length = 0;     // tokens a sequence
  Precision precision = Precision::f32;
  // Every optimiser step is one micro-batch: forward_backward() then replaces the gradients instead
  // of adding to them, and they share memory with activations.
  bool whole_step = false;
};

// Bytes, by what they are for.
struct TrainingMemory {
  size_t weights = 0;
  size_t gradients = 0;
  // All that the tape needs beyond: activations, their gradients, packed weights.
  size_t activations = 0;
  size_t total() const { return weights + gradients + activations; }
};

// Losses in nats, summed over the targets that count.
struct LossSum {
  double loss = 0;
  size_t targets = 0;
};

class LanguageModel {
 public:
  // Allocates everything; later calls allocate nothing. `model` and `team` must outlive it.
  LanguageModel(Model& model, const TrainingShape& shape, ThreadTeam& team);
  ~LanguageModel();
  LanguageModel(const LanguageModel&) = delete;
  LanguageModel& operator=(const LanguageModel&) = delete;

  // The memory an instance would take, without allocating it.
  static TrainingMemory memory(const ModelConfig& config, const TrainingShape& shape, int threads);

  // Sum of the losses of `batch`; adds the gradient of that sum to gradients(), or replaces them
  // when the shape is a whole step. Throws Error (usage) when the batch has another shape, Error
  // (data) on a token id outside the vocabulary.
  LossSum forward_backward(const Batch& batch);
  // The same loss without gradients; batches may hold fewer sequences than the shape.
  LossSum forward(const Batch& batch);
  // Of the last forward(): the likeliest token at every position of the batch. Valid until the next
  // forward() or forward_backward().
  std::span<const int32_t> answers() const;

  // From now on `observer` sees what the attention of each layer reads in every forward pass, layer
  // after layer; an empty one ends that.
  void observe_attention(AttentionObserver observer);

  // f32, laid out like Model::weights(). Of a whole step: valid until the next forward pass.
  std::span<float> gradients();
  void zero_gradients();

  // Seconds spent since the last call, by kind of work ("linear forward", "attention backward",
  // ...).
  struct Timing {
    std::string name;
    double seconds = 0;
  };
  std::vector<Timing> take_timings();

  // After a non-finite loss: the name of the first operation of the last forward pass whose output
  // is not finite ("layer 3 attention"), empty if all are.
  std::string first_non_finite();

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace cairn
