// Random attention problems, run through a mechanism and through its float64 reference.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <string>

#include "cairn/attention/mechanism.h"
#include "cairn/base/memory.h"
#include "cairn/base/random.h"
#include "cairn/base/thread_team.h"
#include "tests/support/numbers.h"

namespace cairn::attention_test {

struct Problem {
  AttentionOptions options;
  size_t heads = 2, kv_heads = 1, head_dim = 16, value_dim = 16;
  float scale = 0;
  std::vector<int> lengths = {17};  // of the sequences
  std::vector<int> key_lengths;     // of their keys, in cross-attention
  DType dtype = DType::f32;
  size_t gap = 0;        // elements between rows that belong to nobody
  double amplitude = 1;  // of q and k
  double parameter_amplitude = 0.5;
  size_t context = 4096;
};

// A strided tensor [tokens, heads, dim] of f32 or bf16 with its float64 copy.
class Rows {
 public:
  Rows(size_t tokens, size_t heads, size_t dim, DType dtype, size_t gap)
      : tokens_(tokens),
        heads_(heads),
        dim_(dim),
        dtype_(dtype),
        stride_(heads * dim + gap),
        memory_((tokens * stride_ + 1) * dtype_size(dtype)) {}

  void fill(const RandomStream& stream, double amplitude) {
    for (size_t t = 0; t < tokens_; ++t)
      for (size_t i = 0; i < heads_ * dim_; ++i)
        set(t, i, amplitude * stream.normal(t * heads_ * dim_ + i));
  }
  void set(size_t token, size_t i, double value) {
    const auto single = static_cast<float>(value);
    if (dtype_ == DType::f32)
      memory_.as<float>()[token * stride_ + i] = single;
    else
      memory_.as<bf16>()[token * stride_ + i] = bf16::from_float(single);
  }
  double get(size_t token, size_t i) const {
    auto& memory = const_cast<AlignedBuffer&>(memory_);
    return dtype_ == DType::f32 ? memory.as<float>()[token * stride_ + i]
                                : memory.as<bf16>()[token * stride_ + i].to_float();
  }
  std::vector<double> values() const {
    std::vector<double> result;
    for (size_t t = 0; t < tokens_; ++t)
      for (size_t i = 0; i < heads_ * dim_; ++i) result.push_back(get(t, i));
    return result;
  }
  AnyView3 view() const {
    AnyView3 view;
    view.data = const_cast<std::byte*>(memory_.data());
    view.dtype = dtype_;
    view.tokens = tokens_;
    view.heads = heads_;
    view.dim = dim_;
    view.token_stride = stride_;
    view.head_stride = dim_;
    return view;
  }
  // Of one head.
  AnyView2 matrix() const {
    return {const_cast<std::byte*>(memory_.data()), dtype_, tokens_, heads_ * dim_, stride_};
  }
  // Every byte, those between rows too.
  std::vector<std::byte> bytes() const { return {memory_.data(), memory_.data() + memory_.size()}; }

 private:
  size_t tokens_, heads_, dim_;
  DType dtype_;
  size_t stride_;
  AlignedBuffer memory_;
};

inline AnyView3 tokens_of(AnyView3 view, size_t begin, size_t count) {
  view.data =
      static_cast<std::byte*>(view.data) + begin * view.token_stride * dtype_size(view.dtype);
  view.tokens = count;
  return view;
}

// sqrt(sum (a - b)^2 / max(sum b^2, floor^2)); 1e9 for other sizes and for NaN.
inline double relative_error(const std::vector<double>& a, const std::vector<double>& b,
                             double floor = 1e-150) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  const double error = std::sqrt(difference / std::max(norm, floor * floor));
  return a.size() == b.size() && !std::isnan(error) ? error : 1e9;  // std::max would drop NaN
}

