// One token against the cache: its query walks the newest tokens map by map and the closed blocks
// product by product; then ranges of keys are read in parallel, each with the query as it stands
// there.
#include <algorithm>
#include <cmath>

#include "cairn/attention/path/cache_parts.h"
#include "cairn/attention/path/walk.h"
#include "cairn/attention/softmax/decode.h"

namespace cairn {
namespace {

constexpr size_t kRange = 256;  // keys of one unit; divides kCacheBlock
// Products that are asked for before a query comes to them: reading one is all that a stop waits
// for.
constexpr size_t kProductsAhead = 4;

}  // namespace

// Positions and arrays of one step. Ranges: the pending tokens of the open tile, the carried keys
// of the open block, the closed blocks.
struct PathCache::DecodeStep {
  size_t position, block, begin,
      tile;                 // of the token; the last two: positions of their first token
  size_t pending, carried;  // tokens of the open tile, keys before it in the block
  size_t open_ranges, ranges;
  // Where the queries stand [stop][head][width]: 0 at the start of the open tile, s at the end of
  // closed block number block - s.
  float* x = nullptr;
  float* pending_scores = nullptr;                             // [heads][kTile]
  float *maximum = nullptr, *sum = nullptr, *parts = nullptr;  // by range and head
  float* merged = nullptr;                                     // [heads][value_dim]

