// Keys and values of one sequence during generation. Keys are kept rotated, so a step rotates only
// what is new. Prompts go through the blockwise pass, single tokens through decode.h.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "cairn/attention/softmax/decode.h"
#include "cairn/attention/softmax/forward.h"
#include "cairn/attention/softmax/softmax.h"
#include "cairn/base/error.h"
#include "cairn/base/memory.h"

namespace cairn {
namespace {

constexpr size_t kBlockwiseFrom = 8;  // new tokens; below, packing all keys does not pay
constexpr size_t kRange = 256;        // keys of one unit of a decode step

AnyView3 cache_view(AlignedBuffer& buffer, DType dtype, size_t capacity, size_t heads, size_t dim) {
  AnyView3 view;
  view.data = buffer.data();
  view.dtype = dtype;
  view.tokens = capacity;
  view.heads = heads;
  view.dim = dim;
  view.token_stride = dim;
  view.head_stride = capacity * dim;
  return view;
}

AnyView3 first_tokens(AnyView3 view, size_t tokens) {
  view.tokens = tokens;
  return view;
}

[[noreturn]] void refuse(std::string doing, std::string subject, std::string expected,
                         std::string found) {
  throw Error({.kind = ErrorKind::usage,
               .doing = std::move(doing),
               .subject = std::move(subject),
               .expected = std::move(expected),
               .found = std::move(found)});
}

class SoftmaxCache : public AttentionCache {
 public:
  SoftmaxCache(const SoftmaxAttention& attention, size_t capacity, DType dtype)
      : attention_(attention), g_(attention.geometry()), capacity_(capacity), dtype_(dtype) {
    if (dtype != DType::f32 && dtype != DType::bf16)
      refuse("making an attention cache", "type", "f32 or bf16", std::string(dtype_name(dtype)));
    const size_t rows = capacity * g_.kv_heads * dtype_size(dtype);
    keys_ = AlignedBuffer(rows * g_.head_dim);
    values_ = AlignedBuffer(rows * g_.value_dim);
    positions_.resize(capacity);
    std::iota(positions_.begin(), positions_.end(), 0);
  }

  size_t length() const override { return length_; }
  size_t bytes() const override { return keys_.size() + values_.size() + workspace_.size(); }
  void append_and_attend(const AttentionInputs& inputs, AnyView3 out, ThreadTeam& team) override;
  void truncate(size_t length) override;
  std::unique_ptr<AttentionCache> fork() const override;

 private:
  AnyView3 key_view() const {
    return cache_view(keys_, dtype_, capacity_, g_.kv_heads, g_.head_dim);
  }
  AnyView3 value_view() const {
    return cache_view(values_, dtype_, capacity_, g_.kv_heads, g_.value_dim);
  }
  RotaryRows rotation() const { return {attention_.rotary(), positions_.data() + length_}; }
  Arena workspace(size_t bytes);
  void check(const AttentionInputs& inputs, const AnyView3& out) const;
  void append(const AttentionInputs& inputs, ThreadTeam& team);
  void attend_blockwise(const AttentionInputs& inputs, const AnyView3& out, ThreadTeam& team);
  void attend_one(const AnyView3& q, size_t token, const AnyView3& out, ThreadTeam& team);

