#include "cairn/train/optimizer.h"

#include <algorithm>
#include <cmath>

#include "cairn/kernels/adamw.h"
#include "cairn/tensor/shape.h"

namespace cairn {
namespace {

// 32 Ki floats of weights, gradient and two moments are 512 KiB: half of a core's L2.
constexpr size_t kChunk = size_t{1} << 15;

}  // namespace

Optimizer::Optimizer(std::span<const Parameter> parameters, size_t block_size,
                     const AdamWOptions& options, ThreadTeam& team)
    : options_(options),
      team_(&team),
      m_(block_size * sizeof(float)),
      v_(block_size * sizeof(float)) {
  for (const Parameter& parameter : parameters)
    for (size_t begin = 0; begin < parameter.size; begin += kChunk)
      chunks_.push_back({.begin = parameter.offset + begin,
                         .size = std::min(kChunk, parameter.size - begin),
                         .decayed = parameter.spec.group != ParameterGroup::vector});
  partials_.resize(chunks_.size());
}

Optimizer::Gradient Optimizer::measure(std::span<const float> gradients, uint64_t targets) {
  check_shape("measuring gradients", "gradients", {m_.as<float>().size()}, {gradients.size()});
  team_->run(chunks_.size(), [&](size_t chunk, int /*thread*/) {
    const Chunk& c = chunks_[chunk];
    partials_[chunk] = sum_of_squares({gradients.data() + c.begin, c.size});
  });
  double sum = 0;
  for (const double partial : partials_) sum += partial;
  const double norm = std::sqrt(sum) / static_cast<double>(std::max<uint64_t>(targets, 1));
  // 1e-6 as PyTorch's clip_grad_norm_ adds it.
  const bool clipped = options_.clip > 0 && norm > options_.clip;
  return {.norm = norm, .clip_factor = clipped ? options_.clip / (norm + 1e-6) : 1.0};
}

void Optimizer::step(std::span<float> weights, std::span<float> gradients, uint64_t targets,
                     const Gradient& gradient, double lr) {
  check_shape("updating weights", "weights", {m_.as<float>().size()}, {weights.size()});
  check_shape("updating weights", "gradients", {weights.size()}, {gradients.size()});
  ++steps_;
  const double scale = gradient.clip_factor / static_cast<double>(std::max<uint64_t>(targets, 1));
  const auto scalars = [&](double decay) {
    return adamw_scalars(lr, options_.beta1, options_.beta2, options_.eps, decay, scale, steps_);
  };
  const AdamWScalars decayed = scalars(options_.weight_decay), plain = scalars(0);
  float* m = m_.as<float>().data();
  float* v = v_.as<float>().data();
  team_->run(chunks_.size(), [&](size_t chunk, int /*thread*/) {
    const Chunk& c = chunks_[chunk];
    adamw(c.decayed ? decayed : plain, {weights.data() + c.begin, c.size},
          {gradients.data() + c.begin, c.size}, {m + c.begin, c.size}, {v + c.begin, c.size});
  });
}

}  // namespace cairn
