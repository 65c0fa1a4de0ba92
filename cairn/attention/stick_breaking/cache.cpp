// Keys and values of one sequence during generation, as they came: there are no positions. Prompts
// go through the blockwise pass, single tokens through decode.h.
#include <algorithm>
#include <cstring>
#include <vector>

#include "cairn/attention/checks.h"
#include "cairn/attention/stick_breaking/decode.h"
#include "cairn/attention/stick_breaking/forward.h"
#include "cairn/attention/stick_breaking/rows.h"
#include "cairn/attention/stick_breaking/steps.h"
#include "cairn/attention/stick_breaking/stick_breaking.h"
#include "cairn/base/memory.h"
#include "cairn/tensor/shape.h"

namespace cairn {
namespace {

constexpr size_t kBlockwiseFrom = 8;    // new tokens; below, packing all keys does not pay
constexpr size_t kRange = kStickRange;  // keys of one unit of a decode step
constexpr size_t kFirstChunk = 64;      // the newest keys often take it all
constexpr std::string_view kAppending = "appending to an attention cache";

// What a decode step works with.
struct StepSpace {
  float* load = nullptr;      // [kTile][width]
  float* queries = nullptr;   // [heads][head_dim]
  float* offsets = nullptr;   // [heads] of GateRule
  float* weights = nullptr;   // [threads][group][kStickRange]
  double* sticks = nullptr;   // [ranges][heads] of each range; range 0 is the newest
  float* outs = nullptr;      // [ranges][heads][value_dim]
  size_t* visited = nullptr;  // [ranges][kv_heads] keys read
  size_t* live = nullptr;     // [kv_heads] key heads whose walk goes on
};

class StickBreakingCache : public AttentionCache {
 public:
  StickBreakingCache(const StickBreakingAttention& attention, size_t capacity, DType dtype)
      : attention_(attention),
        core_(attention.core()),
        g_(core_.geometry),
        capacity_(capacity),
        dtype_(dtype) {
    if (dtype != DType::f32 && dtype != DType::bf16)
      refuse("making an attention cache", "type", "f32 or bf16", std::string(dtype_name(dtype)));
    const size_t rows = capacity * g_.kv_heads * dtype_size(dtype);
    keys_ = AlignedBuffer(rows * g_.head_dim);
    values_ = AlignedBuffer(rows * g_.value_dim);
  }

  size_t length() const override { return length_; }
  size_t bytes() const override { return keys_.size() + values_.size() + workspace_.size(); }
  void append_and_attend(const AttentionInputs& inputs, AnyView3 out, ThreadTeam& team) override;
  void truncate(size_t length) override;
  std::unique_ptr<AttentionCache> fork() const override;
  std::optional<AttentionStatistics> statistics() const override;

 private:
  AnyView3 view(AlignedBuffer& buffer, size_t dim, size_t tokens) const;
  AnyView3 key_view(size_t tokens) { return view(keys_, g_.head_dim, tokens); }
  AnyView3 value_view(size_t tokens) { return view(values_, g_.value_dim, tokens); }
  Arena workspace(size_t bytes);
  void check(const AttentionInputs& inputs, const AnyView3& out) const;
  void append(const AttentionInputs& inputs, ThreadTeam& team);
  void attend_blockwise(const StickInputs& inputs, const AnyView3& out, ThreadTeam& team);
  void count_passage(const StickPassage& passage, const StickStore& store);
  void attend_one(const StickInputs& inputs, size_t token, const AnyView3& out, ThreadTeam& team);
  StepSpace take_step(Arena& arena, size_t ranges, int threads) const;
  void load_queries(const StickInputs& inputs, size_t token, const StepSpace& s) const;
  void read_ranges(size_t keys, size_t first, size_t count, size_t live, const StepSpace& s,
                   ThreadTeam& team);
  size_t merge_ranges(size_t first, size_t count, size_t live, const StepSpace& s) const;
  void finish_step(const StickInputs& inputs, size_t token, const StepSpace& s,
                   const AnyView3& out);

