// Backward of front.cpp, in three regions: token by token down to the results of the convolution
// and the logits of beta and gate; through the convolution and the matrices to x; sums over tokens
// into the parameters, each by one unit of work in the order of tokens.
#include <algorithm>
#include <cmath>

#include "cairn/attention/path/front.h"
#include "cairn/attention/path/front_rows.h"
#include "cairn/attention/path/matrix.h"
#include "cairn/kernels/norms.h"

namespace cairn {
namespace {

constexpr size_t kColumns = 64;  // of a unit of work on weights

struct Buffers {
  float* dprojected = nullptr;  // [T][width]
  float* dy = nullptr;          // [T][padded C]; the first columns of dprojected at full rank
  size_t dy_stride = 0;
  float* norms = nullptr;                        // gradients of the gains by tile [tiles][2][dim]
  int32_t *earlier = nullptr, *later = nullptr;  // tokens of the same sequence around each
  float* scratch = nullptr;                      // [threads][...]
  size_t scratch_floats = 0;
};

struct FrontBackward {
  const PathFront& front;
  const PathOptions& options;
  const AttentionInputs& in;
  const TokenLayout& layout;
  const FrontWeights& weights;
  const FrontRows& rows;
  const PathFront::Gradients& own;
  const AttentionGradients& gradients;
  const FrontShape& n = front.shape();
  const FrontParameters& places = front.places();
  Buffers b;

