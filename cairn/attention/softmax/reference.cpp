// The definition of softmax attention and of its gradient, in float64 and the obvious order.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cairn/attention/softmax/softmax.h"
#include "cairn/base/error.h"

namespace cairn {
namespace {

// rows [tokens, heads, dim], turned in place by the angles of their positions; direction -1 turns
// back.
void rotate(std::vector<double>& rows, size_t heads, size_t dim, double theta,
            View1<const int32_t> positions, double direction) {
  const size_t half = dim / 2;
  for (size_t token = 0; token < positions.size; ++token) {
    for (size_t head = 0; head < heads; ++head) {
      double* row = rows.data() + (token * heads + head) * dim;
      for (size_t i = 0; i < half; ++i) {
        const double frequency = std::pow(theta, -2.0 * static_cast<double>(i) / dim);
        const double angle = direction * positions[token] * frequency;
        const double x = row[i], y = row[i + half];
        row[i] = x * std::cos(angle) - y * std::sin(angle);
        row[i + half] = y * std::cos(angle) + x * std::sin(angle);
      }
    }
  }
}

double dot(const double* a, const double* b, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

void add_scaled(double factor, const double* from, size_t n, double* to) {
  for (size_t i = 0; i < n; ++i) to[i] += factor * from[i];
}

// One query head of one token against the keys of its sequence.
class Row {
 public:
  Row(const AttentionGeometry& g, double scale, const AttentionMechanism::Reference& rotated,
      size_t first, size_t token, size_t head)
      : g_(g),
        in_(rotated),
        first_(first),
        token_(token),
        head_(head),
        weights_(token + 1 - first) {
    double largest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (size_t i = 0; i < weights_.size(); ++i) {
      weights_[i] = scale * dot(query(), in_.k.data() + key(i), g_.head_dim);
      largest = std::max(largest, weights_[i]);
    }
    for (double& weight : weights_) sum += weight = std::exp(weight - largest);
    for (double& weight : weights_) weight /= sum;
  }

  size_t keys() const { return weights_.size(); }
  double weight(size_t i) const { return weights_[i]; }
  const double* query() const { return in_.q.data() + query_at(); }
  // Places in the arrays of this row's query and output, and of its i-th key and value.
  size_t query_at() const { return (token_ * g_.heads + head_) * g_.head_dim; }
  size_t out_at() const { return (token_ * g_.heads + head_) * g_.value_dim; }
  size_t key(size_t i) const { return kv_row(i) * g_.head_dim; }
  size_t value(size_t i) const { return kv_row(i) * g_.value_dim; }

 private:
  size_t kv_row(size_t i) const {
    return (first_ + i) * g_.kv_heads + head_ / (g_.heads / g_.kv_heads);
  }
  const AttentionGeometry& g_;
  const AttentionMechanism::Reference& in_;
  size_t first_, token_, head_;
  std::vector<double> weights_;
};

template <class Visit>
void for_each_row(const AttentionGeometry& g, double scale,
                  const AttentionMechanism::Reference& rotated, const TokenLayout& layout,
                  Visit visit) {
  for (size_t s = 0; s + 1 < layout.offsets.size; ++s)
    for (int32_t token = layout.offsets[s]; token < layout.offsets[s + 1]; ++token)
      for (size_t head = 0; head < g.heads; ++head)
        visit(Row(g, scale, rotated, layout.offsets[s], token, head));
}

}  // namespace

std::vector<double> SoftmaxAttention::reference_forward(const Reference& inputs,
                                                        const TokenLayout& layout) const {
  Reference in = inputs;
  if (rotary_) {
    rotate(in.q, geometry_.heads, geometry_.head_dim, theta_, layout.positions, 1);
    rotate(in.k, geometry_.kv_heads, geometry_.head_dim, theta_, layout.positions, 1);
  }
  const size_t tokens = layout.offsets[layout.offsets.size - 1];
  std::vector<double> out(tokens * geometry_.heads * geometry_.value_dim);
  for_each_row(geometry_, scale_, in, layout, [&](const Row& row) {
    for (size_t i = 0; i < row.keys(); ++i)
      add_scaled(row.weight(i), in.v.data() + row.value(i), geometry_.value_dim,
                 out.data() + row.out_at());
  });
  return out;
}

AttentionMechanism::Reference SoftmaxAttention::reference_backward(
    const Reference& inputs, const TokenLayout& layout, std::span<const double> dout) const {
  const AttentionGeometry& g = geometry_;
  Reference in = inputs;
  if (rotary_) {
    rotate(in.q, g.heads, g.head_dim, theta_, layout.positions, 1);
    rotate(in.k, g.kv_heads, g.head_dim, theta_, layout.positions, 1);
  }
  Reference grad;
  grad.x.resize(in.x.size());
  grad.q.resize(in.q.size());
  grad.k.resize(in.k.size());
  grad.v.resize(in.v.size());
  for_each_row(g, scale_, in, layout, [&](const Row& row) {
    const double* dy = dout.data() + row.out_at();
    std::vector<double> dweight(row.keys());
    double delta = 0;  // sum of dout * out
    for (size_t i = 0; i < row.keys(); ++i) {
      dweight[i] = dot(dy, in.v.data() + row.value(i), g.value_dim);
      delta += row.weight(i) * dweight[i];
    }
    for (size_t i = 0; i < row.keys(); ++i) {
      const double dscore = scale_ * row.weight(i) * (dweight[i] - delta);
      add_scaled(row.weight(i), dy, g.value_dim, grad.v.data() + row.value(i));
      add_scaled(dscore, row.query(), g.head_dim, grad.k.data() + row.key(i));
      add_scaled(dscore, in.k.data() + row.key(i), g.head_dim, grad.q.data() + row.query_at());
    }
  });
  if (rotary_) {
    rotate(grad.q, g.heads, g.head_dim, theta_, layout.positions, -1);
    rotate(grad.k, g.kv_heads, g.head_dim, theta_, layout.positions, -1);
  }
  return grad;
}

}  // namespace cairn
