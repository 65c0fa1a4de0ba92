// The gates of the room in float64; core.cpp has the attention behind them.
#include <cmath>

#include "cairn/attention/fox/fox.h"

namespace cairn {

std::vector<double> FoxAttention::reference_log_forget(const Reference& inputs) const {
  const size_t hidden = geometry_.hidden_size, heads = geometry_.heads;
  const size_t tokens = inputs.x.size() / hidden;
  std::vector<double> log_forget(tokens * heads);
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t head = 0; head < heads; ++head) {
      double logit = inputs.parameters[1][head];
      for (size_t i = 0; i < hidden; ++i)
        logit += inputs.parameters[0][head * hidden + i] * inputs.x[t * hidden + i];
      log_forget[t * heads + head] = std::min(logit, 0.0) - std::log1p(std::exp(-std::abs(logit)));
    }
  }
  return log_forget;
}

std::vector<double> FoxAttention::reference_forward(const Reference& inputs,
                                                    const TokenLayout& layout) const {
  return fox_reference_forward(core_, inputs, reference_log_forget(inputs), layout);
}

AttentionWeights FoxAttention::reference_weights(const Reference& inputs,
                                                 const TokenLayout& layout) const {
  const size_t heads = geometry_.heads;
  const auto potentials = fox_reference_potentials(core_.gate_scale, reference_log_forget(inputs),
                                                   heads, layout.offsets);
  AttentionWeights result =
      softmax_reference_weights(core_.softmax, inputs, potentials.data(), layout);
  AttentionWeights::Extra gate{"gate", "what the gates after the key let pass", 0, {}};
  gate.values.resize(result.weights.size());
  for (size_t head = 0; head < heads; ++head)
    for (size_t query = 0; query < result.tokens; ++query)
      for (size_t key = 0; key <= query; ++key)
        gate.values[result.at(head, query, key)] = std::exp(
            potentials[head * result.tokens + query] - potentials[head * result.tokens + key]);
  result.extras.push_back(std::move(gate));
  return result;
}

AttentionMechanism::Reference FoxAttention::reference_backward(const Reference& inputs,
                                                               const TokenLayout& layout,
                                                               std::span<const double> dout) const {
  const size_t hidden = geometry_.hidden_size, heads = geometry_.heads;
  const auto log_forget = reference_log_forget(inputs);
  std::vector<double> dlog_forget(log_forget.size());
  Reference grad = fox_reference_backward(core_, inputs, log_forget, layout, dout, dlog_forget);
  grad.parameters = {std::vector<double>(heads * hidden), std::vector<double>(heads)};
  for (size_t i = 0; i < log_forget.size(); ++i) {
    const size_t t = i / heads, head = i % heads;
    const double dlogit = -std::expm1(log_forget[i]) * dlog_forget[i];
    grad.parameters[1][head] += dlogit;
    for (size_t c = 0; c < hidden; ++c) {
      grad.parameters[0][head * hidden + c] += dlogit * inputs.x[t * hidden + c];
      grad.x[t * hidden + c] += dlogit * inputs.parameters[0][head * hidden + c];
    }
  }
  return grad;
}

}  // namespace cairn
