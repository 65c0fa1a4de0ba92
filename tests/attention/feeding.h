// The tokens of a Case fed to a cache piece by piece.
#pragma once

#include "tests/attention/harness.h"

namespace cairn::attention_test {

inline AttentionInputs inputs_of(const Case& c, size_t begin, size_t count) {
  AttentionInputs in = c.inputs();
  in.q = tokens_of(in.q, begin, count);
  in.k = tokens_of(in.k, begin, count);
  in.v = tokens_of(in.v, begin, count);
  in.x.data = static_cast<std::byte*>(in.x.data) + begin * in.x.stride * dtype_size(in.x.dtype);
  in.x.rows = count;
  return in;
}

// The tokens [begin, end) in random pieces of 1 to `longest`.
inline void feed_pieces(Case& c, AttentionCache& cache, size_t begin, size_t end, size_t longest,
                        uint64_t seed, ThreadTeam& team) {
  const RandomStream stream(seed, "split");
  while (begin < end) {
    const size_t count = std::min(end - begin, 1 + stream.below(longest, begin));
    cache.append_and_attend(inputs_of(c, begin, count), tokens_of(c.out.view(), begin, count),
                            team);
    begin += count;
  }
}

// Gradients of the reference against central differences of it, the worst of all inputs.
inline double reference_gradient_error(const Problem& problem) {
  Case c(problem);
  const auto dout = c.dout.values();
  auto in = c.reference_inputs();
  auto grad = c.attention->reference_backward(in, c.layout(), dout);
  const auto loss = [&] {
    const auto out = c.attention->reference_forward(in, c.layout());
    return std::inner_product(out.begin(), out.end(), dout.begin(), 0.0);
  };
  const auto error_in = [&](std::vector<double>& values, const std::vector<double>& gradient) {
    return relative_error(gradient, central_differences(values, loss), 1e-3);
  };
  double worst = std::max({error_in(in.q, grad.q), error_in(in.k, grad.k), error_in(in.v, grad.v),
                           error_in(in.x, grad.x)});
  for (size_t i = 0; i < in.parameters.size(); ++i)
    worst = std::max(worst, error_in(in.parameters[i], grad.parameters[i]));
  return worst;
}

}  // namespace cairn::attention_test
