#include "cairn/attention/softmax/forward.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "cairn/attention/tile_pair.h"

namespace cairn {
namespace {

// Packed keys and values of a batch of key heads: [head][tile][...] in words.
struct PackedKeys {
  uint32_t* keys = nullptr;    // rows form
  uint32_t* values = nullptr;  // paired form
  size_t first_tile = 0;       // of the plan
  size_t tiles = 0;

  size_t index(size_t head, size_t tile) const { return head * tiles + tile - first_tile; }
};

// A tile of queries and what it has gathered so far.
struct Queries {
  size_t tile = 0;  // which of the task's
  size_t first_key_tile = 0, end_key_tile = 0;
  uint32_t* packed = nullptr;  // columns form
  float* out = nullptr;        // [kTile][width of v]
  OnlineSoftmax* state = nullptr;
  int32_t* first_key = nullptr;  // [kTile]
  int32_t* last_key = nullptr;   // [kTile]
};

// Query tiles of one head that walk over the keys together: a tile of keys comes from far away
// once and is used kStrip times.
constexpr size_t kStrip = 4;

// One thread's scratch.
struct Scratch {
  float* load = nullptr;        // [kTile][width of q or v]
  float* scores = nullptr;      // [kTile keys][kTile queries]
  uint32_t* weights = nullptr;  // left operand; the scores themselves in f32
  float* rescale = nullptr;     // [kTile]
  std::array<Queries, kStrip> strip;
};

Scratch take_scratch(Arena& arena, const AttentionGeometry& g, const TileKernel& kernel) {
  Scratch s;
  s.load = arena.take<float>(kTile * padded_width(std::max(g.head_dim, g.value_dim)));
  s.scores = arena.take<float>(kTile * kTile);
  s.weights = kernel.pair == 1 ? reinterpret_cast<uint32_t*>(s.scores)
                               : arena.take<uint32_t>(kTile / 2 * kTile);
  s.rescale = arena.take<float>(kTile);
  for (Queries& queries : s.strip) {
    queries.packed = arena.take<uint32_t>(kernel.columns_words(g.head_dim));
    queries.out = arena.take<float>(kTile * padded_width(g.value_dim));
    queries.state = arena.take<OnlineSoftmax>(1);
    queries.first_key = arena.take<int32_t>(kTile);
    queries.last_key = arena.take<int32_t>(kTile);
  }
  return s;
}

PackedKeys take_keys(Arena& arena, const AttentionGeometry& g, const TileKernel& kernel,
                     size_t tiles, size_t heads) {
  return {arena.take<uint32_t>(heads * tiles * kernel.rows_words(g.head_dim)),
          arena.take<uint32_t>(heads * tiles * kernel.paired_words(g.value_dim)), 0, tiles};
}

void scale_rows(const float* factors, size_t rows, size_t width, float* values) {
  for (size_t row = 0; row < rows; ++row) {
    if (factors[row] == 1.0F) continue;
    for (size_t i = 0; i < width; ++i) values[row * width + i] *= factors[row];
  }
}

class Forward {
 public:
  Forward(const ForwardTask& task, const AttentionGeometry& geometry, const TileKernel& kernel,
          PackedKeys packed)
      : task_(task),
        g_(geometry),
        kernel_(kernel),
        steps_(kernel.pair == 1 ? f32_softmax_steps() : bf16_softmax_steps()),
        packed_(packed),
        key_words_(kernel.rows_words(g_.head_dim)),
        value_words_(kernel.paired_words(g_.value_dim)) {}

  // Packs tile `t` of key head `head` as head `slot` of the batch.
  void pack(size_t slot, size_t head, size_t t, const Scratch& s) const;
  // Query tiles [first, first + count) of one head, whose key head is `slot` of the batch.
  void attend(size_t slot, size_t head, size_t first, size_t count, Scratch& s) const;

 private:
  size_t first_slot(const Queries& queries) const {
    return task_.query_slot + queries.tile * kTile;
  }
  const Tile& tile_of(const Queries& queries) const { return task_.query_tile[queries.tile]; }
  void begin(size_t head, Queries& queries, const Scratch& s) const;
  TilePair pair_of(size_t head, size_t key_tile, const Queries& queries) const;
  void visit(size_t slot, size_t head, size_t key_tile, const Queries& queries,
             const Scratch& s) const;
  void finish(size_t head, const Queries& queries) const;