// Values and gradients of a room's parameters.
struct Parameters {
  Parameters(const std::vector<ParameterSpec>& specs, double amplitude) {
    for (const ParameterSpec& spec : specs) {
      const size_t size = element_count(spec.shape);
      const RandomStream stream(1, spec.name);
      float* value = buffers.emplace_back(size * sizeof(float)).as<float>().data();
      for (size_t i = 0; i < size; ++i) value[i] = static_cast<float>(amplitude * stream.normal(i));
      values.emplace_back(value, size);
      gradients.emplace_back(buffers.emplace_back(size * sizeof(float)).as<float>().data(), size);
    }
  }
  std::vector<AlignedBuffer> buffers;
  std::vector<View1<const float>> values;
  std::vector<View1<float>> gradients;
};

// All elements of several vectors in double, one after another.
template <class T>
std::vector<double> joined(const std::vector<View1<T>>& views) {
  std::vector<double> result;
  for (const auto& view : views) result.insert(result.end(), view.begin(), view.end());
  return result;
}

class Case {
 public:
  explicit Case(const Problem& p)
      : problem(p),
        attention(make_attention(p.options,
                                 {.hidden_size = p.heads * p.head_dim,
                                  .heads = p.heads,
                                  .kv_heads = p.kv_heads,
                                  .head_dim = p.head_dim,
                                  .value_dim = p.value_dim,
                                  .scale = p.scale},
                                 p.context)),
        tokens(std::accumulate(p.lengths.begin(), p.lengths.end(), 0)),
        keys(p.key_lengths.empty()
                 ? tokens
                 : std::accumulate(p.key_lengths.begin(), p.key_lengths.end(), 0)),
        q(tokens, p.heads, p.head_dim, p.dtype, p.gap),
        k(keys, p.kv_heads, p.head_dim, p.dtype, p.gap),
        v(keys, p.kv_heads, p.value_dim, p.dtype, p.gap),
        x(tokens, 1, p.heads * p.head_dim, p.dtype, p.gap),
        dx(tokens, 1, p.heads * p.head_dim, DType::f32, p.gap),
        out(tokens, p.heads, p.value_dim, p.dtype, p.gap),
        dout(tokens, p.heads, p.value_dim, p.dtype, p.gap),
        dq(tokens, p.heads, p.head_dim, p.dtype, p.gap),
        dk(keys, p.kv_heads, p.head_dim, p.dtype, p.gap),
        dv(keys, p.kv_heads, p.value_dim, p.dtype, p.gap),
        parameters(attention->parameters(), p.parameter_amplitude) {
    q.fill(RandomStream(1, "q"), p.amplitude);
    k.fill(RandomStream(1, "k"), p.amplitude);
    v.fill(RandomStream(1, "v"), 1);
    x.fill(RandomStream(1, "x"), 1);
    dout.fill(RandomStream(1, "dout"), 1);
    // Rubbish in what is overwritten.
    for (Rows* rows : {&out, &dq, &dk, &dv}) rows->fill(RandomStream(1, "rubbish"), 100);
    offsets = {0};
    for (const int length : p.lengths) {
      offsets.push_back(offsets.back() + length);
      for (int i = 0; i < length; ++i) positions.push_back(i);
    }
    for (const int length : p.key_lengths) {
      if (key_offsets.empty()) key_offsets.push_back(0);
      key_offsets.push_back(key_offsets.back() + length);
    }
  }

