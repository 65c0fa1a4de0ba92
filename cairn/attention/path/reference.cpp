#include "cairn/attention/path/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cairn/attention/checks.h"
#include "cairn/attention/reference_math.h"

namespace cairn {
namespace {

// One query head on one sequence: tokens first .. first + n - 1.
class Head {
 public:
  Head(const PathReference& in, size_t first, size_t n, size_t head)
      : in_(in), first_(first), n_(n), head_(head), kv_(head / (in.heads / in.kv_heads)) {
    make_weights();
  }

  size_t q(size_t i) const { return ((first_ + i) * in_.heads + head_) * in_.dim; }
  size_t k(size_t j) const { return ((first_ + j) * in_.kv_heads + kv_) * in_.dim; }
  size_t v(size_t j) const { return ((first_ + j) * in_.kv_heads + kv_) * in_.value_dim; }
  size_t out(size_t i) const { return ((first_ + i) * in_.heads + head_) * in_.value_dim; }
  size_t gate(size_t i) const { return (first_ + i) * in_.heads + head_; }
  // Map m of token j.
  size_t beta(size_t j, size_t m) const {
    return ((first_ + j) * in_.products + m) * in_.kv_heads + kv_;
  }
  size_t w(size_t j, size_t m) const { return beta(j, m) * in_.dim; }

  double weight(size_t i, size_t j) const { return weights_[i * n_ + j]; }
  double lse(size_t i) const { return lse_[i]; }
  // U_i before key j is read, for j = 0 .. i: [i + 1, dim]. After each map of token j it goes on.
  std::vector<double> states(size_t i) const {
    std::vector<double> result((i + 1) * in_.dim);
    std::vector<double> u(in_.q.data() + q(i), in_.q.data() + q(i) + in_.dim);
    for (size_t j = i + 1; j-- > 0;) {
      std::copy(u.begin(), u.end(), result.begin() + static_cast<ptrdiff_t>(j * in_.dim));
      for (size_t m = in_.products; m-- > 0;) apply(j, m, u.data());  // the last acts first
    }
    return result;
  }
  // u -= beta (u w) w for map m of token j.
  void apply(size_t j, size_t m, double* u) const {
    const double* direction = in_.w.data() + w(j, m);
    add_scaled(-in_.beta[beta(j, m)] * dot(u, direction, in_.dim), direction, in_.dim, u);
  }

 private:
  void make_weights() {
    weights_.assign(n_ * n_, 0);
    lse_.resize(n_);
    for (size_t i = 0; i < n_; ++i) {
      const std::vector<double> u = states(i);
      double largest = -std::numeric_limits<double>::infinity(), sum = 0, gate_sum = 0;
      for (size_t j = i + 1; j-- > 0;) {
        weights_[i * n_ + j] = in_.scale * dot(&u[j * in_.dim], in_.k.data() + k(j), in_.dim) +
                               in_.gate_scale * gate_sum;
        largest = std::max(largest, weights_[i * n_ + j]);
        if (!in_.log_gate.empty()) gate_sum += in_.log_gate[gate(j)];
      }
      for (size_t j = 0; j <= i; ++j)
        sum += weights_[i * n_ + j] = std::exp(weights_[i * n_ + j] - largest);
      for (size_t j = 0; j <= i; ++j) weights_[i * n_ + j] /= sum;
      lse_[i] = largest + std::log(sum);
    }
  }

