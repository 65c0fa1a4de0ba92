#include "cairn/attention/softmax/softmax.h"

#include <cmath>

#include "cairn/attention/arena.h"
#include "cairn/attention/checks.h"
#include "cairn/attention/softmax/convolution.h"
#include "cairn/attention/softmax/head_norm.h"
#include "cairn/kernels/dispatch.h"
#include "cairn/tensor/shape.h"

namespace cairn {
namespace {

AnyView3 rows_at(std::byte* data, DType dtype, size_t tokens, size_t heads, size_t dim) {
  AnyView3 view;
  view.data = data;
  view.dtype = dtype;
  view.tokens = tokens;
  view.heads = heads;
  view.dim = dim;
  view.token_stride = heads * dim;
  view.head_stride = dim;
  return view;
}

}  // namespace

// What a call keeps beside the core's own memory; of `saved` the core has the beginning.
struct SoftmaxAttention::Space {
  AnyView3 q, k;    // convolved or normed, in `saved`
  AnyView3 dq, dk;  // of these, in the workspace
  double* potentials = nullptr;
  float* scratch = nullptr;
  float* partials = nullptr;

  Space(const SoftmaxAttention& a, size_t tokens, DType dtype, int threads, Arena& saved,
        Arena& workspace) {
    const AttentionGeometry& g = a.geometry_;
    saved.take<std::byte>(softmax_memory(a.core_, tokens, dtype, threads).saved);
    if (!a.slopes_.empty()) potentials = workspace.take<double>(g.heads * tokens);
    if (!a.changes_queries()) return;
    const auto take = [&](Arena& arena, size_t heads) {
      auto* data = arena.take<std::byte>(tokens * heads * g.head_dim * dtype_size(dtype));
      return rows_at(data, dtype, tokens, heads, g.head_dim);
    };
    q = take(saved, g.heads);
    k = take(saved, g.kv_heads);
    dq = take(workspace, g.heads);
    dk = take(workspace, g.kv_heads);
    const size_t floats = std::max(convolution_scratch(g.head_dim), head_norm_scratch(g.head_dim));
    scratch = workspace.take<float>(floats * threads);
    partials = workspace.take<float>(head_norm_partials(tokens, g.head_dim));
  }
};

SoftmaxAttention::SoftmaxAttention(const AttentionOptions& options,
                                   const AttentionGeometry& geometry, size_t context_length)
    : geometry_(geometry) {
  constexpr std::string_view kMaking = "making softmax attention";
  apply_isa_limit();
  check_geometry(kMaking, geometry);
  options_ = read_softmax_options(kMaking, options, geometry, PositionKind::rope);
  if (options_.position == PositionKind::alibi) slopes_ = alibi_slopes(geometry.heads);
  if (options_.position == PositionKind::rope)
    rotary_.emplace(options_.rotary_table(context_length));
  core_.geometry = geometry;
  if (geometry.scale == 0)
    core_.geometry.scale = 1.0F / std::sqrt(static_cast<float>(geometry.head_dim));
  core_.rotary = rotary_ ? &*rotary_ : nullptr;
  core_.window = options_.window;
  core_.biased = !slopes_.empty();
}

std::vector<ParameterSpec> SoftmaxAttention::parameters() const {
  if (options_.qk_norm) {
    const Initializer one{Initializer::Kind::constant, 1 - options_.qk_norm_offset};
    return {{"q_norm.weight", {geometry_.head_dim}, one, ParameterGroup::vector},
            {"k_norm.weight", {geometry_.head_dim}, one, ParameterGroup::vector}};
  }
  const size_t taps = options_.qk_conv;
  if (taps == 0) return {};
  // Keeps the variance of queries and keys that are independent in time.
  const Initializer start{Initializer::Kind::normal, 1 / std::sqrt(static_cast<double>(taps))};
  const auto spec = [&](const char* name, size_t heads) {
    return ParameterSpec{name, {heads * geometry_.head_dim, taps}, start, ParameterGroup::vector};
  };
  return {spec("q_conv1d.weight", geometry_.heads), spec("k_conv1d.weight", geometry_.kv_heads)};
}

NormOptions SoftmaxAttention::norm_options() const {
  return {static_cast<float>(options_.qk_norm_eps), static_cast<float>(options_.qk_norm_offset)};
}

AttentionMemory SoftmaxAttention::memory(size_t tokens, size_t /*longest*/, DType dtype,
                                         int threads) const {
  Arena saved, workspace;
  const Space space(*this, tokens, dtype, threads, saved, workspace);
  const AttentionMemory core = softmax_memory(core_, tokens, dtype, threads);
  return {.saved = saved.used(), .workspace = workspace.used() + core.workspace};
}

double SoftmaxAttention::forward_flops(double context) const {
  if (options_.window > 0) context = std::min(context, static_cast<double>(options_.window));
  const auto taps = static_cast<double>(options_.qk_conv);
  return 2.0 * context * static_cast<double>(geometry_.heads) *
             static_cast<double>(geometry_.head_dim + geometry_.value_dim) +
         2.0 * taps *
             static_cast<double>((geometry_.heads + geometry_.kv_heads) * geometry_.head_dim);
}

void SoftmaxAttention::check(std::string_view doing, const AttentionInputs& inputs,
                             const TokenLayout& layout) const {
  check_queries_keys_values(doing, geometry_, inputs);
  check_layout(doing, layout, inputs.q.tokens);
  check_parameters(doing, parameters(), inputs.parameters);
  if (rotary_) check_positions(doing, layout.positions, inputs.q.tokens, rotary_->positions());
}

// A token's distance to another counts, not where its sequence begins.
void SoftmaxAttention::fill_potentials(size_t tokens, double* potentials) const {
  for (size_t head = 0; head < slopes_.size(); ++head)
    for (size_t t = 0; t < tokens; ++t)
      potentials[head * tokens + t] = -slopes_[head] * static_cast<double>(t);
}

void SoftmaxAttention::forward(const AttentionInputs& inputs, const TokenLayout& layout,
                               AnyView3 out, std::span<std::byte> saved,
                               std::span<std::byte> workspace, ThreadTeam& team) const {
  constexpr std::string_view kDoing = "softmax attention forward";
  check(kDoing, inputs, layout);
  const size_t tokens = inputs.q.tokens;
  const AttentionMemory needed = memory(tokens, tokens, inputs.q.dtype, team.size());
  check_bytes(kDoing, "saved", needed.saved, saved.size());
  check_bytes(kDoing, "workspace", needed.workspace, workspace.size());
  Arena kept(saved), arena(workspace);
  const Space space(*this, tokens, inputs.q.dtype, team.size(), kept, arena);
  if (space.potentials != nullptr) fill_potentials(tokens, space.potentials);
  AttentionInputs compared = inputs;
  if (changes_queries()) {
    compared.q = space.q;
    compared.k = space.k;
  }
  if (options_.qk_norm) {
    normalise_heads({inputs.parameters[0], norm_options()}, inputs.q, space.q, space.scratch, team);
    normalise_heads({inputs.parameters[1], norm_options()}, inputs.k, space.k, space.scratch, team);
  }
  if (options_.qk_conv > 0) {
    convolve({options_.qk_conv, inputs.parameters[0], layout.offsets}, inputs.q, 0, space.q,
             space.scratch, team);
    convolve({options_.qk_conv, inputs.parameters[1], layout.offsets}, inputs.k, 0, space.k,
             space.scratch, team);
  }
  softmax_forward(kDoing, core_, compared, space.potentials, layout, out, saved,
                  workspace.subspan(arena.used()), team);
}

void SoftmaxAttention::backward(const AttentionInputs& inputs, const TokenLayout& layout,
                                AnyView3 out, AnyView3 dout, std::span<const std::byte> saved,
                                const AttentionGradients& gradients, std::span<std::byte> workspace,
                                ThreadTeam& team) const {
  constexpr std::string_view kDoing = "softmax attention backward";
  check(kDoing, inputs, layout);
  const AttentionGeometry& g = geometry_;
  const size_t tokens = inputs.q.tokens;
  const DType dtype = inputs.q.dtype;
  const AttentionMemory needed = memory(tokens, tokens, dtype, team.size());
  check_bytes(kDoing, "saved", needed.saved, saved.size());
  check_bytes(kDoing, "workspace", needed.workspace, workspace.size());
  Arena kept({const_cast<std::byte*>(saved.data()), saved.size()}), arena(workspace);
  const Space space(*this, tokens, dtype, team.size(), kept, arena);
  if (space.potentials != nullptr) fill_potentials(tokens, space.potentials);
  AttentionInputs compared = inputs;
  AttentionGradients inner = gradients;
  if (changes_queries()) {
    compared.q = space.q;
    compared.k = space.k;
    inner.dq = space.dq;
    inner.dk = space.dk;
    check_heads(kDoing, "dq", gradients.dq, tokens, g.heads, g.head_dim, dtype);
    check_heads(kDoing, "dk", gradients.dk, tokens, g.kv_heads, g.head_dim, dtype);
    check_shape(kDoing, "parameter gradients", {2}, {gradients.parameters.size()});
  }
  softmax_backward(kDoing, core_, compared, space.potentials, layout, out, dout, saved, inner,
                   nullptr, workspace.subspan(arena.used()), team);
  if (options_.qk_norm) {
    normalise_heads_backward({inputs.parameters[0], norm_options()}, inputs.q, space.dq,
                             gradients.dq, gradients.parameters[0], space.partials, space.scratch,
                             team);
    normalise_heads_backward({inputs.parameters[1], norm_options()}, inputs.k, space.dk,
                             gradients.dk, gradients.parameters[1], space.partials, space.scratch,
                             team);
  }
  if (options_.qk_conv == 0) return;
  convolve_backward({options_.qk_conv, inputs.parameters[0], layout.offsets}, inputs.q, space.dq,
                    gradients.dq, gradients.parameters[0], space.scratch, team);
  convolve_backward({options_.qk_conv, inputs.parameters[1], layout.offsets}, inputs.k, space.dk,
                    gradients.dk, gradients.parameters[1], space.scratch, team);
}

std::optional<AttentionStatistics> SoftmaxAttention::statistics(
    const TokenLayout& layout, std::span<const std::byte> saved) const {
  return softmax_statistics(core_, layout, saved);
}

}  // namespace cairn
