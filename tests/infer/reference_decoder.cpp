#include "tests/infer/reference_decoder.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "cairn/model/decoder_layout.h"

namespace cairn {
namespace {

using Row = std::vector<double>;
using Rows = std::vector<Row>;

Row values_of(const Model& model, const std::string& name) {
  if (name.empty()) return {};
  const View1<const float> values = model.values(model.find(name));
  return {values.begin(), values.end()};
}

class Reader {
 public:
  Reader(const Model& model, const ActivationRounding& rounding)
      : model_(model), c_(model.config()), rounding_(rounding), attention_(c_) {}

  // Leaves what the last norm gives of the source.
  void encode(std::span<const int32_t> source) {
    embed(source);
    for (size_t i = 0; i < c_.encoder_layers; ++i)
      read_layer(layer_names(c_, i, Stack::encoder), attention_.encoder());
    const Row gain = values_of(model_, outer_names(c_).encoder_norm);
    for (const Row& row : x_) encoded_.push_back(norm(row, gain));
    x_.clear();
  }

  Row read(std::span<const int32_t> tokens) {
    const OuterNames names = outer_names(c_);
    embed(tokens);
    for (size_t i = 0; i < c_.layers; ++i) read_layer(layer_names(c_, i), attention_[i]);
    Row logits;
    const Row gain = values_of(model_, names.final_norm);
    for (const Row& row : x_) {
      const Row one =
          multiply(c_.tie_embeddings ? names.embedding : names.head, "", norm(row, gain));
      for (const double v : one) logits.push_back(v / c_.logits_divisor);
    }
    return logits;
  }

 private:
  void embed(std::span<const int32_t> tokens) {
    const Row embedding = values_of(model_, outer_names(c_).embedding);
    const size_t n = c_.hidden_size;
    for (const int32_t token : tokens) {
      const auto row = embedding.begin() + static_cast<int64_t>(n) * token;
      x_.emplace_back(row, row + static_cast<int64_t>(n));
      for (double& v : x_.back()) v *= c_.embedding_multiplier;
    }
  }

  Row norm(const Row& x, const Row& weight) const {
    double squares = 0;
    for (const double v : x) squares += v * v;
    const double r = 1 / std::sqrt(squares / static_cast<double>(x.size()) + c_.rms_norm_eps);
    Row y(x.size());
    for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] * r * (c_.norm_offset + weight[i]);
    return y;
  }

  Row multiply(const std::string& weight, const std::string& bias, Row x) const {
    if (rounding_) rounding_(x);
    Row y = values_of(model_, bias);
    const Row w = values_of(model_, weight);
    y.resize(w.size() / x.size());
    add_product(w, 0, x, y);
    return y;
  }

  // y += W x, W's rows from `first` on.
  static void add_product(const Row& w, size_t first, const Row& x, Row& y) {
    for (size_t r = 0; r < y.size(); ++r)
      for (size_t k = 0; k < x.size(); ++k) y[r] += w[(first + r) * x.size() + k] * x[k];
  }

  void add_branch(const Row& branch, const std::string& post_norm, Row& x) const {
    const Row y = post_norm.empty() ? branch : norm(branch, values_of(model_, post_norm));
    for (size_t i = 0; i < x.size(); ++i) x[i] += c_.residual_multiplier * y[i];
  }

  static void append(const Row& row, std::vector<double>& to) {
    to.insert(to.end(), row.begin(), row.end());
  }

  static std::vector<int32_t> whole(const Rows& rows) {
    return {0, static_cast<int32_t>(rows.size())};
  }

  void read_layer(const LayerNames& names, const AttentionMechanism& attention) {
    AttentionMechanism::Reference inputs;
    const Row gain = values_of(model_, names.attention_norm);
    for (const Row& x : x_) {
      const Row h = norm(x, gain);
      append(h, inputs.x);
      append(multiply(names.q, names.q_bias, h), inputs.q);
      append(multiply(names.k, names.k_bias, h), inputs.k);
      append(multiply(names.v, names.v_bias, h), inputs.v);
    }
    for (const ParameterSpec& spec : attention.parameters())
      inputs.parameters.push_back(values_of(model_, names.attention + spec.name));
    attend(attention, inputs, {}, names.o, names.o_bias, names.attention_post_norm);
    if (!names.cross_q.empty()) read_source(names);
    for (Row& x : x_) transform(names, x);
  }

  void read_source(const LayerNames& names) {
    AttentionMechanism::Reference inputs;
    const Row gain = values_of(model_, names.cross_norm);
    for (const Row& x : x_) append(multiply(names.cross_q, "", norm(x, gain)), inputs.q);
    for (const Row& row : encoded_) {
      append(multiply(names.cross_k, "", row), inputs.k);
      append(multiply(names.cross_v, "", row), inputs.v);
    }
    attend(attention_.cross(), inputs, whole(encoded_), names.cross_o, "", "");
  }