  const ForwardTask& task_;
  const AttentionGeometry& g_;
  const TileKernel& kernel_;
  const SoftmaxSteps& steps_;
  const PackedKeys packed_;
  size_t key_words_, value_words_;
};

void Forward::pack(size_t slot, size_t head, size_t t, const Scratch& s) const {
  const Tile& tile = task_.plan.key_tile[t];
  const size_t token = tile.token, tokens = tile.tokens, at = packed_.index(slot, t);
  load_tile(tile_rows(task_.k, token, tokens, head), rows_from(task_.rotate_k, token), s.load);
  kernel_.to_rows(s.load, g_.head_dim, packed_.keys + at * key_words_);
  load_tile(tile_rows(task_.v, token, tokens, head), {}, s.load);
  kernel_.to_paired(s.load, g_.value_dim, packed_.values + at * value_words_);
}

void Forward::begin(size_t head, Queries& queries, const Scratch& s) const {
  const Tile& tile = tile_of(queries);
  queries.first_key_tile = tile.first_key_tile();
  queries.end_key_tile = tile.end_key_tile();
  if (!tile.sees_keys()) std::fill_n(queries.out, kTile * padded_width(g_.value_dim), 0.0F);
  if (task_.first_tile != nullptr)
    queries.first_key_tile = std::max<size_t>(
        queries.first_key_tile, task_.first_tile[head * task_.query_tiles + queries.tile]);
  load_tile(tile_rows(task_.q, tile.token, tile.tokens, head),
            rows_from(task_.rotate_q, tile.token), s.load);
  kernel_.to_columns(s.load, g_.head_dim, queries.packed);
  std::fill_n(queries.state->maximum, kTile, std::numeric_limits<float>::lowest());
  std::fill_n(queries.state->sum, kTile, 0.0F);
  for (size_t row = 0; row < kTile; ++row) {
    const bool real = row < static_cast<size_t>(tile.tokens);
    queries.first_key[row] = real ? task_.first_key[queries.tile * kTile + row] : 0;
    queries.last_key[row] = real ? task_.last_key[queries.tile * kTile + row] : -1;
  }
}

TilePair Forward::pair_of(size_t head, size_t key_tile, const Queries& queries) const {
  const size_t key0 = key_tile * kTile;
  TilePair pair;
  pair.head = head;
  pair.query_tile = queries.tile;
  pair.key_tile = key_tile;
  pair.queries = tile_of(queries).tokens;
  pair.keys = keys_in_sight(tile_of(queries), key0);
  pair.diagonal = task_.plan.causal && key0 == first_slot(queries);
  return pair;
}

void Forward::visit(size_t slot, size_t head, size_t key_tile, const Queries& queries,
                    const Scratch& s) const {
  const TilePair pair = pair_of(head, key_tile, queries);
  const size_t key0 = key_tile * kTile, at = packed_.index(slot, key_tile);
  if (task_.bias != nullptr)
    task_.bias->fill({.head = head,
                      .query = static_cast<size_t>(tile_of(queries).token),
                      .queries = pair.queries,
                      .query_slot = first_slot(queries),
                      .key_tile = task_.plan.key_tile[key_tile],
                      .key_slot = key0,
                      .keys = pair.keys,
                      .columns = pair.columns()},
                     task_.scale, s.scores);
  multiply_scores(kernel_, pair, g_.head_dim, packed_.keys + at * key_words_, queries.packed,
                  task_.bias != nullptr, s.scores);
  const bool masked =
      needs_mask(queries.first_key, queries.last_key, pair.queries, key0, pair.keys);
  const bool grown = steps_.softmax(
      {.scores = s.scores,
       .keys = pair.keys,
       .columns = pair.columns(),
       .factor = task_.scale * kLog2E,
       .mask = {queries.first_key, queries.last_key, static_cast<int32_t>(key0), masked},
       .state = queries.state,
       .rescale = s.rescale,
       .weights = s.weights});
  const bool first = key_tile == queries.first_key_tile;  // nothing gathered yet
  if (grown && !first) scale_rows(s.rescale, pair.queries, padded_width(g_.value_dim), queries.out);
  multiply_values(kernel_, pair, g_.value_dim, s.weights, packed_.values + at * value_words_,
                  !first, queries.out);
}

void Forward::finish(size_t head, const Queries& queries) const {
  const Tile& tile = tile_of(queries);
  const OnlineSoftmax& state = *queries.state;
  float inverse[kTile];
  for (size_t row = 0; row < static_cast<size_t>(tile.tokens); ++row) {
    const bool none = state.sum[row] == 0.0F;  // no key was seen
    inverse[row] = none ? 0.0F : 1.0F / state.sum[row];
    if (task_.log2_sum != nullptr)
      task_.log2_sum[head * task_.q.tokens + tile.token + row] =
          none ? 0.0F : state.maximum[row] * (task_.scale * kLog2E) + std::log2(state.sum[row]);
  }
  scale_rows(inverse, tile.tokens, padded_width(g_.value_dim), queries.out);
  unload_tile(queries.out, 1.0F, {}, tile_rows(task_.out, tile.token, tile.tokens, head));
}

void Forward::attend(size_t slot, size_t head, size_t first, size_t count, Scratch& s) const {
  for (size_t i = 0; i < count; ++i) {
    s.strip[i].tile = first + i;
    begin(head, s.strip[i], s);
  }
  size_t earliest = s.strip[0].first_key_tile, end = s.strip[0].end_key_tile;
  for (size_t i = 1; i < count; ++i) {
    earliest = std::min(earliest, s.strip[i].first_key_tile);
    end = std::max(end, s.strip[i].end_key_tile);
  }
  for (size_t t = earliest; t < end; ++t)
    for (size_t i = 0; i < count; ++i)
      if (s.strip[i].first_key_tile <= t && t < s.strip[i].end_key_tile)
        visit(slot, head, t, s.strip[i], s);
  for (size_t i = 0; i < count; ++i) finish(head, s.strip[i]);
}

// Query tiles of one unit of work: as many as leave enough units for many threads.
size_t strip_length(size_t query_tiles, size_t heads) {
  constexpr size_t kUnits = 64;
  return std::clamp<size_t>(query_tiles * heads / kUnits, 1, kStrip);
}

}  // namespace

size_t head_batch(size_t kv_heads, size_t tiles) {
  constexpr size_t kEnough = 512;  // tiles of all heads together
  return std::clamp<size_t>(kEnough / std::max<size_t>(tiles, 1), 1, kv_heads);
}

namespace {

// All of a segment of a key head in one unit of work.
void run_short(const ForwardTask& task, const AttentionGeometry& g, const TileKernel& kernel,
               const Arena& arena, ThreadTeam& team) {
  const size_t group = g.heads / g.kv_heads;
  const auto take = [&](Arena& own) {
    return std::pair(take_keys(own, g, kernel, kShortSegment, 1), take_scratch(own, g, kernel));
  };
  Arena one;
  take(one);
  team.run(task.plan.segments * g.kv_heads, [&](size_t chunk, int thread) {
    const Segment& segment = task.plan.segment[chunk / g.kv_heads];
    const size_t kv_head = chunk % g.kv_heads, end = segment.first_tile + segment.tiles;
    Arena own = arena;
    own.take<std::byte>(one.used() * thread);
    auto [packed, scratch] = take(own);
    packed.first_tile = segment.first_tile;
    const Forward forward(task, g, kernel, packed);
    for (size_t t = segment.first_tile; t < end; ++t) forward.pack(0, kv_head, t, scratch);
    for (size_t head = kv_head * group; head < (kv_head + 1) * group; ++head)
      for (size_t t = segment.first_tile; t < end; t += kStrip)
        forward.attend(0, head, t, std::min(kStrip, end - t), scratch);
  });
}

// Key heads in batches: all tiles are packed, then strips of queries attend to them.
void run_long(const ForwardTask& task, const AttentionGeometry& g, const TileKernel& kernel,
              Arena& arena, ThreadTeam& team) {
  const size_t tiles = task.plan.tiles, group = g.heads / g.kv_heads;
  const size_t batch = head_batch(g.kv_heads, task.plan.capacity);
  const Forward forward(task, g, kernel, take_keys(arena, g, kernel, tiles, batch));
  Arena one;
  take_scratch(one, g, kernel);
  const auto scratch = [&](int thread) {
    Arena own = arena;
    own.take<std::byte>(one.used() * thread);
    return take_scratch(own, g, kernel);
  };
  for (size_t first = 0; first < g.kv_heads; first += batch) {
    const size_t heads = std::min(batch, g.kv_heads - first);
    team.run(heads * tiles, [&](size_t chunk, int thread) {
      forward.pack(chunk / tiles, first + chunk / tiles, chunk % tiles, scratch(thread));
    });
    // Later tiles of a sequence have more keys: they come first, so that no long one is left last.
    const size_t query_heads = heads * group;
    const size_t length = strip_length(task.query_tiles, query_heads);
    const size_t strips = chunk_count(task.query_tiles, length);
    team.run(strips * query_heads, [&](size_t chunk, int thread) {
      const size_t head = chunk % query_heads, begin = (strips - 1 - chunk / query_heads) * length;
      Scratch own = scratch(thread);
      forward.attend(head / group, first * group + head, begin,
                     std::min(length, task.query_tiles - begin), own);
    });
  }
}

}  // namespace

size_t forward_workspace(const AttentionGeometry& geometry, const TileKernel& kernel, size_t tiles,
                         int threads) {
  Arena shared, own;
  take_keys(shared, geometry, kernel, tiles, head_batch(geometry.kv_heads, tiles));
  take_scratch(own, geometry, kernel);
  const size_t scratch = own.used();
  take_keys(own, geometry, kernel, kShortSegment, 1);
  return std::max(shared.used() + scratch * threads, own.used() * threads);
}

void run_forward(const ForwardTask& task, const AttentionGeometry& geometry,
                 const TileKernel& kernel, Arena& arena, ThreadTeam& team) {
  const bool all_queries = task.query_slot == 0 && task.query_tiles == task.plan.tiles;
  if (all_queries && takes_whole_segments(task.plan, geometry.kv_heads))
    run_short(task, geometry, kernel, arena, team);
  else
    run_long(task, geometry, kernel, arena, team);
}

}  // namespace cairn
