#include "cairn/infer/activation_squares.h"

#include <span>

namespace cairn {
namespace {

bool is_of_experts(ProductInput input) {
  return input == ProductInput::experts_gate_up || input == ProductInput::experts_down;
}

}  // namespace

ActivationSquares::ActivationSquares(const ModelConfig& config) : layers_(config.layers) {
  const size_t down = config.experts > 0 ? config.shared_intermediate_size  //
                                         : config.intermediate_size;
  const std::array<size_t, kInputs> widths = {config.hidden_size, config.heads * config.head_dim,
                                              config.hidden_size, down,
                                              config.hidden_size, config.intermediate_size};
  for (auto& inputs : layers_)
    for (size_t i = 0; i < kInputs; ++i) {
      const bool experts = is_of_experts(static_cast<ProductInput>(i));
      inputs[i].resize(experts ? config.experts : kSlots);
      for (Slot& slot : inputs[i]) slot.squares.assign(widths[i], 0.0);
    }
}

void ActivationSquares::add(size_t layer, ProductInput input, size_t slot,
                            const ActivationSource& rows) {
  if (input == ProductInput::head) return;
  Slot& to = layers_[layer][static_cast<size_t>(input)][slot];
  to.rows += rows.x.rows;
  for (size_t t = 0; t < rows.x.rows; ++t) {
    const float scale = rows.token_scale.empty() ? 1.0F : rows.token_scale[t];
    const View1<const float> x = rows.x[t];
    for (size_t i = 0; i < x.size; ++i) {
      const float value = x[i] * scale * (rows.weight.empty() ? 1.0F : rows.weight[i]);
      to.squares[i] += double{value} * value;
    }
  }
}

std::vector<float> ActivationSquares::sums(size_t layer, ProductInput input) const {
  const std::vector<Slot>& slots = layers_[layer][static_cast<size_t>(input)];
  std::vector<float> result;
  if (is_of_experts(input)) {
    for (const Slot& slot : slots)
      for (const double sum : slot.squares) result.push_back(static_cast<float>(sum));
    return result;
  }
  for (size_t i = 0; i < slots[0].squares.size(); ++i) {
    double sum = 0;
    for (const Slot& slot : slots) sum += slot.squares[i];
    result.push_back(static_cast<float>(sum));
  }
  return result;
}

std::vector<float> ActivationSquares::counts(size_t layer, ProductInput input) const {
  const std::vector<Slot>& slots = layers_[layer][static_cast<size_t>(input)];
  std::vector<float> result(is_of_experts(input) ? slots.size() : 1);
  for (size_t i = 0; i < slots.size(); ++i)
    result[i % result.size()] += static_cast<float>(slots[i].rows);
  return result;
}

}  // namespace cairn
