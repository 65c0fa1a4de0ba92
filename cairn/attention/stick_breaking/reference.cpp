#include "cairn/attention/stick_breaking/reference.h"

#include <algorithm>
#include <cmath>

#include "cairn/attention/checks.h"
#include "cairn/attention/reference_math.h"

namespace cairn {
namespace {

// One query head of one token and its walk over the keys of its sequence, oldest first in memory.
struct Row {
  Row(const StickBreaking& attention, const StickReference& in, size_t first_token, size_t own,
      size_t of_head);

  const AttentionGeometry& g;
  size_t first, token, head, kv_head;
  std::vector<double> beta, rest, stick;  // share, 1 - share, what is left when the walk comes
  double remainder = 1;

  size_t q_at() const { return (token * g.heads + head) * g.head_dim; }
  size_t out_at() const { return (token * g.heads + head) * g.value_dim; }
  size_t k_at(size_t i) const { return ((first + i) * g.kv_heads + kv_head) * g.head_dim; }
  size_t v_at(size_t i) const { return ((first + i) * g.kv_heads + kv_head) * g.value_dim; }
  size_t own_value() const { return v_at(token - first); }
};

Row::Row(const StickBreaking& attention, const StickReference& in, size_t first_token, size_t own,
         size_t of_head)
    : g(attention.geometry),
      first(first_token),
      token(own),
      head(of_head),
      kv_head(of_head / (g.heads / g.kv_heads)) {
  const StickBreakingOptions& options = attention.options;
  const size_t keys = token - first + (options.attend_current ? 1 : 0);
  beta.resize(keys);
  rest.resize(keys);
  stick.resize(keys);
  for (size_t i = keys; i-- > 0;) {
    double z = attention.geometry.scale * dot(&in.q[q_at()], &in.k[k_at(i)], g.head_dim);
    if (options.logit_bias) z += in.logit_bias[head];
    beta[i] = 1 / (1 + std::exp(-z));
    rest[i] = 1 / (1 + std::exp(z));  // of its own: 1 - beta would cancel
    if (beta[i] < options.gate_floor) beta[i] = 0, rest[i] = 1;
    stick[i] = remainder;
    remainder *= rest[i];
  }
}

template <class Visit>
void for_each_row(const StickBreaking& attention, const StickReference& in,
                  View1<const int32_t> offsets, Visit visit) {
  for (size_t s = 0; s + 1 < offsets.size; ++s)
    for (int32_t token = offsets[s]; token < offsets[s + 1]; ++token)
      for (size_t head = 0; head < attention.geometry.heads; ++head)
        visit(Row(attention, in, offsets[s], token, head));
}

// w_i, or null for none.
const double* remainder_vector(const StickBreaking& attention, const StickReference& in,
                               const Row& row) {
  switch (attention.options.remainder) {
    case StickRemainder::none:
      return nullptr;
    case StickRemainder::value:
      return &in.v[row.own_value()];
    case StickRemainder::head_bias:
      return &in.remainder[row.head * row.g.value_dim];
  }
  return nullptr;
}

std::vector<double> attend(const StickBreaking& attention, const StickReference& in,
                           const Row& row) {
  const size_t n = row.g.value_dim;
  std::vector<double> y(n);
  for (size_t i = 0; i < row.beta.size(); ++i)
    add_scaled(row.beta[i] * row.stick[i], &in.v[row.v_at(i)], n, y.data());
  if (const double* w = remainder_vector(attention, in, row))
    add_scaled(row.remainder, w, n, y.data());
  return y;
}

// (y - mean) / sqrt(variance + epsilon), and that denominator's inverse.
double standardize(std::vector<double>& y) {
  double mean = 0, variance = 0;
  for (const double x : y) mean += x / static_cast<double>(y.size());
  for (const double x : y) variance += (x - mean) * (x - mean) / static_cast<double>(y.size());
  const double inverse = 1 / std::sqrt(variance + kHeadNormEpsilon);
  for (double& x : y) x = (x - mean) * inverse;
  return inverse;
}

// Turns dy, the gradient of the head norm's output, into that of its input y.
void norm_backward(const StickReference& in, size_t head, std::vector<double> y,
                   std::vector<double>& dy, StickReference& grad) {
  const size_t n = y.size(), at = head * n;
  const double inverse = standardize(y);
  double mean = 0, along = 0;
  for (size_t c = 0; c < n; ++c) {
    grad.norm_weight[at + c] += dy[c] * y[c];
    grad.norm_bias[at + c] += dy[c];
    dy[c] *= in.norm_weight[at + c];
    mean += dy[c] / static_cast<double>(n);
    along += dy[c] * y[c] / static_cast<double>(n);
  }
  for (size_t c = 0; c < n; ++c) dy[c] = inverse * (dy[c] - mean - y[c] * along);
}

// What one row adds to the gradients, given dy of its output before the norm and dr of its
// remainder, that of the remainder vector included.
void row_backward(const StickBreaking& attention, const StickReference& in, const Row& row,
                  const std::vector<double>& dy, double dr, StickReference& grad) {
  const AttentionGeometry& g = row.g;
  double worth = dr;  // U: of what is left, were it not consumed here
  for (size_t i = 0; i < row.beta.size(); ++i) {
    const double gain = dot(dy.data(), &in.v[row.v_at(i)], g.value_dim) - worth;
    const double dz = row.beta[i] * row.rest[i] * row.stick[i] * gain;
    worth += row.beta[i] * gain;
    add_scaled(row.beta[i] * row.stick[i], dy.data(), g.value_dim, &grad.v[row.v_at(i)]);
    add_scaled(g.scale * dz, &in.k[row.k_at(i)], g.head_dim, &grad.q[row.q_at()]);
    add_scaled(g.scale * dz, &in.q[row.q_at()], g.head_dim, &grad.k[row.k_at(i)]);
    if (attention.options.logit_bias) grad.logit_bias[row.head] += dz;
  }
  if (attention.options.remainder == StickRemainder::value)
    add_scaled(row.remainder, dy.data(), g.value_dim, &grad.v[row.own_value()]);
  if (attention.options.remainder == StickRemainder::head_bias)
    add_scaled(row.remainder, dy.data(), g.value_dim, &grad.remainder[row.head * g.value_dim]);
}

StickReference zeros_like(const StickReference& in) {
  const auto zeros = [](const std::vector<double>& like) {
    return std::vector<double>(like.size());
  };
  return {zeros(in.q),           zeros(in.k),         zeros(in.v),         zeros(in.remainder),
          zeros(in.norm_weight), zeros(in.norm_bias), zeros(in.logit_bias)};
}

}  // namespace

StickReferenceResult stick_breaking_reference(const StickBreaking& attention,
                                              const StickReference& in,
                                              View1<const int32_t> offsets) {
  const AttentionGeometry& g = attention.geometry;
  const size_t tokens = offsets[offsets.size - 1];
  StickReferenceResult result;
  result.out.resize(tokens * g.heads * g.value_dim);
  result.remainder.resize(tokens * g.heads);
  for_each_row(attention, in, offsets, [&](const Row& row) {
    std::vector<double> y = attend(attention, in, row);
    if (attention.options.head_norm) {
      standardize(y);
      for (size_t c = 0; c < g.value_dim; ++c) {
        const size_t at = row.head * g.value_dim + c;
        y[c] = y[c] * in.norm_weight[at] + in.norm_bias[at];
      }
    }
    std::copy(y.begin(), y.end(), result.out.begin() + static_cast<ptrdiff_t>(row.out_at()));
    result.remainder[row.token * g.heads + row.head] = row.remainder;
  });
  return result;
}

StickReference stick_breaking_reference_backward(const StickBreaking& attention,
                                                 const StickReference& in,
                                                 View1<const int32_t> offsets,
                                                 std::span<const double> dout,
                                                 std::span<const double> dremainder) {
  const AttentionGeometry& g = attention.geometry;
  StickReference grad = zeros_like(in);
  for_each_row(attention, in, offsets, [&](const Row& row) {
    const double* from = dout.data() + row.out_at();
    std::vector<double> dy(from, from + g.value_dim);
    if (attention.options.head_norm)
      norm_backward(in, row.head, attend(attention, in, row), dy, grad);
    double dr = dremainder.empty() ? 0 : dremainder[row.token * g.heads + row.head];
    if (const double* w = remainder_vector(attention, in, row)) dr += dot(dy.data(), w, dy.size());
    row_backward(attention, in, row, dy, dr, grad);
  });
  return grad;
}

AttentionWeights stick_breaking_reference_weights(const StickBreaking& attention,
                                                  const StickReference& in,
                                                  const TokenLayout& layout) {
  AttentionWeights result = no_weights(attention.geometry.heads, layout);
  AttentionWeights::Extra stick{"stick", "what newer keys left of the stick", 0, {}};
  stick.values.resize(result.weights.size());
  for_each_row(attention, in, layout.offsets, [&](const Row& row) {
    for (size_t i = 0; i < row.beta.size(); ++i) {
      const size_t at = result.at(row.head, row.token, i);
      result.weights[at] = row.beta[i] * row.stick[i];
      stick.values[at] = row.stick[i];
    }
  });
  result.extras.push_back(std::move(stick));
  return result;
}

}  // namespace cairn
