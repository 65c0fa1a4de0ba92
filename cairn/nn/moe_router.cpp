#include "cairn/nn/moe_router.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "cairn/kernels/elementwise.h"
#include "cairn/kernels/routing.h"

namespace cairn {

double RouterCounts::share(size_t expert) const {
  size_t sum = 0;
  for (size_t layer = 0; layer < layers; ++layer) sum += chosen[layer * experts + expert];
  return static_cast<double>(sum) / static_cast<double>(layers * tokens);
}

namespace moe {
namespace {

constexpr size_t kUnitColumns = 64;  // of the router's gradient that one unit owns

}  // namespace

Router::Router(const MoeOptions& options, const TokenInputs& inputs,
               std::shared_ptr<RouterCounts> counts, size_t layer, const WeightRef& weight,
               Recorder& recorder)
    : options_(options),
      inputs_(inputs),
      counts_(std::move(counts)),
      layer_(layer),
      hidden_(weight.values.cols),
      weight_(weight),
      product_(&recorder.products.get({.n = options.experts, .k = hidden_, .transpose_b = true},
                                      kTokenGrain)) {
  Tape& tape = recorder.tape;
  const auto threads = static_cast<size_t>(tape.threads());
  routes_ =
      tape.scratch(TokenRoutes::bytes(tape.tokens(), options.experts, options.experts_per_token),
                   Lifetime::saved);
  wide_x_ = tape.scratch(threads * kTokenGrain * hidden_ * sizeof(float), Lifetime::forward);
  weight_gradients_ =
      tape.scratch(tape.tokens() * options.experts_per_token * sizeof(float), Lifetime::backward);
  dlogits_ = tape.scratch(tape.tokens() * options.experts * sizeof(float), Lifetime::backward);
}

TokenRoutes Router::routes(const Tape& tape) const {
  return {tape.memory(routes_), tape.tokens(), options_.experts, options_.experts_per_token};
}

void Router::choose(const Tape& tape, const TokenRoutes& routes, AnyView2 x, size_t begin,
                    int thread) const {
  if (x.dtype == DType::bf16) {
    const AnyView2 wide = slice(rows_of(tape.memory(wide_x_), DType::f32, hidden_),
                                static_cast<size_t>(thread) * kTokenGrain, x.rows);
    convert(x.as<const bf16>(), wide.as<float>());
    x = wide;
  }
  float* logits = routes.logits + begin * options_.experts;
  product_->run(x.rows, x.data, weight_.values.data, logits, thread);
  for (size_t t = 0; t < x.rows; ++t)
    choose_experts({logits + t * options_.experts, options_.experts}, options_.experts_per_token,
                   routes.chosen + routes.slot(begin + t, 0),
                   routes.weight + routes.slot(begin + t, 0));
}

void Router::lay_out(const TokenRoutes& routes, size_t tokens) const {
  counts_->tokens = tokens;
  routes.lay_out(tokens, counts_->chosen.data() + layer_ * options_.experts);
}

float* Router::weight_gradients(const Tape& tape) const {
  return reinterpret_cast<float*>(tape.memory(weight_gradients_).data());
}

// The cross-entropy is summed over targets here, so a loss beside its mean counts once a target.
double Router::balance_factor() const {
  if (options_.router_loss == 0) return 0;
  size_t targets = 0;
  for (const int32_t target : inputs_.targets) targets += target >= 0 ? 1 : 0;
  return options_.router_loss * static_cast<double>(targets * options_.experts) /
         static_cast<double>(counts_->tokens * counts_->layers);
}

void Router::backward(const Tape& tape, const TokenRoutes& routes, double balance, size_t token,
                      View2<float> dx) const {
  const size_t experts = options_.experts;
  const float* dweight = weight_gradients(tape);
  float* dlogits = reinterpret_cast<float*>(tape.memory(dlogits_).data()) + token * experts;
  std::fill_n(dlogits, experts, 0.0F);
  float mean = 0;
  for (size_t i = 0; i < options_.experts_per_token; ++i)
    mean += routes.weight[routes.slot(token, i)] * dweight[routes.slot(token, i)];
  for (size_t i = 0; i < options_.experts_per_token; ++i)
    dlogits[routes.chosen[routes.slot(token, i)]] =
        routes.weight[routes.slot(token, i)] * (dweight[routes.slot(token, i)] - mean);
  if (balance != 0) add_balance(routes.logits + token * experts, balance, dlogits);
  for (size_t e = 0; e < experts; ++e) {
    if (dlogits[e] == 0) continue;
    const View1<const float> weight = weight_.values[e];
    for (size_t i = 0; i < hidden_; ++i) dx[token][i] += dlogits[e] * weight[i];
  }
}

// The gradient of balance * sum_e f_e softmax_e(logits).
void Router::add_balance(const float* logits, double balance, float* dlogits) const {
  const size_t experts = options_.experts;
  const double highest = *std::max_element(logits, logits + experts);
  double sum = 0, mean = 0;
  for (size_t e = 0; e < experts; ++e) {
    const double weight = std::exp(logits[e] - highest);
    sum += weight;
    mean += weight * counts_->share(e);
  }
  for (size_t e = 0; e < experts; ++e)
    dlogits[e] += static_cast<float>(balance * std::exp(logits[e] - highest) / sum *
                                     (counts_->share(e) - mean / sum));
}

size_t Router::gradient_units() const {
  return chunk_count(hidden_, kUnitColumns);
}

void Router::gradient_unit(const Tape& tape, const AnyView2& x, size_t unit) const {
  if (x.dtype == DType::bf16)
    add_gradient(tape, x.as<const bf16>(), unit);
  else
    add_gradient(tape, x.as<const float>(), unit);
}

template <class T>
void Router::add_gradient(const Tape& tape, View2<const T> x, size_t unit) const {
  const auto* dlogits = reinterpret_cast<const float*>(tape.memory(dlogits_).data());
  const size_t begin = unit * kUnitColumns, count = std::min(kUnitColumns, hidden_ - begin);
  for (size_t t = 0; t < x.rows; ++t) {
    float row[kUnitColumns];
    for (size_t i = 0; i < count; ++i) row[i] = widened(x[t][begin + i]);
    for (size_t e = 0; e < options_.experts; ++e) {
      const float dlogit = dlogits[t * options_.experts + e];
      if (dlogit == 0) continue;
      float* gradient = weight_.gradient[e].data + begin;
      for (size_t i = 0; i < count; ++i) gradient[i] += dlogit * row[i];
    }
  }
}

}  // namespace moe
}  // namespace cairn
