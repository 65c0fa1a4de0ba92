// The definition of the room, front end included, and of its gradient, in float64 and the obvious
// order, around reference.h.
#include <algorithm>
#include <cmath>

#include "cairn/attention/path/path.h"
#include "cairn/attention/path/reference.h"

namespace cairn {
namespace {

using Reference = AttentionMechanism::Reference;

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

// Rows [rows, dim] of one position, turned in place; direction -1 turns back.
void turn(double* rows, size_t count, size_t dim, double theta, int32_t position,
          double direction) {
  for (size_t row = 0; row < count; ++row, rows += dim)
    for (size_t i = 0; i < dim / 2; ++i) {
      const double angle =
          direction * position * std::pow(theta, -2.0 * static_cast<double>(i) / dim);
      const double x = rows[i], y = rows[i + dim / 2];
      rows[i] = x * std::cos(angle) - y * std::sin(angle);
      rows[i + dim / 2] = y * std::cos(angle) + x * std::sin(angle);
    }
}

// Everything between the room's inputs and the core's.
class Front {
 public:
  Front(const PathAttention& room, const Reference& in, const TokenLayout& layout)
      : n_(room.front().shape()),
        at_(room.front().places()),
        options_(room.options()),
        in_(in),
        layout_(layout),
        first_(in.q.size() / (n_.heads * n_.dim)) {
    for (size_t s = 0; s + 1 < layout.offsets.size; ++s)
      for (int32_t t = layout.offsets[s]; t < layout.offsets[s + 1]; ++t)
        first_[t] = layout.offsets[s];
    core.tokens = first_.size();
    core.heads = n_.heads;
    core.kv_heads = n_.kv_heads;
    core.dim = n_.dim;
    core.value_dim = room.geometry().value_dim;
    core.products = n_.products;
    core.scale = room.scale();
    core.gate_scale = options_.gate_scale;
    core.v = in.v;
    core.offsets.assign(layout.offsets.begin(), layout.offsets.end());
    make_maps();
    make_strengths();
    core.q = changed(in.q, at_.q_norm, n_.heads);
    core.k = changed(in.k, at_.k_norm, n_.kv_heads);
  }

  // From the core's gradients to the room's.
  Reference back(const PathReference& d) {
    grad_.x.assign(in_.x.size(), 0);
    grad_.v = d.v;
    for (const auto& parameter : in_.parameters)
      grad_.parameters.emplace_back(parameter.size(), 0.0);
    grad_.q = changed_back(in_.q, d.q, at_.q_norm, n_.heads);
    grad_.k = changed_back(in_.k, d.k, at_.k_norm, n_.kv_heads);
    strengths_back(d);
    maps_back(d.w);
    return grad_;
  }

  PathReference core;

 private:
  const std::vector<double>& parameter(int place) const { return in_.parameters[place]; }

  // rows [T, from] times the transpose of a matrix [to, from], plus a bias.
  std::vector<double> project(const std::vector<double>& rows, size_t from, int place,
                              int bias = -1) const {
    const std::vector<double>& matrix = parameter(place);
    const size_t to = matrix.size() / from, count = rows.size() / from;
    std::vector<double> result(count * to);
    for (size_t t = 0; t < count; ++t)
      for (size_t i = 0; i < to; ++i) {
        double sum = bias < 0 ? 0 : parameter(bias)[i];
        for (size_t j = 0; j < from; ++j) sum += matrix[i * from + j] * rows[t * from + j];
        result[t * to + i] = sum;
      }
    return result;
  }
  // Its gradient: adds to those of rows and parameters.
  void project_back(const std::vector<double>& d, const std::vector<double>& rows, size_t from,
                    int place, int bias, std::vector<double>& drows) {
    const std::vector<double>& matrix = parameter(place);
    const size_t to = matrix.size() / from;
    for (size_t t = 0; t < rows.size() / from; ++t)
      for (size_t i = 0; i < to; ++i) {
        const double value = d[t * to + i];
        if (bias >= 0) grad_.parameters[bias][i] += value;
        for (size_t j = 0; j < from; ++j) {
          grad_.parameters[place][i * from + j] += value * rows[t * from + j];
          drows[t * from + j] += value * matrix[i * from + j];
        }
      }
  }

