// The definition of softmax attention and of its gradient, in float64 and the obvious order.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cairn/attention/checks.h"
#include "cairn/attention/reference_math.h"
#include "cairn/attention/softmax/core.h"
#include "cairn/base/error.h"

namespace cairn {
namespace {

using Reference = AttentionMechanism::Reference;

// rows [tokens, heads, dim], whose first table.dim() elements are turned in place by the angles of
// their positions and grown; direction -1 gives the transpose.
void rotate(std::vector<double>& rows, size_t heads, size_t dim, const RotaryTable& table,
            View1<const int32_t> positions, double direction) {
  const size_t half = table.dim() / 2;
  for (size_t token = 0; token < positions.size; ++token) {
    for (size_t head = 0; head < heads; ++head) {
      double* row = rows.data() + (token * heads + head) * dim;
      for (size_t i = 0; i < half; ++i) {
        const double angle = direction * positions[token] * table.frequencies()[i];
        const double x = row[i], y = row[i + half];
        row[i] = table.growth() * (x * std::cos(angle) - y * std::sin(angle));
        row[i + half] = table.growth() * (y * std::cos(angle) + x * std::sin(angle));
      }
    }
  }
}

// Queries and keys of `in`.
void rotate(Reference& in, const SoftmaxCore& core, const TokenLayout& layout, double direction) {
  if (core.rotary == nullptr) return;
  const AttentionGeometry& g = core.geometry;
  rotate(in.q, g.heads, g.head_dim, *core.rotary, layout.positions, direction);
  rotate(in.k, g.kv_heads, g.head_dim, *core.rotary, layout.positions, direction);
}

// One query head of one token against the keys of its sequence.
class Row {
 public:
  // `rotated` and `potential` (null or [tokens], of the head) are borrowed; the sequence begins at
  // token `begin`.
  Row(const SoftmaxCore& core, const Reference& rotated, const double* potential, size_t begin,
      size_t token, size_t head)
      : g_(core.geometry), in_(rotated), token_(token), head_(head) {
    const size_t seen = token + 1 - begin;
    weights_.resize(core.window == 0 ? seen : std::min(seen, core.window));
    first_ = token + 1 - weights_.size();
    double largest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (size_t i = 0; i < weights_.size(); ++i) {
      weights_[i] =
          static_cast<double>(g_.scale) * dot(query(), in_.k.data() + key(i), g_.head_dim);
      if (potential != nullptr) weights_[i] += potential[token] - potential[first_ + i];
      largest = std::max(largest, weights_[i]);
    }
    for (double& weight : weights_) sum += weight = std::exp(weight - largest);
    for (double& weight : weights_) weight /= sum;
  }

  size_t keys() const { return weights_.size(); }
  double weight(size_t i) const { return weights_[i]; }
  size_t token_of(size_t i) const { return first_ + i; }
  size_t token() const { return token_; }
  size_t head() const { return head_; }
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
  const Reference& in_;
  size_t first_ = 0, token_, head_;
  std::vector<double> weights_;
};

template <class Visit>
void for_each_row(const SoftmaxCore& core, const Reference& rotated, Potentials potentials,
                  const TokenLayout& layout, Visit visit) {
  const size_t tokens = layout.offsets[layout.offsets.size - 1];
  for (size_t s = 0; s + 1 < layout.offsets.size; ++s)
    for (int32_t token = layout.offsets[s]; token < layout.offsets[s + 1]; ++token)
      for (size_t head = 0; head < core.geometry.heads; ++head)
        visit(Row(core, rotated, potentials == nullptr ? nullptr : potentials + head * tokens,
                  layout.offsets[s], token, head));
}

}  // namespace

std::vector<double> softmax_reference_forward(const SoftmaxCore& core, const Reference& inputs,
                                              Potentials potentials, const TokenLayout& layout) {
  const AttentionGeometry& g = core.geometry;
  Reference in = inputs;
  rotate(in, core, layout, 1);
  const size_t tokens = layout.offsets[layout.offsets.size - 1];
  std::vector<double> out(tokens * g.heads * g.value_dim);
  for_each_row(core, in, potentials, layout, [&](const Row& row) {
    for (size_t i = 0; i < row.keys(); ++i)
      add_scaled(row.weight(i), in.v.data() + row.value(i), g.value_dim, out.data() + row.out_at());
  });
  return out;
}

Reference softmax_reference_backward(const SoftmaxCore& core, const Reference& inputs,
                                     Potentials potentials, const TokenLayout& layout,
                                     std::span<const double> dout, double* dpotential) {
  const AttentionGeometry& g = core.geometry;
  Reference in = inputs;
  rotate(in, core, layout, 1);
  Reference grad;
  grad.x.resize(in.x.size());
  grad.q.resize(in.q.size());
  grad.k.resize(in.k.size());
  grad.v.resize(in.v.size());
  const size_t tokens = layout.offsets[layout.offsets.size - 1];
  if (dpotential != nullptr) std::fill_n(dpotential, g.heads * tokens, 0.0);
  for_each_row(core, in, potentials, layout, [&](const Row& row) {
    const double* dy = dout.data() + row.out_at();
    std::vector<double> dweight(row.keys());
    double delta = 0;  // sum of dout * out
    for (size_t i = 0; i < row.keys(); ++i) {
      dweight[i] = dot(dy, in.v.data() + row.value(i), g.value_dim);
      delta += row.weight(i) * dweight[i];
    }
    for (size_t i = 0; i < row.keys(); ++i) {
      const double dlogit = row.weight(i) * (dweight[i] - delta);
      const double dscore = static_cast<double>(g.scale) * dlogit;
      add_scaled(row.weight(i), dy, g.value_dim, grad.v.data() + row.value(i));
      add_scaled(dscore, row.query(), g.head_dim, grad.k.data() + row.key(i));
      add_scaled(dscore, in.k.data() + row.key(i), g.head_dim, grad.q.data() + row.query_at());
      if (dpotential == nullptr) continue;
      dpotential[row.head() * tokens + row.token()] += dlogit;
      dpotential[row.head() * tokens + row.token_of(i)] -= dlogit;
    }
  });
  rotate(grad, core, layout, -1);
  return grad;
}

AttentionWeights softmax_reference_weights(const SoftmaxCore& core, const Reference& inputs,
                                           Potentials potentials, const TokenLayout& layout) {
  Reference in = inputs;
  rotate(in, core, layout, 1);
  AttentionWeights result = no_weights(core.geometry.heads, layout);
  for_each_row(core, in, potentials, layout, [&](const Row& row) {
    for (size_t i = 0; i < row.keys(); ++i)
      result.weights[result.at(row.head(), row.token(), row.token_of(i))] = row.weight(i);
  });
  return result;
}

}  // namespace cairn