  static Buffers take(const PathFront& front, Arena& arena, size_t tokens, int threads);
  void count_neighbours() const;
  void by_token(size_t begin, size_t count, float* scratch) const;
  void queries(const AnyView3& from, float* dfrom, size_t heads, int norm, const AnyView3& to,
               size_t begin, size_t count, float* scratch) const;
  void by_tile(size_t begin, size_t count, float* scratch) const;
  void projections(size_t column, float* scratch) const;
  void channels(size_t first, float* scratch) const;
  void vectors() const;
  void strengths(size_t t) const;
  size_t tokens() const { return in.q.tokens; }
};

Buffers FrontBackward::take(const PathFront& front, Arena& arena, size_t tokens, int threads) {
  const FrontShape& n = front.shape();
  Buffers b;
  b.dprojected = arena.take<float>(tokens * n.width);
  b.dy_stride = n.rank != 0 ? padded_width(n.channels) : n.width;
  b.dy = n.rank != 0 ? arena.take<float>(tokens * b.dy_stride) : b.dprojected;
  if (front.places().q_norm >= 0)
    b.norms = arena.take<float>(chunk_count(tokens, kTile) * 2 * n.dim);
  b.earlier = arena.take<int32_t>(tokens);
  b.later = arena.take<int32_t>(tokens);
  const size_t tile = kTile * std::max(padded_width(n.hidden), 3 * padded_width(n.dim));
  b.scratch_floats = align_up(
      std::max(tile, (n.width + kTile) * kColumns + kColumns * padded_width(n.rank)), kWidth);
  b.scratch = arena.take<float>(b.scratch_floats * threads);
  return b;
}

void FrontBackward::count_neighbours() const {
  for (size_t s = 0; s + 1 < layout.offsets.size; ++s)
    for (int32_t t = layout.offsets[s]; t < layout.offsets[s + 1]; ++t) {
      b.earlier[t] = t - layout.offsets[s];
      b.later[t] = layout.offsets[s + 1] - 1 - t;
    }
}

// To the logits of beta and gate.
void FrontBackward::strengths(size_t t) const {
  const size_t count = n.products * n.kv_heads;
  float* to = b.dprojected + t * n.width;
  std::fill(to + n.columns, to + n.width, 0.0F);
  for (size_t i = 0; i < count; ++i) {
    const float s = 1.0F / (1.0F + std::exp(-rows.projected[t * n.width + n.beta_column + i]));
    const float most =
        static_cast<float>(options.beta_max) * path_alpha(in.parameters, places, i % n.kv_heads);
    to[n.beta_column + i] = own.dbeta[t * count + i] * most * s * (1 - s);
  }
  for (size_t h = 0; places.gate >= 0 && h < n.heads; ++h)
    to[n.gate_column + h] = own.dlog_gate[t * n.heads + h] /
                            (1.0F + std::exp(rows.projected[t * n.width + n.gate_column + h]));
}

// Turned back, then through the norm.
void FrontBackward::queries(const AnyView3& from, float* dfrom, size_t heads, int norm,
                            const AnyView3& to, size_t begin, size_t count, float* scratch) const {
  const size_t width = padded_width(n.dim);
  const RotaryRows rotary{front.rotary(), layout.positions.data + begin};
  float *x = scratch, *dy = scratch + kTile * width, *dx = dy + kTile * width;
  const bool keys = norm >= 0 && norm == places.k_norm;
  float* gain = norm < 0 ? nullptr : b.norms + (begin / kTile * 2 + (keys ? 1 : 0)) * n.dim;
  if (gain != nullptr) std::fill_n(gain, n.dim, 0.0F);
  for (size_t h = 0; h < heads; ++h) {
    const View2<float> d(dfrom + (begin * heads + h) * n.dim, count, n.dim, heads * n.dim);
    load_tile(d, {}, x);
    const View2<float> turned(dy, count, n.dim, width);
    unload_tile(x, 1.0F, rotary, turned);
    if (norm >= 0) {
      load_tile(tile_rows(from, begin, count, h), {}, x);
      rms_norm_backward(View2<float>(x, count, n.dim, width), in.parameters[norm], kPathEpsilon,
                        turned, View2<float>(dx, count, n.dim, width), {gain, n.dim}, false);
    }
    unload_tile(norm >= 0 ? dx : dy, 1.0F, {}, tile_rows(to, begin, count, h));
  }
}

void FrontBackward::by_token(size_t begin, size_t count, float* scratch) const {
  if (front.rotary() != nullptr) {
    const RotaryRows rotary{front.rotary(), layout.positions.data + begin};
    for (size_t c = 0; c < n.channels; c += n.dim) {
      const View2<float> dw(own.dw + begin * n.channels + c, count, n.dim, n.channels);
      load_tile(dw, {}, scratch);
      unload_tile(scratch, 1.0F, rotary, dw);
    }
  }
  const size_t kernel = std::max<size_t>(n.kernel, 1);
  for (size_t t = begin; t < begin + count; ++t) {
    const size_t reach = std::min<size_t>(kernel, b.earlier[t] + 1);
    map_row_backward(
        {rows.y + t * rows.y_stride, rows.y_stride, weights.taps, reach, n.channels, n.dim},
        own.dw + t * n.channels);
    strengths(t);
  }
  if (!front.changes_queries()) return;
  queries(in.q, own.dq, n.heads, places.q_norm, gradients.dq, begin, count, scratch);
  queries(in.k, own.dk, n.kv_heads, places.k_norm, gradients.dk, begin, count, scratch);
}

void FrontBackward::by_tile(size_t begin, size_t count, float* scratch) const {
  const TileKernel& f32 = f32_tile_kernel();
  const size_t kernel = std::max<size_t>(n.kernel, 1);
  for (size_t t = begin; t < begin + count; ++t) {
    const size_t reach = std::min<size_t>(kernel, b.later[t] + 1);
    float* dy = b.dy + t * b.dy_stride;
    conv_row_backward(own.dw + t * n.channels, n.channels, weights.taps, reach, n.channels, dy);
  }
  float* dprojected = b.dprojected + begin * n.width;
  if (n.rank != 0) {
    const size_t width = padded_width(n.rank);
    multiply(f32, {count, width, n.channels}, plain(b.dy + begin * b.dy_stride, b.dy_stride),
             {weights.high_rows, width}, {scratch, width});
    for (size_t t = 0; t < count; ++t)
      std::copy_n(scratch + t * width, n.rank, dprojected + t * n.width);
  }
  const size_t width = padded_width(n.hidden);
  multiply(f32, {count, width, n.columns}, plain(dprojected, n.width), {weights.left, width},
           {scratch, width});
  for (size_t t = 0; t < count; ++t)
    add_to(scratch + t * width, n.hidden, gradients.dx.data + (begin + t) * gradients.dx.stride);
}

// Columns [column, column + kColumns) of the gradients of all matrices on x.
void FrontBackward::projections(size_t column, float* scratch) const {
  const TileKernel& f32 = f32_tile_kernel();
  const size_t count = std::min(kColumns, n.hidden - column);
  float *sums = scratch, *x = scratch + n.width * kColumns;
  std::fill_n(sums, n.columns * kColumns, 0.0F);
  for (size_t begin = 0; begin < tokens(); begin += kTile) {
    const size_t rows_here = std::min(kTile, tokens() - begin), size = dtype_size(in.x.dtype);
    const AnyView2 tile{static_cast<std::byte*>(in.x.data) + (begin * in.x.stride + column) * size,
                        in.x.dtype, rows_here, count, in.x.stride};
    load_tile(tile, {}, x);
    const size_t width = padded_width(count);
    multiply_add(f32, {n.columns, width, rows_here},
                 transposed(b.dprojected + begin * n.width, n.width), {x, width}, {sums, kColumns});
  }
  const auto add = [&](int at, size_t first) {
    if (at < 0) return;
    const View1<float> to = gradients.parameters[at];
    for (size_t row = 0; row < to.size / n.hidden; ++row)
      add_to(sums + (first + row) * kColumns, count, to.data + row * n.hidden + column);
  };
  add(places.low, 0);
  add(places.beta, n.beta_column);
  add(places.gate, n.gate_column);
}

// Channels [first, first + kColumns) of the gradients of A2 and of the convolution.
void FrontBackward::channels(size_t first, float* scratch) const {
  const size_t count = std::min(kColumns, n.channels - first);
  if (n.rank != 0) {
    const size_t width = padded_width(n.rank);  // at most n.width
    multiply(f32_tile_kernel(), {count, width, tokens()}, transposed(b.dy + first, b.dy_stride),
             {rows.projected, n.width}, {scratch, width});
    float* to = gradients.parameters[places.high].data;
    for (size_t c = 0; c < count; ++c)
      add_to(scratch + c * width, n.rank, to + (first + c) * n.rank);
  }
  if (n.kernel == 0) return;
  float* taps = gradients.parameters[places.taps].data;  // the current token last
  for (size_t back = 0; back < n.kernel; ++back) {
    float sums[kColumns] = {};
    for (size_t t = 0; t < tokens(); ++t) {
      if (static_cast<size_t>(b.earlier[t]) < back) continue;
      const float* y = rows.y + (t - back) * rows.y_stride + first;
      const float* d = own.dw + t * n.channels + first;
      for (size_t c = 0; c < count; ++c) sums[c] += y[c] * d[c];
    }
    for (size_t c = 0; c < count; ++c)
      taps[(first + c) * n.kernel + n.kernel - 1 - back] += sums[c];
  }
}

// Biases, gains and alpha.
void FrontBackward::vectors() const {
  const size_t strengths = n.products * n.kv_heads;
  const auto add_bias = [&](int at, size_t column) {
    if (at < 0) return;
    for (size_t t = 0; t < tokens(); ++t)
      add_to(b.dprojected + t * n.width + column, gradients.parameters[at].size,
             gradients.parameters[at].data);
  };
  add_bias(places.beta_bias, n.beta_column);
  add_bias(places.gate_bias, n.gate_column);
  for (size_t tile = 0; b.norms != nullptr && tile < chunk_count(tokens(), kTile); ++tile) {
    add_to(b.norms + tile * 2 * n.dim, n.dim, gradients.parameters[places.q_norm].data);
    add_to(b.norms + (tile * 2 + 1) * n.dim, n.dim, gradients.parameters[places.k_norm].data);
  }
  if (places.alpha < 0) return;
  for (size_t head = 0; head < n.kv_heads; ++head) {
    float sum = 0;
    for (size_t t = 0; t < tokens(); ++t)
      for (size_t i = head; i < strengths; i += n.kv_heads)
        sum += own.dbeta[t * strengths + i] * static_cast<float>(options.beta_max) /
               (1.0F + std::exp(-rows.projected[t * n.width + n.beta_column + i]));
    // Held to [0, 1]: beyond an end only what leads back counts.
    const float alpha = in.parameters[places.alpha][head];
    const bool stuck = (alpha < 0 && sum > 0) || (alpha > 1 && sum < 0);
    if (!stuck) gradients.parameters[places.alpha][head] += sum;
  }
}

}  // namespace

PathFront::Gradients PathFront::take_gradients(Arena& arena, size_t tokens) const {
  const FrontShape& n = shape_;
  Gradients g;
  g.dw = arena.take<float>(tokens * n.channels);
  g.dbeta = arena.take<float>(tokens * n.products * n.kv_heads);
  if (options_.gate) g.dlog_gate = arena.take<float>(tokens * n.heads);
  if (changes_queries()) {
    g.dq = arena.take<float>(tokens * n.heads * n.dim);
    g.dk = arena.take<float>(tokens * n.kv_heads * n.dim);
  }
  return g;
}

void PathFront::backward(const AttentionInputs& in, const TokenLayout& layout,
                         const FrontWeights& weights, const FrontRows& rows, const Gradients& own,
                         const AttentionGradients& gradients, Arena arena, ThreadTeam& team) const {
  const size_t tokens = in.q.tokens;
  FrontBackward pass{*this, options_, in, layout, weights, rows, own, gradients};
  pass.b = FrontBackward::take(*this, arena, tokens, team.size());
  pass.count_neighbours();
  const auto scratch = [&](int thread) { return pass.b.scratch + pass.b.scratch_floats * thread; };
  const auto each = [&](auto body) {
    team.run(chunk_count(tokens, kTile), [&](size_t tile, int thread) {
      const size_t begin = tile * kTile;
      body(begin, std::min(kTile, tokens - begin), scratch(thread));
    });
  };
  each([&](size_t begin, size_t count, float* s) { pass.by_token(begin, count, s); });
  each([&](size_t begin, size_t count, float* s) { pass.by_tile(begin, count, s); });
  const size_t blocks = chunk_count(shape_.hidden, kColumns);
  const size_t channel_blocks = chunk_count(shape_.channels, kColumns);
  team.run(blocks + channel_blocks + 1, [&](size_t chunk, int thread) {
    if (chunk < blocks)
      pass.projections(chunk * kColumns, scratch(thread));
    else if (chunk < blocks + channel_blocks)
      pass.channels((chunk - blocks) * kColumns, scratch(thread));
    else
      pass.vectors();
  });
}

size_t PathFront::backward_workspace(size_t tokens, int threads) const {
  Arena arena;
  FrontBackward::take(*this, arena, tokens, threads);
  return arena.used();
}

}  // namespace cairn