  explicit DecodeStep(size_t at)
      : position(at),
        block(at / kCacheBlock),
        begin(block * kCacheBlock),
        tile(at / kTile * kTile),
        pending(at + 1 - tile),
        carried(tile - begin),
        open_ranges(chunk_count(carried, kRange)),
        ranges(1 + open_ranges + block * (kCacheBlock / kRange)) {}
};

struct PathCache::DecodeScratch {
  float *scores = nullptr, *bias = nullptr;  // [group][kRange]
  float* queries = nullptr;                  // [group][dim]
  float* load = nullptr;
  Block work;
};

PathCache::DecodeStep PathCache::take_step(Arena& arena, size_t position) const {
  DecodeStep step(position);
  const size_t most = capacity_ / kRange + 4, heads = g_.heads;
  step.x = arena.take<float>((blocks_ + 2) * heads * size_.width);
  step.pending_scores = arena.take<float>(heads * kTile);
  step.maximum = arena.take<float>(most * heads);
  step.sum = arena.take<float>(most * heads);
  step.parts = arena.take<float>(most * heads * g_.value_dim);
  step.merged = arena.take<float>(heads * g_.value_dim);
  return step;
}

PathCache::DecodeScratch PathCache::take_decode_scratch(Arena& arena) const {
  DecodeScratch s;
  s.scores = arena.take<float>(group_ * kRange);
  s.bias = arena.take<float>(group_ * kRange);
  s.queries = arena.take<float>(group_ * size_.dim);
  s.load = arena.take<float>(load_floats());
  s.work = take_block(arena, size_);
  return s;
}

size_t PathCache::decode_workspace(int threads) const {
  Arena arena, one;
  take_step(arena, 0);
  take_decode_scratch(one);
  return arena.used() + one.used() * threads;
}

// The queries of one key head, from their token to the end of every closed block.
void PathCache::walk(const DecodeStep& step, const AnyView3& q, size_t token, size_t head,
                     const DecodeScratch& s) {
  const size_t dim = size_.dim, width = size_.width, heads = g_.kv_heads;
  const size_t at = slot(step.tile), maps = at * size_.products;
  const PendingTokens pending{
      .k = recent_k_.as<float>().data() + (at * heads + head) * dim,
      .k_stride = heads * dim,
      .w = recent_w_.as<float>().data() + (maps * heads + head) * dim,
      .w_stride = heads * dim,
      .beta = recent_beta_.as<float>().data() + maps * heads + head,
      .beta_stride = heads,
      .tokens = step.pending,
      .products = size_.products,
      .dim = dim,
  };
  const auto fetch_product = [&](size_t stop) {  // of the maps before a stop
    if (stop < 2 || stop > step.block) return;
    const float* product = closed_product(head, step.block - stop + 1);
    for (size_t i = 0; i < dim * width; i += kAlignment / sizeof(float))
      __builtin_prefetch(product + i, 0, 2);
  };
  for (size_t stop = 1; stop < kProductsAhead; ++stop) fetch_product(stop);
  for (size_t query = head * group_; query < (head + 1) * group_; ++query) {
    load_tile(tile_rows(q, token, 1, query), {}, s.load);
    std::copy_n(s.load, width, step.x + query * width);
  }
  walk_pending(pending, {step.x + head * group_ * width, width,
                         step.pending_scores + head * group_ * kTile, kTile, group_});
  for (size_t stop = 1; stop <= step.block; ++stop) {
    fetch_product(stop + kProductsAhead - 1);
    const float* from = step.x + ((stop - 1) * g_.heads + head * group_) * width;
    float* to = step.x + (stop * g_.heads + head * group_) * width;
    const float* product =
        stop == 1 ? open(head, step.block).transposed : closed_product(head, step.block - stop + 1);
    if (stop == 1 && step.carried == 0)
      std::copy_n(from, group_ * width, to);
    else
      multiply(f32_tile_kernel(), {group_, width, dim}, plain(from, width), {product, width},
               {to, width});
  }
}

// gate_scale (c_i - c_j) in units of log2, for the keys of a range.
const float* PathCache::range_bias(const DecodeStep& step, size_t first_head, size_t key0,
                                   size_t count, const DecodeScratch& s) const {
  if (gate_.empty()) return nullptr;
  const double unit = attention_.options().gate_scale * static_cast<double>(kLog2E);
  for (size_t member = 0; member < group_; ++member) {
    const double* c = gate_.data() + (first_head + member) * capacity_;
    for (size_t j = 0; j < count; ++j)
      s.bias[member * count + j] = static_cast<float>(unit * (c[step.position] - c[key0 + j]));
  }
  return s.bias;
}

void PathCache::read_range(const DecodeStep& step, size_t head, size_t range,
                           const DecodeScratch& s) {
  const size_t first = head * group_, at = range * g_.heads + first, value_dim = g_.value_dim;
  const bool pending = range == 0, closed = range > step.open_ranges;
  const Open now = open(head, step.block);
  size_t key0 = step.tile, count = step.pending, stop = 0;
  DecodeRange r{.group = group_, .factor = attention_.scale() * kLog2E, .scores = s.scores};
  if (closed) {
    key0 = (range - 1 - step.open_ranges) * kRange;
    count = kRange;
    stop = step.block - key0 / kCacheBlock;
    r.keys = closed_keys(head, key0, count);
    r.values = closed_values(head, key0, count);
    const size_t left = step.block * kCacheBlock - key0 - count;
    r.next_keys = closed_keys(head, key0 + count, std::min(kRange, left));
  } else {
    if (!pending) {
      key0 = step.begin + (range - 1) * kRange;
      count = std::min(kRange, step.tile - key0);
      r.keys =
          View2<float>(now.keys + (key0 - step.begin) * size_.width, count, size_.dim, size_.width);
    }
    r.values = View2<float>(now.values + (key0 - step.begin) * value_dim, count, value_dim);
  }
  r.bias = range_bias(step, first, key0, count, s);
  const DecodePart part{step.maximum + at, step.sum + at, step.parts + at * value_dim};
  if (pending) {
    for (size_t n = 0; n < group_ * count; ++n)
      s.scores[n] = r.factor * step.pending_scores[(first + n / count) * kTile + n % count] +
                    (r.bias == nullptr ? 0 : r.bias[n]);
    return decode_scores(r, part);
  }
  for (size_t member = 0; member < group_; ++member)
    std::copy_n(step.x + (stop * g_.heads + first + member) * size_.width, size_.dim,
                s.queries + member * size_.dim);
  r.queries = s.queries;
  decode_range(r, part);
}

void PathCache::merge(const DecodeStep& step, const AnyView3& out, size_t token) const {
  for (size_t head = 0; head < g_.heads; ++head) {
    float* merged = step.merged + head * g_.value_dim;
    merge_parts(step.maximum + head, step.sum + head, step.ranges, g_.heads,
                step.parts + head * g_.value_dim, g_.value_dim, merged);
    const AnyView2 to = tile_rows(out, token, 1, head);
    if (to.dtype == DType::f32)
      std::copy_n(merged, g_.value_dim, static_cast<float*>(to.data));
    else
      std::transform(merged, merged + g_.value_dim, static_cast<bf16*>(to.data), bf16::from_float);
  }
}

void PathCache::attend_one(const AnyView3& q, const FrontRows& rows, const AttentionInputs& inputs,
                           size_t token, const AnyView3& out, Arena arena, ThreadTeam& team) {
  const DecodeStep step = take_step(arena, length_ + token);
  Arena one;
  take_decode_scratch(one);
  const auto scratch = [&](int thread) {
    Arena own = arena;
    own.take<std::byte>(one.used() * thread);
    return take_decode_scratch(own);
  };
  team.run(g_.kv_heads, [&](size_t head, int thread) {
    const DecodeScratch s = scratch(thread);
    remember(inputs, rows, head, token, 1, step.position, s.load);
    walk(step, q, token, head, s);
  });
  team.run(g_.kv_heads * step.ranges, [&](size_t chunk, int thread) {
    read_range(step, chunk % g_.kv_heads, chunk / g_.kv_heads, scratch(thread));
  });
  merge(step, out, token);
  if ((step.position + 1) % kTile != 0) return;
  const PathInputs history = history_inputs();
  const Tile tile{static_cast<int32_t>(slot(step.tile)), kTile, 0};
  team.run(g_.kv_heads, [&](size_t head, int thread) {
    const DecodeScratch s = scratch(thread);
    make_block(history, size_, tile, head, f32_tile_kernel(), s.work);
    close_tile(head, step.position + 1, s.work, s.load);
  });
}

}  // namespace cairn