  void attend(const AttentionMechanism& attention, const AttentionMechanism::Reference& inputs,
              const std::vector<int32_t>& key_offsets, const std::string& o,
              const std::string& o_bias, const std::string& post_norm) {
    std::vector<int32_t> positions(x_.size());
    for (size_t t = 0; t < positions.size(); ++t) positions[t] = static_cast<int32_t>(t);
    const std::vector<int32_t> offsets = whole(x_);
    const std::vector<double> out =
        attention.reference_forward(inputs, {{offsets.data(), offsets.size()},
                                             {positions.data(), positions.size()},
                                             {key_offsets.data(), key_offsets.size()}});
    const auto width = static_cast<int64_t>(out.size() / x_.size());
    for (size_t t = 0; t < x_.size(); ++t) {
      const auto row = out.begin() + static_cast<int64_t>(t) * width;
      add_branch(multiply(o, o_bias, Row(row, row + width)), post_norm, x_[t]);
    }
  }

  void transform(const LayerNames& names, Row& x) const {
    const Row h = norm(x, values_of(model_, names.mlp_norm));
    if (c_.experts > 0) return add_branch(mix(names, h), "", x);
    const Row up = multiply(names.up, names.up_bias, h);
    Row gate = names.gate.empty() ? up : multiply(names.gate, names.gate_bias, h);
    pass_gate(names.gate.empty() ? Row(up.size(), 1) : up, gate);
    add_branch(multiply(names.down, names.down_bias, gate), names.mlp_post_norm, x);
  }

  void pass_gate(const Row& up, Row& gate) const {
    for (size_t i = 0; i < gate.size(); ++i) {
      const double g = gate[i];
      double a = std::max(g, 0.0);
      if (c_.gate == Gate::silu) a = g / (1 + std::exp(-g));
      if (c_.gate == Gate::gelu_tanh)
        a = g / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g)));
      gate[i] = a * up[i];
    }
  }

  // Expert `index` of a stack of `width` wide ones, times weight.
  void add_expert(const Row& gate_up, const Row& down, size_t index, size_t width, Row h,
                  double weight, Row& sum) const {
    if (rounding_) rounding_(h);
    Row gate(width), up(width), out(sum.size());
    add_product(gate_up, 2 * index * width, h, gate);
    add_product(gate_up, (2 * index + 1) * width, h, up);
    pass_gate(up, gate);
    if (rounding_) rounding_(gate);
    add_product(down, index * sum.size(), gate, out);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += weight * out[i];
  }

  // Routers are never rounded.
  Row mix(const LayerNames& names, const Row& h) const {
    Row logits(c_.experts), sum(h.size());
    add_product(values_of(model_, names.router), 0, h, logits);
    std::vector<size_t> order(c_.experts);
    for (size_t e = 0; e < order.size(); ++e) order[e] = e;
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return logits[a] > logits[b]; });
    order.resize(c_.experts_per_token);
    double total = 0;
    for (const size_t e : order) total += std::exp(logits[e] - logits[order[0]]);
    const Row gate_up = values_of(model_, names.experts_gate_up);
    const Row down = values_of(model_, names.experts_down);
    for (const size_t e : order)
      add_expert(gate_up, down, e, c_.intermediate_size, h,
                 std::exp(logits[e] - logits[order[0]]) / total, sum);
    if (c_.shared_intermediate_size > 0)
      add_expert(values_of(model_, names.shared_gate_up), values_of(model_, names.shared_down), 0,
                 c_.shared_intermediate_size, h, 1, sum);
    return sum;
  }

  const Model& model_;
  const ModelConfig& c_;
  const ActivationRounding& rounding_;
  LayerAttention attention_;
  Rows x_, encoded_;
};

}  // namespace

void round_to_int8(std::vector<double>& row) {
  for (size_t begin = 0; begin < row.size(); begin += 32) {
    const size_t end = std::min(begin + 32, row.size());
    float largest = 0;
    for (size_t i = begin; i < end; ++i)
      largest = std::max(largest, std::abs(static_cast<float>(row[i])));
    if (largest < 1e-30F) largest = 0;
    const float scale = largest / 127;
    for (size_t i = begin; i < end; ++i)
      row[i] = scale == 0 ? 0 : scale * std::nearbyint(static_cast<float>(row[i]) / scale);
  }
}

void round_to_bf16(std::vector<double>& row) {
  for (double& v : row) v = bf16::from_float(static_cast<float>(v)).to_float();
}

std::vector<double> reference_logits(const Model& model, std::span<const int32_t> tokens,
                                     const ActivationRounding& rounding,
                                     std::span<const int32_t> source) {
  Reader reader(model, rounding);
  if (!source.empty()) reader.encode(source);
  return reader.read(tokens);
}

}  // namespace cairn
