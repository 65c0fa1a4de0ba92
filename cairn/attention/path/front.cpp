#include "cairn/attention/path/front.h"

#include <algorithm>
#include <cmath>

#include "cairn/attention/path/front_rows.h"
#include "cairn/attention/path/matrix.h"
#include "cairn/kernels/norms.h"

namespace cairn {

FrontShape::FrontShape(const PathOptions& options, const AttentionGeometry& g)
    : hidden(g.hidden_size),
      heads(g.heads),
      kv_heads(g.kv_heads),
      dim(g.head_dim),
      products(options.products),
      rank(options.rank),
      kernel(options.conv),
      channels(options.products * g.kv_heads * g.head_dim) {
  beta_column = low();
  gate_column = beta_column + products * kv_heads;
  columns = gate_column + (options.gate ? heads : 0);
  width = padded_width(columns);
}

PathFront::PathFront(const PathOptions& options, const AttentionGeometry& geometry,
                     size_t context_length)
    : options_(options), shape_(options, geometry) {
  if (options.rope_on_w) rotary_.emplace(geometry.head_dim, options.rope_theta, context_length);
  add_parameters();
}

int PathFront::add(std::string name, Shape shape, Initializer initializer, ParameterGroup group) {
  specs_.push_back({std::move(name), std::move(shape), initializer, group});
  return static_cast<int>(specs_.size()) - 1;
}

// Names are those of the reference checkpoints. The published start, N(0, 0.02^2) everywhere,
// leaves |z| of small models so short that epsilon counts and the norm multiplies gradients by
// hundreds: below 1024 columns weights on the way to w start by their fan-in.
void PathFront::add_parameters() {
  const FrontShape& n = shape_;
  const bool small = n.hidden < 1024;
  const auto normal = [&](size_t fan_in) {
    const double by_fan_in = 1 / std::sqrt(static_cast<double>(fan_in));
    return Initializer{Initializer::Kind::normal, small ? by_fan_in : 0.02};
  };
  const Initializer usual{}, zero{Initializer::Kind::constant, 0},
      one{Initializer::Kind::constant, 1};
  constexpr auto matrix = ParameterGroup::matrix, vector = ParameterGroup::vector;
  if (n.rank != 0) {
    places_.low = add("w_proj.0.weight", {n.rank, n.hidden}, normal(n.hidden), matrix);
    places_.high = add("w_proj.1.weight", {n.channels, n.rank}, normal(n.rank), matrix);
  } else {
    places_.low = add("w_proj.weight", {n.channels, n.hidden}, normal(n.hidden), matrix);
  }
  if (n.kernel != 0)
    places_.taps = add("w_conv1d.weight", {n.channels, 1, n.kernel}, normal(n.kernel), matrix);
  const size_t strengths = n.products * n.kv_heads;
  places_.beta = add("bt_proj.weight", {strengths, n.hidden}, usual, matrix);
  places_.beta_bias = add("bt_proj.bias", {strengths}, zero, vector);
  if (options_.gate) {
    places_.gate = add("g_proj.weight", {n.heads, n.hidden}, usual, matrix);
    places_.gate_bias = add("g_proj.bias", {n.heads}, zero, vector);
  }
  if (options_.qk_norm) {
    places_.q_norm = add("q_norm.weight", {n.dim}, one, vector);
    places_.k_norm = add("k_norm.weight", {n.dim}, one, vector);
  }
  if (options_.rope_on_w) places_.alpha = add("path_alpha", {n.kv_heads}, zero, vector);
}

FrontRows PathFront::take_rows(Arena& arena, size_t tokens) const {
  const FrontShape& n = shape_;
  FrontRows rows;
  rows.projected = arena.take<float>(tokens * n.width);
  rows.y_stride = n.rank != 0 ? padded_width(n.channels) : n.width;
  rows.y = n.rank != 0 ? arena.take<float>(tokens * rows.y_stride) : rows.projected;
  rows.w = arena.take<float>(tokens * n.channels);
  rows.beta = arena.take<float>(tokens * n.products * n.kv_heads);
  if (options_.gate) rows.log_gate = arena.take<float>(tokens * n.heads);
  if (changes_queries()) {
    rows.q = arena.take<float>(tokens * n.heads * n.dim);
    rows.k = arena.take<float>(tokens * n.kv_heads * n.dim);
  }
  return rows;
}

FrontWeights PathFront::take_weights(Arena& arena, bool backward) const {
  const FrontShape& n = shape_;
  FrontWeights w;
  w.right = arena.take<float>(n.hidden * n.width);
  if (n.rank != 0) w.high = arena.take<float>(n.rank * padded_width(n.channels));
  if (n.kernel != 0) w.taps = arena.take<float>(n.kernel * n.channels);
  if (!backward) return w;
  w.left = arena.take<float>(n.width * padded_width(n.hidden));
  if (n.rank != 0) w.high_rows = arena.take<float>(n.channels * padded_width(n.rank));
  return w;
}

void PathFront::pack_weights(std::span<const View1<const float>> parameters, const FrontWeights& to,
                             bool matrices) const {
  const FrontShape& n = shape_;
  if (matrices) pack_matrices(parameters, to);
  if (n.kernel == 0) return;
  const float* taps = parameters[places_.taps].data;  // [C][1][kernel], the current token last
  for (size_t c = 0; c < n.channels; ++c)
    for (size_t back = 0; back < n.kernel; ++back)
      to.taps[back * n.channels + c] = taps[c * n.kernel + n.kernel - 1 - back];
}

void PathFront::pack_matrices(std::span<const View1<const float>> parameters,
                              const FrontWeights& to) const {
  const FrontShape& n = shape_;
  const size_t row = padded_width(n.hidden);
  std::fill_n(to.right, n.hidden * n.width, 0.0F);
  if (to.left != nullptr) std::fill_n(to.left, n.width * row, 0.0F);
  const auto place = [&](int at, size_t column) {
    if (at < 0) return;
    const View1<const float> from = parameters[at];
    const size_t count = from.size / n.hidden;
    transpose_matrix({from.data, n.hidden}, count, n.hidden, {to.right + column, n.width});
    for (size_t i = 0; to.left != nullptr && i < count; ++i)
      std::copy_n(from.data + i * n.hidden, n.hidden, to.left + (column + i) * row);
  };
  place(places_.low, 0);
  place(places_.beta, n.beta_column);
  place(places_.gate, n.gate_column);
  if (n.rank == 0) return;
  const float* from = parameters[places_.high].data;
  const size_t width = padded_width(n.channels), rank_width = padded_width(n.rank);
  std::fill_n(to.high, n.rank * width, 0.0F);
  transpose_matrix({from, n.rank}, n.channels, n.rank, {to.high, width});
  if (to.high_rows == nullptr) return;
  std::fill_n(to.high_rows, n.channels * rank_width, 0.0F);
  for (size_t c = 0; c < n.channels; ++c)
    std::copy_n(from + c * n.rank, n.rank, to.high_rows + c * rank_width);
}

size_t PathFront::scratch_floats() const {
  return kTile * std::max(padded_width(shape_.hidden), 2 * padded_width(shape_.dim));
}

void PathFront::project(const AttentionInputs& in, const FrontWeights& weights, size_t begin,
                        size_t count, const FrontRows& rows, float* scratch) const {
  const FrontShape& n = shape_;
  const TileKernel& f32 = f32_tile_kernel();
  const AnyView2 x{
      static_cast<std::byte*>(in.x.data) + begin * in.x.stride * dtype_size(in.x.dtype), in.x.dtype,
      count, in.x.cols, in.x.stride};
  Left left = plain(static_cast<const float*>(x.data), x.stride);
  if (x.dtype != DType::f32) {
    load_tile(x, {}, scratch);
    left = plain(scratch, padded_width(n.hidden));
  }
  float* projected = rows.projected + begin * n.width;
  multiply(f32, {count, n.width, n.hidden}, left, {weights.right, n.width}, {projected, n.width});
  const auto add_bias = [&](int at, size_t column) {
    if (at < 0) return;
    for (size_t t = 0; t < count; ++t)
      add_to(in.parameters[at].data, in.parameters[at].size, projected + t * n.width + column);
  };
  add_bias(places_.beta_bias, n.beta_column);
  add_bias(places_.gate_bias, n.gate_column);
  if (n.rank != 0)
    multiply(f32, {count, padded_width(n.channels), n.rank}, plain(projected, n.width),
             {weights.high, padded_width(n.channels)},
             {rows.y + begin * rows.y_stride, rows.y_stride});
}

void PathFront::project_few(const AttentionInputs& in, size_t begin, size_t count,
                            const FrontRows& rows, float* scratch) const {
  const FrontShape& n = shape_;
  for (size_t t = begin; t < begin + count; ++t) {
    const AnyView2 x{static_cast<std::byte*>(in.x.data) + t * in.x.stride * dtype_size(in.x.dtype),
                     in.x.dtype, 1, in.x.cols, in.x.stride};
    load_tile(x, {}, scratch);
    // The same row against every row of a matrix.
    const auto dots = [&](const float* row, int at, size_t cols, float* to) {
      const float* matrix = in.parameters[at].data;
      const size_t count_of_rows = in.parameters[at].size / cols;
      dot_tile_rows(View2<const float>(row, count_of_rows, cols, 0),
                    View2<const float>(matrix, count_of_rows, cols), to);
    };
    float* projected = rows.projected + t * n.width;
    dots(scratch, places_.low, n.hidden, projected);
    dots(scratch, places_.beta, n.hidden, projected + n.beta_column);
    add_to(in.parameters[places_.beta_bias].data, n.products * n.kv_heads,
           projected + n.beta_column);
    if (places_.gate >= 0) {
      dots(scratch, places_.gate, n.hidden, projected + n.gate_column);
      add_to(in.parameters[places_.gate_bias].data, n.heads, projected + n.gate_column);
    }
    if (n.rank != 0) dots(projected, places_.high, n.rank, rows.y + t * rows.y_stride);
  }
}

namespace {

// min(x, 0) - log1p(exp(-|x|))
float log_sigmoid(float x) {
  return std::min(x, 0.0F) - std::log1p(std::exp(-std::abs(x)));
}

}  // namespace

float path_alpha(std::span<const View1<const float>> parameters, const FrontParameters& places,
                 size_t kv_head) {
  return places.alpha < 0 ? 1.0F : std::clamp(parameters[places.alpha][kv_head], 0.0F, 1.0F);
}

void PathFront::finish(const AttentionInputs& in, const float* taps, size_t begin, size_t count,
                       const int32_t* earlier, const int32_t* positions, const FrontRows& rows,
                       float* scratch) const {
  const FrontShape& n = shape_;
  const size_t strengths = n.products * n.kv_heads;
  for (size_t t = begin; t < begin + count; ++t) {
    const size_t reach = std::min<size_t>(std::max<size_t>(n.kernel, 1), earlier[t] + 1);
    map_row({rows.y + t * rows.y_stride, rows.y_stride, taps, reach, n.channels, n.dim},
            rows.w + t * n.channels);
    const float* projected = rows.projected + t * n.width;
    for (size_t i = 0; i < strengths; ++i) {
      const float sigmoid = 1.0F / (1.0F + std::exp(-projected[n.beta_column + i]));
      const float most = static_cast<float>(options_.beta_max) *
                         path_alpha(in.parameters, places_, i % n.kv_heads);
      rows.beta[t * strengths + i] = most * sigmoid;
    }
    for (size_t h = 0; rows.log_gate != nullptr && h < n.heads; ++h)
      rows.log_gate[t * n.heads + h] = log_sigmoid(projected[n.gate_column + h]);
  }
  const RotaryRows rotary{this->rotary(), positions == nullptr ? nullptr : positions + begin};
  const size_t width = padded_width(n.dim);
  if (rotary.table != nullptr)
    for (size_t c = 0; c < n.channels; c += n.dim) {
      const AnyView2 w = View2<float>(rows.w + begin * n.channels + c, count, n.dim, n.channels);
      load_tile(w, rotary, scratch);
      unload_tile(scratch, 1.0F, {}, w);
    }
  if (!changes_queries()) return;
  const auto change = [&](const AnyView3& from, int norm, size_t heads, float* to) {
    for (size_t h = 0; h < heads; ++h) {
      load_tile(tile_rows(from, begin, count, h), {}, scratch);
      View2<float> tile(scratch, count, n.dim, width);
      float* turned = scratch + kTile * width;
      if (norm >= 0) rms_norm(tile, in.parameters[norm], kPathEpsilon, tile);
      load_tile(tile, rotary, turned);
      unload_tile(turned, 1.0F, {},
                  View2<float>(to + (begin * heads + h) * n.dim, count, n.dim, heads * n.dim));
    }
  };
  change(in.q, places_.q_norm, n.heads, rows.q);
  change(in.k, places_.k_norm, n.kv_heads, rows.k);
}

void PathFront::forward(const AttentionInputs& in, const TokenLayout& layout,
                        const FrontWeights& weights, const FrontRows& rows, Arena arena,
                        ThreadTeam& team) const {
  const size_t tokens = in.q.tokens, tiles = chunk_count(tokens, kTile);
  const size_t scratch = align_up(scratch_floats(), kWidth);
  auto* earlier = arena.take<int32_t>(tokens);
  float* own = arena.take<float>(scratch * team.size());
  for (size_t s = 0; s + 1 < layout.offsets.size; ++s)
    for (int32_t t = layout.offsets[s]; t < layout.offsets[s + 1]; ++t)
      earlier[t] = t - layout.offsets[s];
  pack_weights(in.parameters, weights);
  const auto each = [&](auto body) {
    team.run(tiles, [&](size_t tile, int thread) {
      const size_t begin = tile * kTile;
      body(begin, std::min(kTile, tokens - begin), own + scratch * thread);
    });
  };
  each([&](size_t begin, size_t count, float* s) { project(in, weights, begin, count, rows, s); });
  each([&](size_t begin, size_t count, float* s) {
    finish(in, weights.taps, begin, count, earlier, layout.positions.data, rows, s);
  });
}

size_t PathFront::forward_workspace(size_t tokens, int threads) const {
  Arena arena;
  arena.take<int32_t>(tokens);
  arena.take<float>(align_up(scratch_floats(), kWidth) * threads);
  return arena.used();
}

}  // namespace cairn
