#include "cairn/attention/softmax/cache.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "cairn/attention/checks.h"
#include "cairn/attention/softmax/decode.h"
#include "cairn/attention/softmax/forward.h"
#include "cairn/attention/softmax/prune.h"

namespace cairn {
namespace {

constexpr std::string_view kAppending = "appending to an attention cache";
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

void write_row(const float* from, const AnyView2& to) {
  if (to.dtype == DType::f32)
    std::copy_n(from, to.cols, static_cast<float*>(to.data));
  else
    std::transform(from, from + to.cols, static_cast<bf16*>(to.data), bf16::from_float);
}

// The scratch of one step. Part p of head h lies at p * heads + h.
struct StepSpace {
  StepSpace(Arena& arena, const AttentionGeometry& g, size_t ranges, int threads, bool biased) {
    const size_t group = g.heads / g.kv_heads;
    rotated = arena.take<float>(kTile * padded_width(g.head_dim));
    queries = arena.take<float>(g.heads * g.head_dim);
    maximum = arena.take<float>(ranges * g.heads);
    sum = arena.take<float>(ranges * g.heads);
    parts = arena.take<float>(ranges * g.heads * g.value_dim);
    merged = arena.take<float>(g.value_dim);
    scores = arena.take<float>(group * kRange * threads);
    if (biased) bias = arena.take<float>(group * kRange * threads);
    first_key = arena.take<size_t>(g.kv_heads);
  }
  float* rotated;
  float* queries;  // [heads][head_dim]
  float* maximum;  // [ranges][heads]
  float* sum;
  float* parts;  // [ranges][heads][value_dim]
  float* merged;
  float* scores;          // [threads][group][kRange]
  float* bias = nullptr;  // the same
  size_t* first_key;      // [kv_heads]
};

// What a blockwise pass lays out before it runs.
struct BlockwiseSpace {
  BlockwiseSpace(Arena& arena, const SoftmaxCore& core, size_t tiles, size_t query_tiles) {
    plan = take_plan(arena, tiles);
    query_tile = arena.take<Tile>(query_tiles);
    if (core.mask == AttentionMask::cross) {
      first_key = arena.take<int32_t>(query_tiles * kTile);
      last_key = arena.take<int32_t>(query_tiles * kTile);
    }
    if (!core.biased) return;
    sequence_slot = arena.take<int32_t>(tiles * kTile);
    first_tile = arena.take<int32_t>(core.geometry.heads * query_tiles);
    scratch = arena.take<float>(prune_scratch(core.geometry, tiles));
  }
  TilePlan plan;
  Tile* query_tile;
  int32_t *first_key = nullptr, *last_key = nullptr;        // of each query, in cross-attention
  int32_t *sequence_slot = nullptr, *first_tile = nullptr;  // with potentials
  float* scratch = nullptr;
};

}  // namespace

KeyValueCache::KeyValueCache(const SoftmaxCore& core, size_t capacity, DType dtype)
    : core_(core), capacity_(capacity), dtype_(dtype) {
  const AttentionGeometry& g = core_.geometry;
  if (dtype != DType::f32 && dtype != DType::bf16)
    refuse("making an attention cache", "type", "f32 or bf16", std::string(dtype_name(dtype)));
  const size_t rows = capacity * g.kv_heads * dtype_size(dtype);
  keys_ = AlignedBuffer(rows * g.head_dim);
  values_ = AlignedBuffer(rows * g.value_dim);
  if (core.biased) potentials_.resize(g.heads * capacity);
  largest_key_.resize(g.kv_heads);
  positions_.resize(capacity);
  std::iota(positions_.begin(), positions_.end(), 0);
}

size_t KeyValueCache::bytes() const {
  return keys_.size() + values_.size() + potentials_.size() * sizeof(double) + workspace_.size();
}

std::optional<AttentionStatistics> KeyValueCache::statistics() const {
  if (!core_.biased) return std::nullopt;
  return statistics_;
}

AnyView3 KeyValueCache::key_view() const {
  return cache_view(keys_, dtype_, capacity_, core_.geometry.kv_heads, core_.geometry.head_dim);
}

AnyView3 KeyValueCache::value_view() const {
  return cache_view(values_, dtype_, capacity_, core_.geometry.kv_heads, core_.geometry.value_dim);
}

ScorePotentials KeyValueCache::potentials(const int32_t* sequence_slot) const {
  if (!core_.biased) return {};
  return {.queries = potentials_.data() + length_,
          .keys = potentials_.data(),
          .query_stride = capacity_,
          .key_stride = capacity_,
          .sequence_slot = sequence_slot};
}

Arena KeyValueCache::workspace(size_t bytes) {
  if (workspace_.size() < bytes) workspace_ = AlignedBuffer(bytes + bytes / 2);
  return Arena(std::span<std::byte>(workspace_.data(), workspace_.size()));
}

void KeyValueCache::check_room(size_t tokens) const {
  if (tokens > capacity_ - length_)
    refuse(kAppending, "tokens",
           "at most " + std::to_string(capacity_ - length_) + " more (capacity " +
               std::to_string(capacity_) + ")",
           std::to_string(tokens));
}

void KeyValueCache::append(const AttentionInputs& inputs, Potentials potentials, ThreadTeam& team) {
  const AttentionGeometry& g = core_.geometry;
  const size_t tokens = inputs.k.tokens, tiles = chunk_count(tokens, kTile);
  const size_t widest = kTile * padded_width(std::max(g.head_dim, g.value_dim));
  Arena arena = workspace(align_up(widest * sizeof(float), kAlignment) * team.size());
  float* scratch = arena.take<float>(widest * team.size());
  team.run(g.kv_heads * tiles, [&](size_t chunk, int thread) {
    const size_t head = chunk / tiles, begin = chunk % tiles * kTile;
    const size_t count = std::min(kTile, tokens - begin);
    float* tile = scratch + widest * thread;
    load_tile(tile_rows(inputs.k, begin, count, head), rows_from(rotation(), begin), tile);
    unload_tile(tile, 1.0F, {}, tile_rows(key_view(), length_ + begin, count, head));
    load_tile(tile_rows(inputs.v, begin, count, head), {}, tile);
    unload_tile(tile, 1.0F, {}, tile_rows(value_view(), length_ + begin, count, head));
  });
  if (!core_.biased) return;
  for (size_t head = 0; head < g.heads; ++head)
    std::copy_n(potentials + head * tokens, tokens, &potentials_[head * capacity_ + length_]);
  for (size_t head = 0; head < g.kv_heads; ++head)
    for (size_t begin = 0; begin < tokens; begin += kTile) {
      const size_t count = std::min(kTile, tokens - begin);
      const float norm = largest_norm(tile_rows(key_view(), length_ + begin, count, head));
      if (!(norm <= largest_key_[head])) largest_key_[head] = norm;  // NaN stays
    }
}

void KeyValueCache::attend_blockwise(const AttentionInputs& inputs, const AnyView3& out,
                                     const ScoreBias* bias, ThreadTeam& team) {
  const AttentionGeometry& g = core_.geometry;
  const size_t tokens = inputs.q.tokens, total = keys_of(tokens - 1);
  const size_t query_tiles = chunk_count(tokens, kTile), tiles = most_tiles(total);
  const TileKernel& kernel = tile_kernel_for(inputs.q.dtype);
  Arena sizes;
  const BlockwiseSpace counted(sizes, core_, tiles, query_tiles);
  Arena arena = workspace(sizes.used() + forward_workspace(g, kernel, tiles, team.size()));
  BlockwiseSpace s(arena, core_, tiles, query_tiles);
  const int32_t offsets[] = {0, static_cast<int32_t>(total)};
  fill_plan(s.plan, {offsets, 2});
  if (core_.biased) std::fill_n(s.sequence_slot, s.plan.slots(), 0);
  if (core_.window > 0) narrow_to_window(s.plan, core_.window);
  ForwardTask task;
  if (crosses()) {
    s.plan.causal = false;
    std::fill_n(s.first_key, query_tiles * kTile, 0);
    std::fill_n(s.last_key, query_tiles * kTile, static_cast<int32_t>(total) - 1);
    task.first_key = s.first_key;
    task.last_key = s.last_key;
  } else {
    task.first_key = s.plan.first_key + length_;
    task.last_key = s.plan.last_key + length_;
    task.query_slot = length_;
  }
  for (size_t t = 0; t < query_tiles; ++t) {
    const size_t begin = t * kTile, count = std::min(kTile, tokens - begin);
    s.query_tile[t] = {static_cast<int32_t>(begin), static_cast<int32_t>(count),
                       task.first_key[begin], task.last_key[begin + count - 1]};
  }
  task.plan = s.plan;
  task.q = inputs.q;
  task.k = first_tokens(key_view(), total);
  task.v = first_tokens(value_view(), total);
  task.out = out;
  task.rotate_q = rotation();
  task.scale = g.scale;
  const ScorePotentials given = potentials(s.sequence_slot);
  const PotentialBias potential_bias(given);
  task.bias = core_.biased ? &potential_bias : bias;
  task.query_tiles = query_tiles;
  task.query_tile = s.query_tile;
  task.first_tile = s.first_tile;
  if (core_.biased) {
    find_first_tiles({task.q, task.k, g.scale, given, s.plan, query_tiles, s.query_tile, length_},
                     g, s.scratch, s.first_tile, team);
    count_blockwise(query_tiles, s.query_tile, s.first_tile);
  }
  run_forward(task, g, kernel, arena, team);
}

void KeyValueCache::count_blockwise(size_t query_tiles, const Tile* query_tile,
                                    const int32_t* first_tile) {
  const size_t group = core_.geometry.heads / core_.geometry.kv_heads;
  for (size_t kv_head = 0; kv_head < core_.geometry.kv_heads; ++kv_head) {
    for (size_t t = 0; t < query_tiles; ++t) {
      int32_t first = first_tile[kv_head * group * query_tiles + t];
      for (size_t i = 1; i < group; ++i)
        first = std::min(first, first_tile[(kv_head * group + i) * query_tiles + t]);
      const size_t tokens = query_tile[t].tokens, begin = query_tile[t].first_key;
      const size_t end = length_ + query_tile[t].token + tokens;
      statistics_.visible += tokens * (end - begin);
      statistics_.visited += tokens * (end - std::max(begin, first * kTile));
    }
  }
}

size_t KeyValueCache::first_key(size_t position, size_t kv_head, const float* queries,
                                size_t grain) const {
  const AttentionGeometry& g = core_.geometry;
  const size_t seen = position + 1;
  size_t first = core_.window == 0 || core_.window >= seen ? 0 : seen - core_.window;
  if (!core_.biased) return first;
  const size_t group = g.heads / g.kv_heads;
  const double most = std::log(static_cast<double>(seen)) + kPruneMargin;
  const auto forgotten = [&](size_t key) {  // this key and all before it, by all heads
    for (size_t i = 0; i < group; ++i) {
      float* query = const_cast<float*>(queries) + i * g.head_dim;
      const float norm = largest_norm({query, DType::f32, 1, g.head_dim, g.head_dim});
      const double* potential = potentials_.data() + (kv_head * group + i) * capacity_;
      const double reach = 2.0 * g.scale * norm * largest_key_[kv_head];
      if (!(reach + potential[position] - potential[key] + most < 0)) return false;
    }
    return true;
  };
  for (size_t end = (first / grain + 1) * grain; end <= position && forgotten(end - 1);
       end += grain)
    first = end;
  return first;
}

void KeyValueCache::attend_one(const AnyView3& q, size_t token, const AnyView3& out,
                               const ScoreBias* bias, ThreadTeam& team) {
  const AttentionGeometry& g = core_.geometry;
  const size_t keys = keys_of(token), position = keys - 1;
  const size_t ranges = chunk_count(keys, kRange), group = g.heads / g.kv_heads;
  const PotentialBias potential_bias(potentials(nullptr));
  if (core_.biased) bias = &potential_bias;
  Arena sizes;
  const StepSpace counted(sizes, g, ranges, team.size(), bias != nullptr);
  Arena arena = workspace(sizes.used());
  const StepSpace s(arena, g, ranges, team.size(), bias != nullptr);
  for (size_t head = 0; head < g.heads; ++head) {
    load_tile(tile_rows(q, token, 1, head), rows_from(rotation(), token), s.rotated);
    std::copy_n(s.rotated, g.head_dim, s.queries + head * g.head_dim);
  }
  for (size_t head = 0; head < g.kv_heads; ++head) {
    s.first_key[head] = first_key(position, head, s.queries + head * group * g.head_dim, kRange);
    statistics_.visible += core_.window == 0 ? keys : std::min(keys, core_.window);
    statistics_.visited += keys - s.first_key[head];
  }
  team.run(g.kv_heads * ranges, [&](size_t chunk, int thread) {
    const size_t head = chunk % g.kv_heads, range = chunk / g.kv_heads;
    const size_t begin = std::max(range * kRange, s.first_key[head]);
    const size_t end = std::min(keys, (range + 1) * kRange);
    if (begin >= end) return;
    const size_t first = head * group, at = range * g.heads + first, count = end - begin;
    float* added = bias != nullptr ? s.bias + group * kRange * thread : nullptr;
    for (size_t i = 0; added != nullptr && i < group; ++i)
      bias->fill_row({first + i, token, position, begin, count}, added + i * count);
    for (size_t i = 0; added != nullptr && i < group * count; ++i) added[i] *= kLog2E;
    decode_range({.queries = s.queries + first * g.head_dim,
                  .group = group,
                  .keys = tile_rows(key_view(), begin, count, head),
                  .values = tile_rows(value_view(), begin, count, head),
                  .next_keys = tile_rows(key_view(), end, std::min(kRange, keys - end), head),
                  .factor = g.scale * kLog2E,
                  .bias = added,
                  .scores = s.scores + group * kRange * thread},
                 {s.maximum + at, s.sum + at, s.parts + at * g.value_dim});
  });
  for (size_t head = 0; head < g.heads; ++head) {
    const size_t from = s.first_key[head / group] / kRange, at = from * g.heads + head;
    merge_parts(s.maximum + at, s.sum + at, ranges - from, g.heads, s.parts + at * g.value_dim,
                g.value_dim, s.merged);
    write_row(s.merged, tile_rows(out, token, 1, head));
  }
}

void KeyValueCache::attend(const AttentionInputs& inputs, const AnyView3& out,
                           const ScoreBias* bias, ThreadTeam& team) {
  const size_t tokens = inputs.q.tokens;
  if (tokens >= kBlockwiseFrom) {
    attend_blockwise(inputs, out, bias, team);
  } else {
    for (size_t token = 0; token < tokens; ++token) attend_one(inputs.q, token, out, bias, team);
  }
}

// In cross-attention a side that is not there needs no shape.
void KeyValueCache::check_inputs(const AttentionInputs& inputs, const AnyView3& out) const {
  const AttentionGeometry& g = core_.geometry;
  const size_t tokens = inputs.q.tokens, keys = crosses() ? inputs.k.tokens : tokens;
  const DType dtype = crosses() && tokens == 0 ? inputs.k.dtype : inputs.q.dtype;
  if (!crosses() || tokens > 0) {
    check_heads(kAppending, "q", inputs.q, tokens, g.heads, g.head_dim, dtype);
    check_heads(kAppending, "out", out, tokens, g.heads, g.value_dim, dtype);
  }
  if (!crosses() || keys > 0) {
    check_heads(kAppending, "k", inputs.k, keys, g.kv_heads, g.head_dim, dtype);
    check_heads(kAppending, "v", inputs.v, keys, g.kv_heads, g.value_dim, dtype);
  }
}

void KeyValueCache::append_and_attend(const AttentionInputs& inputs, Potentials potentials,
                                      AnyView3 out, ThreadTeam& team, const ScoreBias* bias) {
  const size_t tokens = inputs.q.tokens, keys = inputs.k.tokens;
  check_inputs(inputs, out);
  check_room(keys);
  if (crosses() && tokens > 0 && length_ + keys == 0)
    refuse("attending to a source", "keys", "at least one before the first query", "none");
  if (core_.rotary != nullptr)
    check_positions(kAppending, {positions_.data() + length_, tokens}, tokens,
                    core_.rotary->positions());
  if (keys > 0) append(inputs, potentials, team);
  if (crosses()) length_ += keys;
  if (tokens > 0) attend(inputs, out, bias, team);
  if (!crosses()) length_ += keys;
}

void KeyValueCache::truncate(size_t length) {
  if (length > length_)
    refuse("truncating an attention cache", "length", "at most " + std::to_string(length_),
           std::to_string(length));
  length_ = length;
}

KeyValueCache KeyValueCache::fork() const {
  const AttentionGeometry& g = core_.geometry;
  KeyValueCache copy(core_, capacity_, dtype_);
  const size_t size = dtype_size(dtype_);
  for (size_t head = 0; head < g.kv_heads; ++head) {
    const auto copy_head = [&](const AlignedBuffer& from, AlignedBuffer& to, size_t dim) {
      const size_t at = head * capacity_ * dim * size;
      std::memcpy(to.data() + at, from.data() + at, length_ * dim * size);
    };
    copy_head(keys_, copy.keys_, g.head_dim);
    copy_head(values_, copy.values_, g.value_dim);
  }
  copy.potentials_ = potentials_;
  copy.largest_key_ = largest_key_;
  copy.statistics_ = statistics_;
  copy.length_ = length_;
  return copy;
}

}  // namespace cairn