  const SoftmaxAttention& attention_;
  AttentionGeometry g_;
  size_t capacity_;
  DType dtype_;
  size_t length_ = 0;
  // [kv_heads, capacity, dim]; views of them are made in const functions too.
  mutable AlignedBuffer keys_, values_;
  AlignedBuffer workspace_;         // grows to what the largest call so far needed
  std::vector<int32_t> positions_;  // 0, 1, 2, ...
};

Arena SoftmaxCache::workspace(size_t bytes) {
  if (workspace_.size() < bytes) workspace_ = AlignedBuffer(bytes + bytes / 2);
  return Arena(std::span<std::byte>(workspace_.data(), workspace_.size()));
}

void SoftmaxCache::check(const AttentionInputs& inputs, const AnyView3& out) const {
  const size_t tokens = inputs.q.tokens;
  if (tokens > capacity_ - length_)
    refuse("appending to an attention cache", "tokens",
           "at most " + std::to_string(capacity_ - length_) + " more (capacity " +
               std::to_string(capacity_) + ")",
           std::to_string(tokens));
  attention_.check_inputs("appending to an attention cache", inputs,
                          {positions_.data() + length_, tokens});
  check_shape("appending to an attention cache", "out", {tokens, g_.heads, g_.value_dim},
              {out.tokens, out.heads, out.dim});
  if (out.dtype != inputs.q.dtype)
    refuse("appending to an attention cache", "out", std::string(dtype_name(inputs.q.dtype)),
           std::string(dtype_name(out.dtype)));
}

void SoftmaxCache::append(const AttentionInputs& inputs, ThreadTeam& team) {
  const size_t tokens = inputs.q.tokens, tiles = chunk_count(tokens, kTile);
  const size_t widest = kTile * padded_width(std::max(g_.head_dim, g_.value_dim));
  Arena arena = workspace(align_up(widest * sizeof(float), kAlignment) * team.size());
  float* scratch = arena.take<float>(widest * team.size());
  team.run(g_.kv_heads * tiles, [&](size_t chunk, int thread) {
    const size_t head = chunk / tiles, begin = chunk % tiles * kTile;
    const size_t count = std::min(kTile, tokens - begin);
    float* tile = scratch + widest * thread;
    load_tile(tile_rows(inputs.k, begin, count, head), rows_from(rotation(), begin), tile);
    unload_tile(tile, 1.0F, {}, tile_rows(key_view(), length_ + begin, count, head));
    load_tile(tile_rows(inputs.v, begin, count, head), {}, tile);
    unload_tile(tile, 1.0F, {}, tile_rows(value_view(), length_ + begin, count, head));
  });
}

void SoftmaxCache::attend_blockwise(const AttentionInputs& inputs, const AnyView3& out,
                                    ThreadTeam& team) {
  const size_t tokens = inputs.q.tokens, total = length_ + tokens;
  const size_t query_tiles = chunk_count(tokens, kTile), tiles = most_tiles(total);
  const TileKernel& kernel = tile_kernel_for(inputs.q.dtype);
  Arena sizes;
  take_plan(sizes, tiles);
  sizes.take<Tile>(query_tiles);
  Arena arena = workspace(sizes.used() + forward_workspace(g_, kernel, tiles, team.size()));
  ForwardTask task;
  task.plan = take_plan(arena, tiles);
  Tile* query_tile = arena.take<Tile>(query_tiles);
  const int32_t offsets[] = {0, static_cast<int32_t>(total)};
  fill_plan(task.plan, {offsets, 2});
  for (size_t t = 0; t < query_tiles; ++t)
    query_tile[t] = {static_cast<int32_t>(t * kTile),
                     static_cast<int32_t>(std::min(kTile, tokens - t * kTile)), 0};
  task.q = inputs.q;
  task.k = first_tokens(key_view(), total);
  task.v = first_tokens(value_view(), total);
  task.out = out;
  task.rotate_q = rotation();
  task.scale = attention_.scale();
  task.query_tiles = query_tiles;
  task.query_tile = query_tile;
  task.query_slot = length_;
  run_forward(task, g_, kernel, arena, team);
}

void SoftmaxCache::attend_one(const AnyView3& q, size_t token, const AnyView3& out,
                              ThreadTeam& team) {
  const size_t keys = length_ + token + 1, ranges = chunk_count(keys, kRange);
  const size_t group = g_.heads / g_.kv_heads, width = padded_width(g_.head_dim);
  const auto layout = [&](Arena& arena, auto use) {
    float* rotated = arena.take<float>(kTile * width);
    float* queries = arena.take<float>(g_.heads * g_.head_dim);
    float* statistics = arena.take<float>(2 * ranges * g_.heads);
    float* parts = arena.take<float>(ranges * g_.heads * g_.value_dim);
    float* merged = arena.take<float>(g_.heads * g_.value_dim);
    float* scores = arena.take<float>(group * kRange * team.size());
    use(rotated, queries, statistics, parts, merged, scores);
  };
  Arena sizes;
  layout(sizes, [](auto*...) {});
  Arena arena = workspace(sizes.used());
  layout(arena, [&](float* rotated, float* queries, float* statistics, float* parts, float* merged,
                    float* scores) {
    for (size_t head = 0; head < g_.heads; ++head) {
      load_tile(tile_rows(q, token, 1, head), rows_from(rotation(), token), rotated);
      std::copy_n(rotated, g_.head_dim, queries + head * g_.head_dim);
    }
    float* maximum = statistics;
    float* sum = statistics + ranges * g_.heads;
    team.run(g_.kv_heads * ranges, [&](size_t chunk, int thread) {
      const size_t head = chunk % g_.kv_heads, range = chunk / g_.kv_heads;
      const size_t begin = range * kRange, count = std::min(kRange, keys - begin);
      const size_t first = head * group, at = range * g_.heads + first;
      decode_range({.queries = queries + first * g_.head_dim,
                    .group = group,
                    .keys = tile_rows(key_view(), begin, count, head),
                    .values = tile_rows(value_view(), begin, count, head),
                    .factor = attention_.scale() * kLog2E,
                    .scores = scores + group * kRange * thread},
                   {maximum + at, sum + at, parts + at * g_.value_dim});
    });
    for (size_t head = 0; head < g_.heads; ++head) {
      merge_parts(maximum + head, sum + head, ranges, g_.heads, parts + head * g_.value_dim,
                  g_.value_dim, merged);
      AnyView2 to = tile_rows(out, token, 1, head);
      if (to.dtype == DType::f32) {
        std::copy_n(merged, g_.value_dim, static_cast<float*>(to.data));
      } else {
        std::transform(merged, merged + g_.value_dim, static_cast<bf16*>(to.data),
                       bf16::from_float);
      }
    }
  });
}

void SoftmaxCache::append_and_attend(const AttentionInputs& inputs, AnyView3 out,
                                     ThreadTeam& team) {
  check(inputs, out);
  const size_t tokens = inputs.q.tokens;
  if (tokens == 0) return;
  append(inputs, team);
  if (tokens >= kBlockwiseFrom) {
    attend_blockwise(inputs, out, team);
  } else {
    for (size_t token = 0; token < tokens; ++token) attend_one(inputs.q, token, out, team);
  }
  length_ += tokens;
}

void SoftmaxCache::truncate(size_t length) {
  if (length > length_)
    refuse("truncating an attention cache", "length", "at most " + std::to_string(length_),
           std::to_string(length));
  length_ = length;
}

std::unique_ptr<AttentionCache> SoftmaxCache::fork() const {
  auto copy = std::make_unique<SoftmaxCache>(attention_, capacity_, dtype_);
  const size_t size = dtype_size(dtype_);
  for (size_t head = 0; head < g_.kv_heads; ++head) {
    const auto copy_head = [&](const AlignedBuffer& from, AlignedBuffer& to, size_t dim) {
      const size_t at = head * capacity_ * dim * size;
      std::memcpy(to.data() + at, from.data() + at, length_ * dim * size);
    };
    copy_head(keys_, copy->keys_, g_.head_dim);
    copy_head(values_, copy->values_, g_.value_dim);
  }
  copy->length_ = length_;
  return copy;
}

}  // namespace

std::unique_ptr<AttentionCache> SoftmaxAttention::make_cache(size_t capacity, DType dtype) const {
  return std::make_unique<SoftmaxCache>(*this, capacity, dtype);
}

}  // namespace cairn