  double tap(size_t c, size_t back) const {
    return n_.kernel == 0 ? 1 : parameter(at_.taps)[c * n_.kernel + n_.kernel - 1 - back];
  }
  // Calls visit(t, c, back) for all that the convolution multiplies.
  template <class Visit>
  void for_each_tap(Visit visit) const {
    for (size_t t = 0; t < core.tokens; ++t)
      for (size_t back = 0; back < std::max<size_t>(n_.kernel, 1); ++back)
        for (size_t c = 0; t >= first_[t] + back && c < n_.channels; ++c) visit(t, c, back);
  }

  void make_maps() {
    low_ = project(in_.x, n_.hidden, at_.low);
    y_ = at_.high >= 0 ? project(low_, n_.rank, at_.high) : low_;
    convolved_.assign(y_.size(), 0);
    for_each_tap([&](size_t t, size_t c, size_t back) {
      convolved_[t * n_.channels + c] += tap(c, back) * y_[(t - back) * n_.channels + c];
    });
    core.w.resize(y_.size());
    length_.resize(y_.size() / n_.dim);
    for (size_t row = 0; row < length_.size(); ++row) {
      double square = kPathEpsilon;
      for (size_t i = row * n_.dim; i < (row + 1) * n_.dim; ++i) {
        core.w[i] = convolved_[i] * sigmoid(convolved_[i]);
        square += core.w[i] * core.w[i];
      }
      length_[row] = std::sqrt(square);
      for (size_t i = row * n_.dim; i < (row + 1) * n_.dim; ++i) core.w[i] /= length_[row];
    }
    turn_all(core.w, n_.products * n_.kv_heads, 1);
  }

  void maps_back(std::vector<double> dw) {
    turn_all(dw, n_.products * n_.kv_heads, -1);
    std::vector<double> w = core.w, dy(y_.size(), 0), dlow(low_.size(), 0);
    turn_all(w, n_.products * n_.kv_heads, -1);
    for (size_t row = 0; row < length_.size(); ++row) {
      double along = 0;
      for (size_t i = row * n_.dim; i < (row + 1) * n_.dim; ++i) along += dw[i] * w[i];
      for (size_t i = row * n_.dim; i < (row + 1) * n_.dim; ++i) {
        const double s = sigmoid(convolved_[i]);
        dw[i] = (dw[i] - w[i] * along) / length_[row] * s * (1 + convolved_[i] * (1 - s));
      }
    }
    for_each_tap([&](size_t t, size_t c, size_t back) {
      const size_t from = (t - back) * n_.channels + c;
      dy[from] += tap(c, back) * dw[t * n_.channels + c];
      if (n_.kernel != 0)
        grad_.parameters[at_.taps][c * n_.kernel + n_.kernel - 1 - back] +=
            y_[from] * dw[t * n_.channels + c];
    });
    if (at_.high >= 0) {
      project_back(dy, low_, n_.rank, at_.high, -1, dlow);
      project_back(dlow, in_.x, n_.hidden, at_.low, -1, grad_.x);
    } else {
      project_back(dy, in_.x, n_.hidden, at_.low, -1, grad_.x);
    }
  }

  double alpha(size_t i) const {
    return at_.alpha < 0 ? 1 : std::clamp(parameter(at_.alpha)[i % n_.kv_heads], 0.0, 1.0);
  }

  void make_strengths() {
    core.beta = beta_logit_ = project(in_.x, n_.hidden, at_.beta, at_.beta_bias);
    for (size_t i = 0; i < core.beta.size(); ++i)
      core.beta[i] = options_.beta_max * alpha(i) * sigmoid(beta_logit_[i]);
    if (!options_.gate) return;
    core.log_gate = gate_logit_ = project(in_.x, n_.hidden, at_.gate, at_.gate_bias);
    for (double& value : core.log_gate) value = -std::log1p(std::exp(-value));
  }