  const PathReference& in_;
  size_t first_, n_, head_, kv_;
  std::vector<double> weights_, lse_;
};

template <class Visit>
void for_each_head(const PathReference& in, Visit visit) {
  for (size_t s = 0; s + 1 < in.offsets.size(); ++s)
    for (size_t head = 0; head < in.heads; ++head) {
      const size_t n = in.offsets[s + 1] - in.offsets[s];
      visit(Head(in, in.offsets[s], n, head), n);
    }
}

// dL/dlogit of query i for all keys; adds to dv.
std::vector<double> logit_gradients(const PathReference& in, const Head& head, size_t i,
                                    const double* dout, std::vector<double>& dv) {
  std::vector<double> gradient(i + 1);
  double delta = 0;  // sum of dout * out
  for (size_t j = 0; j <= i; ++j) {
    gradient[j] = dot(dout, in.v.data() + head.v(j), in.value_dim);
    delta += head.weight(i, j) * gradient[j];
  }
  for (size_t j = 0; j <= i; ++j) {
    gradient[j] = head.weight(i, j) * (gradient[j] - delta);
    add_scaled(head.weight(i, j), dout, in.value_dim, dv.data() + head.v(j));
  }
  return gradient;
}

// Walks the keys of query i upwards with the adjoint of its state.
void walk_back(const PathReference& in, const Head& head, size_t i,
               const std::vector<double>& dlogit, PathReference& grad) {
  const size_t dim = in.dim;
  const std::vector<double> states = head.states(i);
  std::vector<double> adjoint(dim, 0.0);
  for (size_t j = 0; j <= i; ++j) {
    std::vector<std::vector<double>>
        before;  // the state before each map of token j, last map first
    before.emplace_back(&states[j * dim], &states[j * dim] + dim);
    for (size_t m = in.products; m-- > 1;) {
      before.push_back(before.back());
      head.apply(j, m, before.back().data());
    }
    for (size_t m = 0; m < in.products; ++m) {
      const std::vector<double>& u = before[in.products - 1 - m];
      const double* w = in.w.data() + head.w(j, m);
      const double strength = in.beta[head.beta(j, m)];
      const double a = dot(u.data(), w, dim), b = dot(adjoint.data(), w, dim);
      grad.beta[head.beta(j, m)] -= a * b;
      add_scaled(-strength * a, adjoint.data(), dim, grad.w.data() + head.w(j, m));
      add_scaled(-strength * b, u.data(), dim, grad.w.data() + head.w(j, m));
      add_scaled(-strength * b, w, dim, adjoint.data());
    }
    const double dscore = in.scale * dlogit[j];
    add_scaled(dscore, in.k.data() + head.k(j), dim, adjoint.data());
    add_scaled(dscore, &states[j * dim], dim, grad.k.data() + head.k(j));
  }
  add_scaled(1, adjoint.data(), dim, grad.q.data() + head.q(i));
}

}  // namespace

std::vector<double> path_reference_forward(const PathReference& in, std::vector<double>* lse) {
  std::vector<double> out(in.tokens * in.heads * in.value_dim);
  if (lse != nullptr) lse->assign(in.tokens * in.heads, 0);
  for_each_head(in, [&](const Head& head, size_t n) {
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j <= i; ++j)
        add_scaled(head.weight(i, j), in.v.data() + head.v(j), in.value_dim,
                   out.data() + head.out(i));
      if (lse != nullptr) (*lse)[head.gate(i)] = head.lse(i);
    }
  });
  return out;
}

AttentionWeights path_reference_weights(const PathReference& in, const TokenLayout& layout) {
  AttentionWeights result = no_weights(in.heads, layout);
  const std::vector<double> empty(result.weights.size());
  AttentionWeights::Extra length{"length", "of the query when it reaches the key, of its own", 0,
                                 empty};
  AttentionWeights::Extra direction{
      "direction", "cosine between the query as it reaches the key and as it was", -1, empty};
  AttentionWeights::Extra gate{"gate", "what the gates after the key let pass", 0, empty};
  size_t number = 0;
  for_each_head(in, [&](const Head& head, size_t n) {
    for (size_t i = 0; i < n; ++i) {
      const std::vector<double> states = head.states(i);
      const double* own = &states[i * in.dim];
      const double square = dot(own, own, in.dim);
      double gates = 0;
      for (size_t j = i + 1; j-- > 0;) {
        const size_t at = result.at(number, i, j);
        const double* carried = &states[j * in.dim];
        const double left = dot(carried, carried, in.dim);
        result.weights[at] = head.weight(i, j);
        length.values[at] = square > 0 ? std::sqrt(left / square) : 0;
        direction.values[at] = left > 0 ? dot(own, carried, in.dim) / std::sqrt(left * square) : 0;
        gate.values[at] = std::exp(in.gate_scale * gates);
        if (!in.log_gate.empty()) gates += in.log_gate[head.gate(j)];
      }
    }
    ++number;
  });
  result.extras = {std::move(length), std::move(direction)};
  if (!in.log_gate.empty()) result.extras.push_back(std::move(gate));
  return result;
}

PathReference path_reference_backward(const PathReference& in, const std::vector<double>& dout) {
  PathReference grad = in;
  for (auto* values : {&grad.q, &grad.k, &grad.v, &grad.w, &grad.beta, &grad.log_gate})
    std::fill(values->begin(), values->end(), 0.0);
  for_each_head(in, [&](const Head& head, size_t n) {
    for (size_t i = 0; i < n; ++i) {
      const auto dlogit = logit_gradients(in, head, i, dout.data() + head.out(i), grad.v);
      walk_back(in, head, i, dlogit, grad);
      if (in.log_gate.empty()) continue;
      double earlier = 0;  // the gate of token t scales the logits of all keys before t
      for (size_t t = 0; t <= i; ++t) {
        grad.log_gate[head.gate(t)] += in.gate_scale * earlier;
        earlier += dlogit[t];
      }
    }
  });
  return grad;
}

}  // namespace cairn
