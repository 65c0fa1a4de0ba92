// The router of a mixture of experts: its choices, and its gradient with that of the load-balancing
// loss (nn/moe.h).
#pragma once

#include <memory>

#include "cairn/nn/moe.h"
#include "cairn/nn/moe_routes.h"

namespace cairn::moe {

class Router {
 public:
  // `inputs` must outlive it.
  Router(const MoeOptions& options, const TokenInputs& inputs, std::shared_ptr<RouterCounts> counts,
         size_t layer, const WeightRef& weight, Recorder& recorder);

  GradientRange block() const { return weight_.block; }
  TokenRoutes routes(const Tape& tape) const;

  // Logits in f32 and choices of the tokens from `begin` on, whose rows are `x`. Threads may take
  // disjoint tokens.
  void choose(const Tape& tape, const TokenRoutes& routes, AnyView2 x, size_t begin,
              int thread) const;
  // Then places for all, and the counts of this layer.
  void lay_out(const TokenRoutes& routes, size_t tokens) const;

  // [slots] the gradients of the choices' weights, which backward() reads.
  float* weight_gradients(const Tape& tape) const;
  // What multiplies f_e in the gradient of the load-balancing loss.
  double balance_factor() const;
  // The gradient of a token's logits, kept, and what it adds to dx.
  void backward(const Tape& tape, const TokenRoutes& routes, double balance, size_t token,
                View2<float> dx) const;

  // Each owns some columns: drouter[e] += sum over tokens of dlogits[t, e] x[t].
  size_t gradient_units() const;
  void gradient_unit(const Tape& tape, const AnyView2& x, size_t unit) const;

 private:
  void add_balance(const float* logits, double balance, float* dlogits) const;
  template <class T>
  void add_gradient(const Tape& tape, View2<const T> x, size_t unit) const;

  MoeOptions options_;
  const TokenInputs& inputs_;
  std::shared_ptr<RouterCounts> counts_;
  size_t layer_, hidden_;
  WeightRef weight_;
  const Matmul* product_;
  Scratch routes_, wide_x_, weight_gradients_, dlogits_;
};

}  // namespace cairn::moe