  void strengths_back(const PathReference& d) {
    std::vector<double> dlogit = d.beta;
    for (size_t i = 0; i < dlogit.size(); ++i) {
      const double s = sigmoid(beta_logit_[i]);
      if (at_.alpha >= 0)
        grad_.parameters[at_.alpha][i % n_.kv_heads] += d.beta[i] * options_.beta_max * s;
      dlogit[i] *= options_.beta_max * alpha(i) * s * (1 - s);
    }
    project_back(dlogit, in_.x, n_.hidden, at_.beta, at_.beta_bias, grad_.x);
    if (!options_.gate) return;
    dlogit = d.log_gate;
    for (size_t i = 0; i < dlogit.size(); ++i) dlogit[i] *= sigmoid(-gate_logit_[i]);
    project_back(dlogit, in_.x, n_.hidden, at_.gate, at_.gate_bias, grad_.x);
  }

  void turn_all(std::vector<double>& rows, size_t per_token, double direction) const {
    if (!options_.rope_on_w) return;
    for (size_t t = 0; t < core.tokens; ++t)
      turn(rows.data() + t * per_token * n_.dim, per_token, n_.dim, options_.rope_theta,
           layout_.positions[t], direction);
  }

  double inverse_rms(const double* row) const {
    double square = 0;
    for (size_t i = 0; i < n_.dim; ++i) square += row[i] * row[i];
    return 1 / std::sqrt(square / static_cast<double>(n_.dim) + kPathEpsilon);
  }

  std::vector<double> changed(std::vector<double> rows, int norm, size_t heads) const {
    for (size_t row = 0; norm >= 0 && row < rows.size() / n_.dim; ++row) {
      double* x = rows.data() + row * n_.dim;
      const double r = inverse_rms(x);
      for (size_t i = 0; i < n_.dim; ++i) x[i] *= r * parameter(norm)[i];
    }
    turn_all(rows, heads, 1);
    return rows;
  }

  std::vector<double> changed_back(const std::vector<double>& rows, std::vector<double> d, int norm,
                                   size_t heads) {
    turn_all(d, heads, -1);
    for (size_t row = 0; norm >= 0 && row < rows.size() / n_.dim; ++row) {
      const double* x = rows.data() + row * n_.dim;
      double* dx = d.data() + row * n_.dim;
      const double r = inverse_rms(x);
      double along = 0;
      for (size_t i = 0; i < n_.dim; ++i) {
        grad_.parameters[norm][i] += dx[i] * x[i] * r;
        dx[i] *= parameter(norm)[i];
        along += dx[i] * x[i] / static_cast<double>(n_.dim);
      }
      for (size_t i = 0; i < n_.dim; ++i) dx[i] = r * (dx[i] - x[i] * r * r * along);
    }
    return d;
  }

  const FrontShape& n_;
  const FrontParameters& at_;
  const PathOptions& options_;
  const Reference& in_;
  const TokenLayout& layout_;
  std::vector<size_t> first_;  // of the sequence of each token
  std::vector<double> low_, y_, convolved_, length_, beta_logit_, gate_logit_;
  Reference grad_;
};

}  // namespace

std::vector<double> PathAttention::reference_forward(const Reference& inputs,
                                                     const TokenLayout& layout) const {
  return path_reference_forward(Front(*this, inputs, layout).core);
}

AttentionWeights PathAttention::reference_weights(const Reference& inputs,
                                                  const TokenLayout& layout) const {
  return path_reference_weights(Front(*this, inputs, layout).core, layout);
}

Reference PathAttention::reference_backward(const Reference& inputs, const TokenLayout& layout,
                                            std::span<const double> dout) const {
  Front front(*this, inputs, layout);
  return front.back(path_reference_backward(front.core, {dout.begin(), dout.end()}));
}

}  // namespace cairn