  AttentionInputs inputs() const {
    AttentionInputs in;
    in.x = x.matrix();
    in.q = q.view();
    in.k = k.view();
    in.v = v.view();
    in.parameters = parameters.values;
    return in;
  }
  TokenLayout layout() const {
    return {{offsets.data(), offsets.size()},
            {positions.data(), positions.size()},
            {key_offsets.data(), key_offsets.size()}};
  }
  AttentionMechanism::Reference reference_inputs() const {
    AttentionMechanism::Reference in{x.values(), q.values(), k.values(), v.values(), {}};
    for (const auto& values : parameters.values)
      in.parameters.emplace_back(values.begin(), values.end());
    return in;
  }
  void forward(ThreadTeam& team) {
    const size_t most = std::max(tokens, keys);
    const AttentionMemory memory = attention->memory(most, most, problem.dtype, team.size());
    saved = AlignedBuffer(memory.saved);
    workspace = AlignedBuffer(memory.workspace);
    attention->forward(inputs(), layout(), out.view(), {saved.data(), saved.size()},
                       {workspace.data(), workspace.size()}, team);
  }
  void backward(ThreadTeam& team) {
    AttentionGradients gradients;
    gradients.dx = dx.matrix().as<float>();
    gradients.dq = dq.view();
    gradients.dk = dk.view();
    gradients.dv = dv.view();
    gradients.parameters = parameters.gradients;
    // What lies in the workspace must not matter.
    std::fill_n(workspace.data(), workspace.size(), std::byte{0xff});
    attention->backward(inputs(), layout(), out.view(), dout.view(), {saved.data(), saved.size()},
                        gradients, {workspace.data(), workspace.size()}, team);
  }

  Problem problem;
  std::unique_ptr<AttentionMechanism> attention;
  size_t tokens, keys;
  Rows q, k, v, x, dx, out, dout, dq, dk, dv;
  Parameters parameters;
  std::vector<int32_t> offsets, positions, key_offsets;
  AlignedBuffer saved, workspace;
};

struct Errors {
  double out, dq, dk, dv, dx, parameters;
  double worst() const { return std::max({out, dq, dk, dv, dx, parameters}); }
};

// A room and one of its options where they change which keys a query sees: every kind of attention
// that the registry offers.
inline std::vector<AttentionOptions> every_kind() {
  std::vector<AttentionOptions> kinds;
  for (const std::string& name : attention_names()) kinds.push_back({name, {}});
  for (const char* mask : {"bidirectional", "cross"})
    kinds.push_back({"relative_bias", {{"mask", std::string(mask)}}});
  return kinds;
}

inline bool crosses(const AttentionOptions& options) {
  const auto mask = options.values.find("mask");
  return mask != options.values.end() && mask->second == OptionValue(std::string("cross"));
}

// Forward and backward against the reference.
inline Errors errors_of(const Problem& problem, int threads = 1) {
  ThreadTeam team(threads, true);
  Case c(problem);
  c.forward(team);
  c.backward(team);
  const auto out = c.attention->reference_forward(c.reference_inputs(), c.layout());
  const auto grad =
      c.attention->reference_backward(c.reference_inputs(), c.layout(), c.dout.values());
  // A query that sees one key has no gradient: what is left is measured by that of its value.
  const double floor =
      0.1 * std::sqrt(std::inner_product(grad.v.begin(), grad.v.end(), grad.v.begin(), 0.0));
  std::vector<double> parameters;
  for (const auto& values : grad.parameters)
    parameters.insert(parameters.end(), values.begin(), values.end());
  return {relative_error(c.out.values(), out),
          relative_error(c.dq.values(), grad.q, floor),
          relative_error(c.dk.values(), grad.k, floor),
          relative_error(c.dv.values(), grad.v),
          relative_error(c.dx.values(), grad.x, floor),
          relative_error(joined(c.parameters.gradients), parameters)};
}

// Forward and backward of two equal cases, one thread and three: the same bits.
inline void expect_same_bits(Case& one, Case& three, const std::string& label) {
  ThreadTeam single(1), several(3, true);
  one.forward(single);
  one.backward(single);
  three.forward(several);
  three.backward(several);
  for (const auto rows : {&Case::out, &Case::dq, &Case::dk, &Case::dv, &Case::dx})
    EXPECT_EQ((one.*rows).bytes(), (three.*rows).bytes()) << label;
  EXPECT_EQ(joined(one.parameters.gradients), joined(three.parameters.gradients)) << label;
}

}  // namespace cairn::attention_test
