// The definition of the room and of its gradient, in float64 and the obvious order.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cairn/attention/checks.h"
#include "cairn/attention/reference_math.h"
#include "cairn/attention/relative_bias/relative_bias.h"

namespace cairn {

// One query head of one token and the keys [first, first + weights.size()) that it sees.
struct RelativeBiasAttention::Row {
  size_t token, head, first;
  std::vector<double> weights;
  std::vector<size_t> entry;  // of the bias in the table, for each key; none in cross-attention
  // Places in the arrays of the query, of the output, and of the i-th key and value.
  size_t query, out;
  std::vector<size_t> key, value;
};

template <class Visit>
void RelativeBiasAttention::for_each_row(const Reference& in, const TokenLayout& layout,
                                         Visit visit) const {
  const AttentionGeometry& g = geometry_;
  const bool cross = core_.mask == AttentionMask::cross;
  const View1<const int32_t>& of_keys = cross ? layout.key_offsets : layout.offsets;
  for (size_t s = 0; s + 1 < layout.offsets.size; ++s)
    for (int32_t token = layout.offsets[s]; token < layout.offsets[s + 1]; ++token)
      for (size_t head = 0; head < g.heads; ++head) {
        const size_t at = static_cast<size_t>(token) * g.heads + head;
        Row row{static_cast<size_t>(token),
                head,
                static_cast<size_t>(of_keys[s]),
                {},
                {},
                at * g.head_dim,
                at * g.value_dim,
                {},
                {}};
        const int32_t end = core_.mask == AttentionMask::causal ? token + 1 : of_keys[s + 1];
        double largest = -std::numeric_limits<double>::infinity(), sum = 0;
        for (int32_t key = of_keys[s]; key < end; ++key) {
          const size_t kv_row =
              static_cast<size_t>(key) * g.kv_heads + head / (g.heads / g.kv_heads);
          row.key.push_back(kv_row * g.head_dim);
          row.value.push_back(kv_row * g.value_dim);
          double score = static_cast<double>(core_.geometry.scale) *
                         dot(&in.q[row.query], &in.k[row.key.back()], g.head_dim);
          if (!cross) {
            row.entry.push_back(static_cast<size_t>(buckets_->of(key - token)) * g.heads + head);
            score += in.parameters[0][row.entry.back()];
          }
          row.weights.push_back(score);
          largest = std::max(largest, score);
        }
        for (double& weight : row.weights) sum += weight = std::exp(weight - largest);
        for (double& weight : row.weights) weight /= sum;
        visit(row);
      }
}

std::vector<double> RelativeBiasAttention::reference_forward(const Reference& inputs,
                                                             const TokenLayout& layout) const {
  const AttentionGeometry& g = geometry_;
  std::vector<double> out(inputs.q.size() / g.head_dim * g.value_dim);
  for_each_row(inputs, layout, [&](const Row& row) {
    for (size_t i = 0; i < row.weights.size(); ++i)
      add_scaled(row.weights[i], &inputs.v[row.value[i]], g.value_dim, &out[row.out]);
  });
  return out;
}

AttentionMechanism::Reference RelativeBiasAttention::reference_backward(
    const Reference& inputs, const TokenLayout& layout, std::span<const double> dout) const {
  const AttentionGeometry& g = geometry_;
  const auto zeros = [](const std::vector<double>& like) {
    return std::vector<double>(like.size());
  };
  Reference grad{zeros(inputs.x), zeros(inputs.q), zeros(inputs.k), zeros(inputs.v), {}};
  for (const auto& parameter : inputs.parameters) grad.parameters.push_back(zeros(parameter));
  for_each_row(inputs, layout, [&](const Row& row) {
    const double* dy = &dout[row.out];
    std::vector<double> dweight;
    double delta = 0;  // sum of dout * out
    for (size_t i = 0; i < row.weights.size(); ++i) {
      dweight.push_back(dot(dy, &inputs.v[row.value[i]], g.value_dim));
      delta += row.weights[i] * dweight[i];
    }
    for (size_t i = 0; i < row.weights.size(); ++i) {
      const double dscore = row.weights[i] * (dweight[i] - delta);
      const double dproduct = static_cast<double>(core_.geometry.scale) * dscore;
      add_scaled(row.weights[i], dy, g.value_dim, &grad.v[row.value[i]]);
      add_scaled(dproduct, &inputs.q[row.query], g.head_dim, &grad.k[row.key[i]]);
      add_scaled(dproduct, &inputs.k[row.key[i]], g.head_dim, &grad.q[row.query]);
      if (!row.entry.empty()) grad.parameters[0][row.entry[i]] += dscore;
    }
  });
  return grad;
}

AttentionWeights RelativeBiasAttention::reference_weights(const Reference& inputs,
                                                          const TokenLayout& layout) const {
  AttentionWeights result = no_weights(geometry_.heads, layout);
  if (core_.mask == AttentionMask::cross) {
    result.keys = static_cast<size_t>(layout.key_offsets[1]);
    result.weights.assign(result.heads * result.tokens * result.keys, 0);
  }
  for_each_row(inputs, layout, [&](const Row& row) {
    for (size_t i = 0; i < row.weights.size(); ++i)
      result.weights[result.at(row.head, row.token, row.first + i)] = row.weights[i];
  });
  return result;
}

}  // namespace cairn
