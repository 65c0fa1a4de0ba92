// AdamW over the flat block of a model: global-norm clipping, division by the number of targets and
// the update, in fixed chunks on the thread team, so the same bits for any number of threads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cairn/base/memory.h"
#include "cairn/base/thread_team.h"
#include "cairn/model/model.h"

namespace cairn {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;  // of matrices and embeddings; norm gains and biases are not decayed
  double clip = 1.0;          // largest L2 norm of the mean gradient; 0: no clipping
};

class Optimizer {
 public:
  // `parameters` are the tensors of a block of `block_size` floats (Model::parameters(),
  // Model::weights().size()). Allocates the moments, zero. `team` must outlive it.
  Optimizer(std::span<const Parameter> parameters, size_t block_size, const AdamWOptions& options,
            ThreadTeam& team);

  // What measure() found: the L2 norm of the mean gradient, and what clipping will multiply it by.
  struct Gradient {
    double norm = 0;  // not finite when any gradient is not
    double clip_factor = 1;
  };
  // `gradients` hold the gradient of a sum over `targets` tokens. Norm in f64 over fixed chunks.
  Gradient measure(std::span<const float> gradients, uint64_t targets);

  // One update at learning rate `lr`; gradients become zero. `gradient` is what measure() said.
  void step(std::span<float> weights, std::span<float> gradients, uint64_t targets,
            const Gradient& gradient, double lr);

  // Updates made so far; the moments, laid out like the weights. For checkpoints.
  uint64_t steps() const { return steps_; }
  void set_steps(uint64_t steps) { steps_ = steps; }
  std::span<float> first_moments() { return m_.as<float>(); }
  std::span<float> second_moments() { return v_.as<float>(); }

  // Bytes of the moments for a block of `block_size` floats.
  static size_t memory(size_t block_size) { return 2 * block_size * sizeof(float); }

 private:
  struct Chunk {
    size_t begin, size;
    bool decayed;
  };
  AdamWOptions options_;
  ThreadTeam* team_;
  std::vector<Chunk> chunks_;     // cover every parameter, none across two
  std::vector<double> partials_;  // sums of squares, a chunk each
  AlignedBuffer m_, v_;
  uint64_t steps_ = 0;
};

}  // namespace cairn
