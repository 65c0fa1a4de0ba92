// The definition of the room's options around softmax_reference_*, in float64.
#include <cmath>

#include "cairn/attention/softmax/softmax.h"

namespace cairn {
namespace {

// A head's channels pass `taps` [channels, kernel]; `x` is [tokens, channels].
struct ReferenceConvolution {
  size_t kernel;
  size_t channels;
  const TokenLayout& layout;

  // Calls visit(output, input, tap) with places in arrays for every product of the sum.
  template <class Visit>
  void for_each_product(Visit visit) const {
    for (size_t s = 0; s + 1 < layout.offsets.size; ++s)
      for (int64_t t = layout.offsets[s]; t < layout.offsets[s + 1]; ++t)
        for (int64_t tau = 0; tau < static_cast<int64_t>(kernel); ++tau)
          if (t - tau >= layout.offsets[s])
            for (size_t c = 0; c < channels; ++c)
              visit(t * channels + c, (t - tau) * channels + c, (c + 1) * kernel - 1 - tau);
  }
  std::vector<double> forward(const std::vector<double>& x, const std::vector<double>& taps) const {
    std::vector<double> y(x.size());
    for_each_product([&](size_t out, size_t in, size_t tap) { y[out] += taps[tap] * x[in]; });
    return y;
  }
};

// RMSNorm of rows [n, dim] with the gain offset + weight.
struct ReferenceNorm {
  const std::vector<double>& weight;
  double eps, offset;

  double inverse_rms(const double* row) const {
    double squares = 0;
    for (size_t i = 0; i < weight.size(); ++i) squares += row[i] * row[i];
    return 1 / std::sqrt(squares / static_cast<double>(weight.size()) + eps);
  }
  std::vector<double> forward(const std::vector<double>& x) const {
    std::vector<double> y(x.size());
    for (size_t at = 0; at < x.size(); at += weight.size()) {
      const double r = inverse_rms(&x[at]);
      for (size_t i = 0; i < weight.size(); ++i) y[at + i] = (offset + weight[i]) * x[at + i] * r;
    }
    return y;
  }
  // Turns dy into dx and returns the gradient of the weight.
  std::vector<double> backward(const std::vector<double>& x, std::vector<double>& dy) const {
    std::vector<double> dweight(weight.size());
    for (size_t at = 0; at < x.size(); at += weight.size()) {
      const double r = inverse_rms(&x[at]);
      double mean = 0;
      for (size_t i = 0; i < weight.size(); ++i)
        mean += (offset + weight[i]) * dy[at + i] * x[at + i] / static_cast<double>(weight.size());
      for (size_t i = 0; i < weight.size(); ++i) {
        dweight[i] += dy[at + i] * x[at + i] * r;
        dy[at + i] = r * ((offset + weight[i]) * dy[at + i] - x[at + i] * r * r * mean);
      }
    }
    return dweight;
  }
};

}  // namespace

std::vector<double> SoftmaxAttention::reference_potentials(size_t tokens) const {
  std::vector<double> potentials(slopes_.size() * tokens);
  fill_potentials(tokens, potentials.data());
  return potentials;
}

AttentionMechanism::Reference SoftmaxAttention::reference_compared(
    const Reference& inputs, const TokenLayout& layout) const {
  Reference in = inputs;
  if (options_.qk_norm) {
    const auto norm = [&](size_t which) {
      return ReferenceNorm{inputs.parameters[which], options_.qk_norm_eps, options_.qk_norm_offset};
    };
    in.q = norm(0).forward(inputs.q);
    in.k = norm(1).forward(inputs.k);
  }
  if (options_.qk_conv == 0) return in;
  const auto convolution = [&](size_t heads) {
    return ReferenceConvolution{options_.qk_conv, heads * geometry_.head_dim, layout};
  };
  in.q = convolution(geometry_.heads).forward(inputs.q, inputs.parameters[0]);
  in.k = convolution(geometry_.kv_heads).forward(inputs.k, inputs.parameters[1]);
  return in;
}

AttentionMechanism::Reference SoftmaxAttention::reference_compared_back(const Reference& inputs,
                                                                        const TokenLayout& layout,
                                                                        Reference gradients) const {
  if (options_.qk_norm) {
    const auto norm = [&](size_t which) {
      return ReferenceNorm{inputs.parameters[which], options_.qk_norm_eps, options_.qk_norm_offset};
    };
    gradients.parameters = {norm(0).backward(inputs.q, gradients.q),
                            norm(1).backward(inputs.k, gradients.k)};
  }
  if (options_.qk_conv == 0) return gradients;
  const auto back = [&](size_t heads, const std::vector<double>& x, const std::vector<double>& taps,
                        std::vector<double>& dx) {
    const std::vector<double> dy = dx;
    std::vector<double> dtaps(taps.size());
    std::fill(dx.begin(), dx.end(), 0.0);
    const ReferenceConvolution c{options_.qk_conv, heads * geometry_.head_dim, layout};
    c.for_each_product([&](size_t out, size_t in, size_t tap) {
      dx[in] += taps[tap] * dy[out];
      dtaps[tap] += x[in] * dy[out];
    });
    return dtaps;
  };
  gradients.parameters = {back(geometry_.heads, inputs.q, inputs.parameters[0], gradients.q),
                          back(geometry_.kv_heads, inputs.k, inputs.parameters[1], gradients.k)};
  return gradients;
}

std::vector<double> SoftmaxAttention::reference_forward(const Reference& inputs,
                                                        const TokenLayout& layout) const {
  const auto potentials = reference_potentials(layout.offsets[layout.offsets.size - 1]);
  return softmax_reference_forward(core_, reference_compared(inputs, layout),
                                   core_.biased ? potentials.data() : nullptr, layout);
}

AttentionWeights SoftmaxAttention::reference_weights(const Reference& inputs,
                                                     const TokenLayout& layout) const {
  const auto potentials = reference_potentials(layout.offsets[layout.offsets.size - 1]);
  return softmax_reference_weights(core_, reference_compared(inputs, layout),
                                   core_.biased ? potentials.data() : nullptr, layout);
}

AttentionMechanism::Reference SoftmaxAttention::reference_backward(
    const Reference& inputs, const TokenLayout& layout, std::span<const double> dout) const {
  const auto potentials = reference_potentials(layout.offsets[layout.offsets.size - 1]);
  return reference_compared_back(
      inputs, layout,
      softmax_reference_backward(core_, reference_compared(inputs, layout),
                                 core_.biased ? potentials.data() : nullptr, layout, dout,
                                 nullptr));
}

}  // namespace cairn
