#include "cairn/infer/activation_squares.h"

#include <string>

#include "cairn/base/error.h"

namespace cairn {

ActivationSquares::ActivationSquares(const ModelConfig& config) : layers_(config.layers) {
  if (config.experts > 0)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "measuring which columns matter",
                 .subject = "the model's MLP",
                 .expected = "a plain one",
                 .found = "a mixture of " + std::to_string(config.experts) + " experts"});
  const std::array<size_t, 4> widths = {config.hidden_size, config.heads * config.head_dim,
                                        config.hidden_size, config.intermediate_size};
  for (auto& inputs : layers_)
    for (size_t i = 0; i < widths.size(); ++i)
      for (std::vector<double>& columns : inputs[i]) columns.assign(widths[i], 0.0);
}

void ActivationSquares::add(size_t layer, ProductInput input, size_t slot,
                            const ActivationSource& rows) {
  if (input == ProductInput::head) return;
  std::vector<double>& columns = layers_[layer][static_cast<size_t>(input)][slot];
  for (size_t t = 0; t < rows.x.rows; ++t) {
    const float scale = rows.token_scale.empty() ? 1.0F : rows.token_scale[t];
    const View1<const float> x = rows.x[t];
    for (size_t i = 0; i < x.size; ++i) {
      const float value = x[i] * scale * (rows.weight.empty() ? 1.0F : rows.weight[i]);
      columns[i] += double{value} * value;
    }
  }
}

std::vector<float> ActivationSquares::sums(size_t layer, ProductInput input) const {
  const Columns& slots = layers_[layer][static_cast<size_t>(input)];
  std::vector<float> result;
  for (size_t i = 0; i < slots[0].size(); ++i) {
    double sum = 0;
    for (const std::vector<double>& columns : slots) sum += columns[i];
    result.push_back(static_cast<float>(sum));
  }
  return result;
}

}  // namespace cairn