  const StickBreakingAttention& attention_;
  const StickBreaking& core_;
  AttentionGeometry g_;
  size_t capacity_;
  DType dtype_;
  size_t length_ = 0;
  AlignedBuffer keys_, values_;  // [kv_heads, capacity, dim]
  AlignedBuffer workspace_;      // grows to what the largest call so far needed
  uint64_t visible_ = 0, visited_ = 0, rows_ = 0;
  double remainders_ = 0;
};

AnyView3 StickBreakingCache::view(AlignedBuffer& buffer, size_t dim, size_t tokens) const {
  AnyView3 view;
  view.data = buffer.data();
  view.dtype = dtype_;
  view.tokens = tokens;
  view.heads = g_.kv_heads;
  view.dim = dim;
  view.token_stride = dim;
  view.head_stride = capacity_ * dim;
  return view;
}

Arena StickBreakingCache::workspace(size_t bytes) {
  if (workspace_.size() < bytes) workspace_ = AlignedBuffer(bytes + bytes / 2);
  return Arena(std::span<std::byte>(workspace_.data(), workspace_.size()));
}

void StickBreakingCache::check(const AttentionInputs& inputs, const AnyView3& out) const {
  const size_t tokens = inputs.q.tokens;
  if (tokens > capacity_ - length_)
    refuse(kAppending, "tokens",
           "at most " + std::to_string(capacity_ - length_) + " more (capacity " +
               std::to_string(capacity_) + ")",
           std::to_string(tokens));
  check_queries_keys_values(kAppending, g_, inputs);
  check_heads(kAppending, "out", out, tokens, g_.heads, g_.value_dim, inputs.q.dtype);
}

void StickBreakingCache::append(const AttentionInputs& inputs, ThreadTeam& team) {
  const size_t tokens = inputs.q.tokens, tiles = chunk_count(tokens, kTile);
  const size_t widest = kTile * padded_width(std::max(g_.head_dim, g_.value_dim));
  const AnyView3 keys = key_view(length_ + tokens), values = value_view(length_ + tokens);
  Arena arena = workspace(align_up(widest * sizeof(float), kAlignment) * team.size());
  float* scratch = arena.take<float>(widest * team.size());
  team.run(g_.kv_heads * tiles, [&](size_t chunk, int thread) {
    const size_t head = chunk / tiles, begin = chunk % tiles * kTile;
    const size_t count = std::min(kTile, tokens - begin);
    float* tile = scratch + widest * thread;
    load_tile(tile_rows(inputs.k, begin, count, head), {}, tile);
    unload_tile(tile, 1.0F, {}, tile_rows(keys, length_ + begin, count, head));
    load_tile(tile_rows(inputs.v, begin, count, head), {}, tile);
    unload_tile(tile, 1.0F, {}, tile_rows(values, length_ + begin, count, head));
  });
}

void StickBreakingCache::attend_blockwise(const StickInputs& inputs, const AnyView3& out,
                                          ThreadTeam& team) {
  const size_t tokens = inputs.q.tokens, total = length_ + tokens;
  const StickPassage passage{0, tokens, 0, total};
  const TileKernel& kernel = tile_kernel_for(inputs.q.dtype);
  const auto take = [&](Arena& arena) {
    StickStore store;
    store.tokens = tokens;
    store.remainder = arena.take<float>(g_.heads * tokens);
    store.first_tile = arena.take<int32_t>(g_.heads * tokens);
    return store;
  };
  Arena sizes;
  take(sizes);
  Arena arena = workspace(sizes.used() +
                          stick_forward_workspace(g_, kernel, passage.key_tiles(), team.size()));
  StickInputs cached = inputs;
  cached.k = key_view(total);
  cached.v = value_view(total);
  const StickForwardTask task{core_, cached, out, {}, take(arena)};
  run_stick_passage(task, passage, arena, team);
  count_passage(passage, task.store);
}

void StickBreakingCache::count_passage(const StickPassage& passage, const StickStore& store) {
  for (size_t head = 0; head < g_.heads; ++head)
    for (size_t t = 0; t < passage.query_tiles(); ++t) {
      const size_t end =
          passage.keys - passage.queries + std::min(passage.queries, (t + 1) * kTile);
      visible_ += end;
      visited_ += end - store.first_tile[head * store.tokens + t * kTile] * kTile;
    }
  rows_ += g_.heads * store.tokens;
  for (size_t i = 0; i < g_.heads * store.tokens; ++i) remainders_ += store.remainder[i];
}

StepSpace StickBreakingCache::take_step(Arena& arena, size_t ranges, int threads) const {
  StepSpace s;
  s.load = arena.take<float>(kTile * padded_width(std::max(g_.head_dim, g_.value_dim)));
  s.queries = arena.take<float>(g_.heads * g_.head_dim);
  s.offsets = arena.take<float>(g_.heads);
  s.weights = arena.take<float>(g_.heads / g_.kv_heads * kStickRange * threads);
  s.sticks = arena.take<double>(ranges * g_.heads);
  s.outs = arena.take<float>(ranges * g_.heads * g_.value_dim);
  s.visited = arena.take<size_t>(ranges * g_.kv_heads);
  s.live = arena.take<size_t>(g_.kv_heads);
  return s;
}

void StickBreakingCache::load_queries(const StickInputs& inputs, size_t token,
                                      const StepSpace& s) const {
  const View1<const float>& bias = inputs.vectors.logit_bias;
  for (size_t head = 0; head < g_.heads; ++head) {
    load_tile(tile_rows(inputs.q, token, 1, head), {}, s.load);
    std::copy_n(s.load, g_.head_dim, s.queries + head * g_.head_dim);
    s.offsets[head] = bias.empty() ? 0 : bias[head] * kLogitToExponent;
  }
}

// Ranges [first, first + count), counted from the newest, of the `live` key heads.
void StickBreakingCache::read_ranges(size_t keys, size_t first, size_t count, size_t live,
                                     const StepSpace& s, ThreadTeam& team) {
  const size_t group = g_.heads / g_.kv_heads;
  const AnyView3 all_keys = key_view(keys), all_values = value_view(keys);
  team.run(live * count, [&](size_t chunk, int thread) {
    const size_t head = s.live[chunk % live], range = first + chunk / live;
    const size_t end = keys - range * kRange, begin = end - std::min(end, kRange);
    const size_t at = range * g_.heads + head * group;
    s.visited[range * g_.kv_heads + head] =
        decode_stick_range({.queries = s.queries + head * group * g_.head_dim,
                            .group = group,
                            .keys = tile_rows(all_keys, begin, end - begin, head),
                            .values = tile_rows(all_values, begin, end - begin, head),
                            .offsets = s.offsets + head * group,
                            .factor = g_.scale * kLogitToExponent,
                            .floor = core_.options.gate_floor,
                            .threshold = core_.options.exit_threshold,
                            .chunk = range == 0 ? kFirstChunk : kStickRange,
                            .weights = s.weights + group * kStickRange * thread},
                           {s.sticks + at, s.outs + at * g_.value_dim});
  });
}

// Merges them into range 0, newest first, and keeps those key heads live that have stick left.
// Returns their number.
size_t StickBreakingCache::merge_ranges(size_t first, size_t count, size_t live,
                                        const StepSpace& s) const {
  const size_t group = g_.heads / g_.kv_heads;
  const double threshold = core_.options.exit_threshold;
  const auto part = [&](size_t range, size_t head) {
    const size_t at = range * g_.heads + head * group;
    return StickPart{s.sticks + at, s.outs + at * g_.value_dim};
  };
  size_t left = 0;
  for (size_t i = 0; i < live; ++i) {
    const size_t head = s.live[i];
    const StickPart merged = part(0, head);
    const auto spent = [&] {
      return threshold > 0 && std::all_of(merged.stick, merged.stick + group,
                                          [&](double stick) { return stick <= threshold; });
    };
    for (size_t range = std::max<size_t>(first, 1); range < first + count && !spent(); ++range)
      merge_older(group, g_.value_dim, part(range, head), merged);
    if (!spent()) s.live[left++] = head;
  }
  return left;
}

void StickBreakingCache::finish_step(const StickInputs& inputs, size_t token, const StepSpace& s,
                                     const AnyView3& out) {
  const RowEnd row_end{core_, inputs.v, inputs.vectors};
  for (size_t head = 0; head < g_.heads; ++head) {
    const auto remainder = static_cast<float>(s.sticks[head]);
    float row[256] = {};
    std::copy_n(s.outs + head * g_.value_dim, g_.value_dim, row);
    row_end.add_remainder(token, 1, head, &remainder, row, s.load);
    row_end.normalize(1, head, row, nullptr);
    unload_tile(row, 1.0F, {}, tile_rows(out, token, 1, head));
    remainders_ += remainder;
  }
  rows_ += g_.heads;
}

// Ranges are read in waves that double: little is read in vain when the sticks are soon spent, and
// there are few waves when they last. What is merged does not depend on it.
void StickBreakingCache::attend_one(const StickInputs& inputs, size_t token, const AnyView3& out,
                                    ThreadTeam& team) {
  const size_t keys = length_ + token + (core_.options.attend_current ? 1 : 0);
  const size_t ranges = chunk_count(keys, kRange), group = g_.heads / g_.kv_heads;
  Arena sizes;
  take_step(sizes, std::max<size_t>(ranges, 1), team.size());
  Arena arena = workspace(sizes.used());
  const StepSpace s = take_step(arena, std::max<size_t>(ranges, 1), team.size());
  load_queries(inputs, token, s);
  std::fill_n(s.sticks, g_.heads, 1.0);  // the empty walk of a first token
  std::fill_n(s.outs, g_.heads * g_.value_dim, 0.0F);
  std::fill_n(s.visited, ranges * g_.kv_heads, 0);
  for (size_t head = 0; head < g_.kv_heads; ++head) s.live[head] = head;
  size_t live = g_.kv_heads, wave = core_.options.exit_threshold > 0 ? 1 : ranges;
  for (size_t first = 0; first < ranges && live > 0; first += wave, wave *= 2) {
    const size_t count = std::min(wave, ranges - first);
    read_ranges(keys, first, count, live, s, team);
    live = merge_ranges(first, count, live, s);
  }
  visible_ += keys * g_.heads;
  for (size_t i = 0; i < ranges * g_.kv_heads; ++i) visited_ += s.visited[i] * group;
  finish_step(inputs, token, s, out);
}

void StickBreakingCache::append_and_attend(const AttentionInputs& inputs, AnyView3 out,
                                           ThreadTeam& team) {
  check(inputs, out);
  const StickInputs in = attention_.core_inputs(kAppending, inputs);
  const size_t tokens = inputs.q.tokens;
  if (tokens == 0) return;
  append(inputs, team);
  if (tokens >= kBlockwiseFrom) {
    attend_blockwise(in, out, team);
  } else {
    for (size_t token = 0; token < tokens; ++token) attend_one(in, token, out, team);
  }
  length_ += tokens;
}

void StickBreakingCache::truncate(size_t length) {
  if (length > length_)
    refuse("truncating an attention cache", "length", "at most " + std::to_string(length_),
           std::to_string(length));
  length_ = length;
}

std::unique_ptr<AttentionCache> StickBreakingCache::fork() const {
  auto copy = std::make_unique<StickBreakingCache>(attention_, capacity_, dtype_);
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
  copy->visible_ = visible_;
  copy->visited_ = visited_;
  copy->rows_ = rows_;
  copy->remainders_ = remainders_;
  return copy;
}

std::optional<AttentionStatistics> StickBreakingCache::statistics() const {
  return AttentionStatistics{visible_, visited_,
                             rows_ == 0 ? 0 : remainders_ / static_cast<double>(rows_)};
}

}  // namespace

std::unique_ptr<AttentionCache> StickBreakingAttention::make_cache(size_t capacity,
                                                                   DType dtype) const {
  return std::make_unique<StickBreakingCache>(*this, capacity, dtype);
}

}  // namespace cairn
