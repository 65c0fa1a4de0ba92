#include "cairn/attention/path/cache.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "cairn/attention/checks.h"
#include "cairn/attention/path/cache_parts.h"
#include "cairn/tensor/shape.h"

namespace cairn {
namespace {

constexpr std::string_view kAppending = "appending to an attention cache";
constexpr size_t kManyFrom = 8;  // new tokens; below, transforming whole tiles does not pay

AnyView2 rows_of(AlignedBuffer& buffer, DType dtype, size_t first, size_t count, size_t dim) {
  return {buffer.data() + first * dim * dtype_size(dtype), dtype, count, dim, dim};
}

AlignedBuffer copy_of(const AlignedBuffer& from) {
  AlignedBuffer copy(from.size());
  if (from.size() != 0) std::memcpy(copy.data(), from.data(), from.size());
  return copy;
}

}  // namespace

PathCache::PathCache(const PathAttention& attention, size_t capacity, DType dtype)
    : attention_(attention),
      front_(attention.front()),
      g_(attention.geometry()),
      size_(g_.head_dim, attention.options().products),
      group_(g_.heads / g_.kv_heads),
      capacity_(capacity),
      history_(std::clamp(align_up(capacity, kCacheBlock), kCacheBlock, kCacheHistory)),
      blocks_(capacity / kCacheBlock),
      dtype_(dtype) {
  if (dtype != DType::f32 && dtype != DType::bf16)
    refuse("making an attention cache", "type", "f32 or bf16", std::string(dtype_name(dtype)));
  const size_t heads = g_.kv_heads, single = sizeof(float), width = size_.width;
  const size_t maps = history_ * size_.products, kernel = front_.shape().kernel;
  keys_ = AlignedBuffer(heads * blocks_ * kCacheBlock * g_.head_dim * dtype_size(dtype));
  values_ = AlignedBuffer(heads * blocks_ * kCacheBlock * g_.value_dim * dtype_size(dtype));
  products_ = AlignedBuffer(heads * blocks_ * size_.dim * width * single);
  open_keys_ = AlignedBuffer(heads * kCacheBlock * width * single);
  open_products_ = AlignedBuffer(heads * size_.dim * width * single);
  recent_k_ = AlignedBuffer(history_ * heads * g_.head_dim * single);
  recent_v_ = AlignedBuffer(history_ * heads * g_.value_dim * single);
  recent_w_ = AlignedBuffer(maps * heads * g_.head_dim * single);
  recent_beta_ = AlignedBuffer(maps * heads * single);
  y_stride_ = padded_width(front_.shape().channels);
  const size_t edge = kernel > 1 ? (kernel - 1) * y_stride_ * single : 0;
  recent_y_ = AlignedBuffer(edge == 0 ? 0 : history_ * y_stride_ * single);
  before_y_ = AlignedBuffer(edge);
  edge_y_ = AlignedBuffer(blocks_ * edge);
  if (attention.options().gate) gate_.resize(g_.heads * capacity);
  positions_.resize(capacity);
  std::iota(positions_.begin(), positions_.end(), 0);
}

size_t PathCache::bytes() const {
  size_t sum = gate_.size() * sizeof(double);
  for (const AlignedBuffer* buffer :
       {&keys_, &values_, &products_, &open_keys_, &open_products_, &recent_k_, &recent_v_,
        &recent_w_, &recent_beta_, &recent_y_, &before_y_, &edge_y_, &workspace_})
    sum += buffer->size();
  return sum;
}

Arena PathCache::workspace(size_t bytes) {
  if (workspace_.size() < bytes) workspace_ = AlignedBuffer(bytes + bytes / 2);
  return Arena(std::span<std::byte>(workspace_.data(), workspace_.size()));
}

PathCache::Open PathCache::open(size_t head, size_t block) {
  const size_t first = slot(block * kCacheBlock);
  return {open_keys_.as<float>().data() + head * kCacheBlock * size_.width,
          open_products_.as<float>().data() + head * size_.dim * size_.width,
          recent_v_.as<float>().data() + (head * history_ + first) * g_.value_dim};
}

AnyView2 PathCache::closed_keys(size_t head, size_t begin, size_t count) {
  return rows_of(keys_, dtype_, head * blocks_ * kCacheBlock + begin, count, g_.head_dim);
}

AnyView2 PathCache::closed_values(size_t head, size_t begin, size_t count) {
  return rows_of(values_, dtype_, head * blocks_ * kCacheBlock + begin, count, g_.value_dim);
}

PathInputs PathCache::history_inputs() {
  PathInputs in;
  in.k = View3<float>(recent_k_.as<float>().data(), history_, g_.kv_heads, g_.head_dim);
  in.w = View3<const float>(recent_w_.as<float>().data(), history_ * size_.products, g_.kv_heads,
                            g_.head_dim);
  in.beta =
      View2<const float>(recent_beta_.as<float>().data(), history_ * size_.products, g_.kv_heads);
  in.products = size_.products;
  return in;
}

void PathCache::check(const AttentionInputs& inputs, const AnyView3& out) const {
  const size_t tokens = inputs.q.tokens;
  if (tokens > capacity_ - length_)
    refuse(kAppending, "tokens",
           "at most " + std::to_string(capacity_ - length_) + " more (capacity " +
               std::to_string(capacity_) + ")",
           std::to_string(tokens));
  attention_.check_inputs(kAppending, inputs, {positions_.data() + length_, tokens});
  check_heads(kAppending, "out", out, tokens, g_.heads, g_.value_dim, inputs.q.dtype);
}

// The front end over the new tokens; the rows of y that their convolution sees before them are put
// in front.
FrontRows PathCache::front(const AttentionInputs& inputs, Arena& arena, ThreadTeam& team) {
  const size_t tokens = inputs.q.tokens, kernel = front_.shape().kernel;
  const size_t before = kernel > 1 ? kernel - 1 : 0;
  FrontRows rows = front_.take_rows(arena, tokens + before);
  if (front_.shape().rank == 0) rows.projected += before * front_.shape().width;
  rows.y += before * rows.y_stride;
  for (size_t i = 0; i < before; ++i)
    std::copy_n(before_y_.as<float>().data() + i * y_stride_, front_.shape().channels,
                rows.y - (before - i) * rows.y_stride);
  const FrontWeights weights = front_.take_weights(arena, false);
  const size_t scratch_floats = align_up(front_.scratch_floats(), kWidth);
  float* scratch = arena.take<float>(scratch_floats * team.size());
  const bool many = tokens >= kManyFrom;
  front_.pack_weights(inputs.parameters, weights, many);
  const auto each = [&](auto body) {
    team.run(chunk_count(tokens, kTile), [&](size_t tile, int thread) {
      const size_t begin = tile * kTile;
      body(begin, std::min(kTile, tokens - begin), scratch + scratch_floats * thread);
    });
  };
  each([&](size_t begin, size_t count, float* s) {
    if (many)
      front_.project(inputs, weights, begin, count, rows, s);
    else
      front_.project_few(inputs, begin, count, rows, s);
  });
  const int32_t* positions = positions_.data() + length_;  // also: tokens before each
  each([&](size_t begin, size_t count, float* s) {
    front_.finish(inputs, weights.taps, begin, count, positions, positions, rows, s);
  });
  return rows;
}

// Keeps `count` new tokens from token `from` on, which stand at `position` on, in the history.
void PathCache::remember(const AttentionInputs& inputs, const FrontRows& rows, size_t head,
                         size_t from, size_t count, size_t position, float* scratch) {
  const PathInputs core = attention_.core_inputs(inputs, rows, {});
  const size_t at = slot(position), heads = g_.kv_heads, n = size_.products;
  const auto keep = [&](const AnyView2& source, AlignedBuffer& to, size_t first, size_t stride) {
    load_tile(source, {}, scratch);
    unload_tile(scratch, 1.0F, {},
                View2<float>(to.as<float>().data() + first, count, source.cols, stride));
  };
  keep(tile_rows(core.k, from, count, head), recent_k_, (at * heads + head) * g_.head_dim,
       heads * g_.head_dim);
  keep(tile_rows(core.v, from, count, head), recent_v_, (head * history_ + at) * g_.value_dim,
       g_.value_dim);
  for (size_t row = 0; row < count * n; ++row) {
    const size_t to = (at * n + row) * heads + head;
    std::copy_n(core.w.at(from * n + row, head), g_.head_dim,
                recent_w_.as<float>().data() + to * g_.head_dim);
    recent_beta_.as<float>()[to] = core.beta.data[(from * n + row) * heads + head];
  }
}

void PathCache::remember_convolution(const FrontRows& rows, size_t tokens) {
  const size_t kernel = front_.shape().kernel, channels = front_.shape().channels;
  if (kernel < 2) return;
  const auto copy = [&](size_t end, float* to) {  // the rows before position `end`
    for (size_t i = 0; i < kernel - 1; ++i) {
      const auto row =
          static_cast<ptrdiff_t>(end - length_ + i) - static_cast<ptrdiff_t>(kernel - 1);
      std::copy_n(rows.y + row * static_cast<ptrdiff_t>(rows.y_stride), channels,
                  to + i * y_stride_);
    }
  };
  const size_t end = length_ + tokens;
  for (size_t edge = open_begin() + kCacheBlock; edge <= end; edge += kCacheBlock)
    copy(edge, edge_y_.as<float>().data() + (edge / kCacheBlock - 1) * (kernel - 1) * y_stride_);
  copy(end, before_y_.as<float>().data());
  for (size_t t = tokens > history_ ? tokens - history_ : 0; t < tokens; ++t)
    std::copy_n(rows.y + t * rows.y_stride, channels,
                recent_y_.as<float>().data() + slot(length_ + t) * y_stride_);
}

void PathCache::sum_gate(const FrontRows& rows, size_t tokens) {
  if (gate_.empty()) return;
  for (size_t head = 0; head < g_.heads; ++head) {
    double* c = gate_.data() + head * capacity_;
    for (size_t t = 0; t < tokens; ++t) {
      const size_t at = length_ + t;
      c[at] = (at == 0 ? 0 : c[at - 1]) + rows.log_gate[t * g_.heads + head];
    }
  }
}

// `end`: the position after the tile.
void PathCache::close_tile(size_t head, size_t end, const Block& block, float* scratch) {
  const TileKernel& f32 = f32_tile_kernel();
  const size_t width = size_.width, dim = size_.dim, tile = end - kTile;
  const size_t number = tile / kCacheBlock, begin = number * kCacheBlock, whole = tile - begin;
  const Open now = open(head, number);
  for (size_t row = 0; row < whole; row += kTile) {
    multiply(f32, {kTile, width, dim}, plain(now.keys + row * width, width), {block.p, width},
             {scratch, width});
    std::memcpy(now.keys + row * width, scratch, kTile * width * sizeof(float));
  }
  std::memcpy(now.keys + whole * width, block.carried, kTile * width * sizeof(float));
  if (whole == 0) {
    transposed_product(size_, block, now.transposed);
  } else {  // (P_before P)^T = P^T P_before^T
    multiply(f32, {dim, width, dim}, transposed(block.p, width), {now.transposed, width},
             {scratch, width});
    std::memcpy(now.transposed, scratch, dim * width * sizeof(float));
  }
  if (end % kCacheBlock != 0) return;
  std::memcpy(closed_product(head, number), now.transposed, dim * width * sizeof(float));
  for (size_t row = 0; row < kCacheBlock; row += kTile) {
    unload_tile(now.keys + row * width, 1.0F, {}, closed_keys(head, begin + row, kTile));
    load_tile(View2<float>(now.values + row * g_.value_dim, kTile, g_.value_dim), {}, scratch);
    unload_tile(scratch, 1.0F, {}, closed_values(head, begin + row, kTile));
  }
}

void PathCache::append_and_attend(const AttentionInputs& inputs, AnyView3 out, ThreadTeam& team) {
  check(inputs, out);
  const size_t tokens = inputs.q.tokens, kernel = front_.shape().kernel;
  if (tokens == 0) return;
  const bool many = tokens >= kManyFrom;
  Arena sizes;
  front_.take_rows(sizes, tokens + kernel);
  front_.take_weights(sizes, false);
  sizes.take<float>(align_up(front_.scratch_floats(), kWidth) * team.size());
  const size_t attend =
      many ? prefill_workspace(tokens, tile_kernel_for(inputs.q.dtype), team.size())
           : decode_workspace(team.size());
  Arena arena = workspace(sizes.used() + attend);
  const FrontRows rows = front(inputs, arena, team);
  sum_gate(rows, tokens);
  const PathInputs core = attention_.core_inputs(inputs, rows, {});
  if (many)
    attend_many(core.q, rows, inputs, out, arena, team);
  else
    for (size_t token = 0; token < tokens; ++token)
      attend_one(core.q, rows, inputs, token, out, arena, team);
  remember_convolution(rows, tokens);
  length_ += tokens;
  if (length_ - remembered_ > history_) remembered_ = length_ - history_;
}

// The rows of y before position `length` that the next convolution sees: from the history, and
// before its block's begin from what was kept at that edge.
void PathCache::restore_convolution(size_t length) {
  const size_t kernel = front_.shape().kernel, before = kernel > 1 ? kernel - 1 : 0;
  const size_t block = length / kCacheBlock, inside = length % kCacheBlock;
  for (size_t back = before; back > 0; --back) {
    float* to = before_y_.as<float>().data() + (before - back) * y_stride_;
    if (back <= inside) {
      std::copy_n(recent_y_.as<float>().data() + slot(length - back) * y_stride_, y_stride_, to);
    } else if (block != 0) {
      const size_t row = block * before - (back - inside);
      std::copy_n(edge_y_.as<float>().data() + row * y_stride_, y_stride_, to);
    }
  }
}

// The open block from `begin` to length_ again, from the history.
void PathCache::reopen(size_t begin) {
  Arena sizes;
  take_block(sizes, size_);
  sizes.take<float>(load_floats());
  Arena arena = workspace(sizes.used());
  const Block work = take_block(arena, size_);
  float* scratch = arena.take<float>(load_floats());
  const PathInputs in = history_inputs();
  for (size_t head = 0; head < g_.kv_heads; ++head)
    for (size_t tile = begin; tile + kTile <= length_; tile += kTile) {
      make_block(in, size_, {static_cast<int32_t>(slot(tile)), kTile, 0}, head, f32_tile_kernel(),
                 work);
      close_tile(head, tile + kTile, work, scratch);
    }
}

void PathCache::truncate(size_t length) {
  constexpr std::string_view kTruncating = "truncating a PaTH attention cache";
  if (length > length_)
    refuse(kTruncating, "length", "at most " + std::to_string(length_), std::to_string(length));
  if (length == length_) return;
  const size_t begin = length / kCacheBlock * kCacheBlock;
  if (length != begin && begin < remembered_)
    refuse(kTruncating, "length",
           std::to_string(begin) + " (a multiple of " + std::to_string(kCacheBlock) +
               "), or from " + std::to_string(align_up(remembered_, kCacheBlock)) + " on",
           std::to_string(length));
  restore_convolution(length);
  length_ = length;
  remembered_ = std::min(remembered_, length);
  reopen(begin);
}

std::unique_ptr<AttentionCache> PathCache::fork() const {
  auto copy = std::make_unique<PathCache>(attention_, capacity_, dtype_);
  for (const auto member :
       {&PathCache::keys_, &PathCache::values_, &PathCache::products_, &PathCache::open_keys_,
        &PathCache::open_products_, &PathCache::recent_k_, &PathCache::recent_v_,
        &PathCache::recent_w_, &PathCache::recent_beta_, &PathCache::recent_y_,
        &PathCache::before_y_, &PathCache::edge_y_})
    copy.get()->*member = copy_of(this->*member);
  copy->gate_ = gate_;
  copy->length_ = length_;
  copy->remembered_ = remembered_;
  return copy;
}

std::unique_ptr<AttentionCache> PathAttention::make_cache(size_t capacity, DType dtype) const {
  return std::make_unique<PathCache>(*this, capacity, dtype);
}

}  // namespace cairn
