// With p = softmax(s), delta = sum(dout * out) of each query and ds = p * (dout v - delta):
//   dv = p^T dout,  dk = scale * ds^T q,  dq = scale * ds k     (q, k rotated; dq, dk turned back)
// Scores are recomputed tile by tile from the saved sums: five products a tile. Gradients gather in
// f32 in the workspace; schedule.h says why units may add to them in parallel.
#include "cairn/attention/softmax/backward.h"

#include <algorithm>
#include <utility>

#include "cairn/attention/softmax/forward.h"
#include "cairn/attention/softmax/schedule.h"
#include "cairn/attention/softmax/steps.h"
#include "cairn/attention/triangle.h"

namespace cairn {
namespace {

// Of a batch of key heads: packed keys and values, and the gradients being summed.
struct Batch {
  uint32_t* keys = nullptr;         // rows form, [head][tile]
  uint32_t* paired_keys = nullptr;  // the same array in f32
  uint32_t* values = nullptr;       // rows form
  float* dq = nullptr;              // [head * group][slot][width]
  float* dk = nullptr;              // [head][slot][width]
  float* dv = nullptr;
  BlockPair* pairs = nullptr;  // [tiles]
  size_t first_tile = 0;       // of the plan
  size_t tiles = 0;

  size_t index(size_t head, size_t tile) const { return head * tiles + tile - first_tile; }
};

// One thread's scratch: a tile of queries and what is computed against a tile of keys.
struct Scratch {
  float* load = nullptr;
  uint32_t* query = nullptr;         // columns form
  uint32_t* paired_query = nullptr;  // paired form
  uint32_t* dout = nullptr;          // columns form
  uint32_t* paired_dout = nullptr;
  float* scores = nullptr;    // [kTile keys][kTile queries]
  float* dweights = nullptr;  // the same
  uint32_t* weights_by_key = nullptr;
  uint32_t* dscores_by_key = nullptr;
  uint32_t* dscores_by_query = nullptr;
  float* log2_sum = nullptr;  // [kTile]
  float* delta = nullptr;     // [kTile]
};

Batch take_batch(Arena& arena, const AttentionGeometry& g, const TileKernel& kernel, size_t tiles,
                 size_t heads) {
  Batch b;
  const size_t group = g.heads / g.kv_heads, slots = tiles * kTile;
  b.keys = arena.take<uint32_t>(heads * tiles * kernel.rows_words(g.head_dim));
  b.paired_keys = kernel.pair == 1
                      ? b.keys
                      : arena.take<uint32_t>(heads * tiles * kernel.paired_words(g.head_dim));
  b.values = arena.take<uint32_t>(heads * tiles * kernel.rows_words(g.value_dim));
  b.dq = arena.take<float>(heads * group * slots * padded_width(g.head_dim));
  b.dk = arena.take<float>(heads * slots * padded_width(g.head_dim));
  b.dv = arena.take<float>(heads * slots * padded_width(g.value_dim));
  b.pairs = arena.take<BlockPair>(tiles);
  b.tiles = tiles;
  return b;
}

Scratch take_scratch(Arena& arena, const AttentionGeometry& g, const TileKernel& kernel) {
  Scratch s;
  s.load = arena.take<float>(kTile * padded_width(std::max(g.head_dim, g.value_dim)));
  s.query = arena.take<uint32_t>(kernel.columns_words(g.head_dim));
  s.paired_query = arena.take<uint32_t>(kernel.paired_words(g.head_dim));
  s.dout = arena.take<uint32_t>(kernel.columns_words(g.value_dim));
  s.paired_dout = arena.take<uint32_t>(kernel.paired_words(g.value_dim));
  s.scores = arena.take<float>(kTile * kTile);
  s.dweights = arena.take<float>(kTile * kTile);
  if (kernel.pair == 1) {
    s.weights_by_key = reinterpret_cast<uint32_t*>(s.scores);
    s.dscores_by_key = s.dscores_by_query = reinterpret_cast<uint32_t*>(s.dweights);
  } else {
    s.weights_by_key = arena.take<uint32_t>(kTile * kTile / 2);
    s.dscores_by_key = arena.take<uint32_t>(kTile * kTile / 2);
    s.dscores_by_query = arena.take<uint32_t>(kTile * kTile / 2);
  }
  s.log2_sum = arena.take<float>(kTile);
  s.delta = arena.take<float>(kTile);
  return s;
}

// A tile of queries against a tile of keys that it visits.
struct TilePair {
  size_t query_tile = 0, key_tile = 0;
  size_t head = 0;     // of the queries
  size_t queries = 0;  // real ones
  size_t columns = 0;  // the same, padded
  size_t keys = 0;     // in sight, made even
  size_t at = 0;       // of the packed keys
  bool diagonal = false, masked = false;
};

class Backward {
 public:
  Backward(const BackwardTask& task, const AttentionGeometry& geometry, const TileKernel& kernel,
           const Batch& batch)
      : task_(task),
        g_(geometry),
        kernel_(kernel),
        steps_(kernel.pair == 1 ? f32_softmax_steps() : bf16_softmax_steps()),
        batch_(batch),
        keeps_dscores_(task.bias != nullptr && task.bias->wants_gradients()),
        group_(g_.heads / g_.kv_heads),
        width_(padded_width(g_.head_dim)),
        value_width_(padded_width(g_.value_dim)) {}

  // Packs tile `t` of key head `head` as head `slot` of the batch and clears its gradients.
  void pack(size_t slot, size_t head, size_t t, const Scratch& s) const;
  // Adds what one pair of blocks contributes to all gradients of a key head and its query heads.
  void work(size_t slot, size_t head, const BlockPair& pair, const Scratch& s) const;
  // Writes the finished gradients of tile `t`.
  void finish(size_t slot, size_t head, size_t t) const;

 private:
  void load_queries(size_t query_head, size_t t, const Scratch& s) const;
  TilePair pair_of(size_t slot, size_t head, size_t query_tile, size_t key_tile) const;
  BiasTile bias_tile(const TilePair& p) const;
  // Weights and score gradients of a pair of tiles.
  void recompute(const TilePair& p, const Scratch& s) const;
  // What they add to dv, dk and dq.
  void gather(size_t slot, size_t query, const TilePair& p, const Scratch& s) const;
  // Gradient tiles: `query` counts the query heads of the batch.
  float* dq_tile(size_t query, size_t t) const {
    return batch_.dq + batch_.index(query, t) * kTile * width_;
  }
  float* dk_tile(size_t slot, size_t t) const {
    return batch_.dk + batch_.index(slot, t) * kTile * width_;
  }
  float* dv_tile(size_t slot, size_t t) const {
    return batch_.dv + batch_.index(slot, t) * kTile * value_width_;
  }

  const BackwardTask& task_;
  const AttentionGeometry& g_;
  const TileKernel& kernel_;
  const SoftmaxSteps& steps_;
  const Batch& batch_;
  const bool keeps_dscores_;
  size_t group_, width_, value_width_;
};

void Backward::pack(size_t slot, size_t head, size_t t, const Scratch& s) const {
  const Tile& tile = task_.plan.key_tile[t];
  const size_t token = tile.token, tokens = tile.tokens, at = batch_.index(slot, t);
  load_tile(tile_rows(task_.k, token, tokens, head), rows_from(task_.rotary, token), s.load);
  kernel_.to_rows(s.load, g_.head_dim, batch_.keys + at * kernel_.rows_words(g_.head_dim));
  if (batch_.paired_keys != batch_.keys)
    kernel_.to_paired(s.load, g_.head_dim,
                      batch_.paired_keys + at * kernel_.paired_words(g_.head_dim));
  load_tile(tile_rows(task_.v, token, tokens, head), {}, s.load);
  kernel_.to_rows(s.load, g_.value_dim, batch_.values + at * kernel_.rows_words(g_.value_dim));
  std::fill_n(dk_tile(slot, t), kTile * width_, 0.0F);
  std::fill_n(dv_tile(slot, t), kTile * value_width_, 0.0F);
  for (size_t i = 0; i < group_; ++i)
    std::fill_n(dq_tile(slot * group_ + i, t), kTile * width_, 0.0F);
}

void Backward::load_queries(size_t query_head, size_t t, const Scratch& s) const {
  const Tile& tile = task_.plan.tile[t];
  const size_t token = tile.token, tokens = tile.tokens;
  load_tile(tile_rows(task_.q, token, tokens, query_head), rows_from(task_.rotary, token), s.load);
  kernel_.to_columns(s.load, g_.head_dim, s.query);
  kernel_.to_paired(s.load, g_.head_dim, s.paired_query);
  const AnyView2 dout = tile_rows(task_.dout, token, tokens, query_head);
  load_tile(dout, {}, s.load);
  kernel_.to_columns(s.load, g_.value_dim, s.dout);
  kernel_.to_paired(s.load, g_.value_dim, s.paired_dout);
  // Padding gets weight 2^0 and gradient 0 times 0.
  std::fill_n(s.delta, kTile, 0.0F);
  std::fill_n(s.log2_sum, kTile, 0.0F);
  dot_tile_rows(tile_rows(task_.out, token, tokens, query_head), dout, s.delta);
  std::copy_n(task_.log2_sum + query_head * task_.q.tokens + token, tokens, s.log2_sum);
}

TilePair Backward::pair_of(size_t slot, size_t head, size_t query_tile, size_t key_tile) const {
  TilePair p;
  p.head = head;
  p.query_tile = query_tile;
  p.key_tile = key_tile;
  const TilePlan& plan = task_.plan;
  p.queries = plan.tile[query_tile].tokens;
  p.columns = align_up(p.queries, kWidth);
  p.keys = keys_in_sight(plan.tile[query_tile], key_tile * kTile);
  p.at = batch_.index(slot, key_tile);
  p.diagonal = plan.causal && key_tile == query_tile;
  p.masked = needs_mask(plan.first_key + query_tile * kTile, plan.last_key + query_tile * kTile,
                        p.queries, key_tile * kTile, p.keys);
  return p;
}

BiasTile Backward::bias_tile(const TilePair& p) const {
  return {.head = p.head,
          .query = static_cast<size_t>(task_.plan.tile[p.query_tile].token),
          .queries = p.queries,
          .query_slot = p.query_tile * kTile,
          .key_tile = task_.plan.key_tile[p.key_tile],
          .key_slot = p.key_tile * kTile,
          .keys = p.keys,
          .columns = p.columns};
}

void Backward::recompute(const TilePair& p, const Scratch& s) const {
  if (task_.bias != nullptr) task_.bias->fill(bias_tile(p), task_.scale, s.scores);
  product_of_scores(kernel_,
                    {.rows = p.keys,
                     .columns = p.columns,
                     .depth = kernel_.depth(g_.head_dim),
                     .a = batch_.keys + p.at * kernel_.rows_words(g_.head_dim),
                     .a_row = kernel_.row_words(g_.head_dim),
                     .a_depth = 1,
                     .b = s.query,
                     .b_depth = kTile,
                     .c = s.scores,
                     .c_row = kTile,
                     .accumulate = task_.bias != nullptr},
                    p.diagonal);
  product_of_scores(kernel_,
                    {.rows = p.keys,
                     .columns = p.columns,
                     .depth = kernel_.depth(g_.value_dim),
                     .a = batch_.values + p.at * kernel_.rows_words(g_.value_dim),
                     .a_row = kernel_.row_words(g_.value_dim),
                     .a_depth = 1,
                     .b = s.dout,
                     .b_depth = kTile,
                     .c = s.dweights,
                     .c_row = kTile,
                     .accumulate = false},
                    p.diagonal);
  steps_.gradient({.scores = s.scores,
                   .dweights = s.dweights,
                   .keys = p.keys,
                   .columns = p.columns,
                   .factor = task_.scale * kLog2E,
                   .mask = {task_.plan.first_key + p.query_tile * kTile,
                            task_.plan.last_key + p.query_tile * kTile,
                            static_cast<int32_t>(p.key_tile * kTile), p.masked},
                   .log2_sum = s.log2_sum,
                   .delta = s.delta,
                   .weights_by_key = s.weights_by_key,
                   .dscores_by_key = s.dscores_by_key,
                   .dscores_by_query = s.dscores_by_query,
                   .keep_dscores = keeps_dscores_});
}

void Backward::gather(size_t slot, size_t query, const TilePair& p, const Scratch& s) const {
  if (keeps_dscores_) task_.bias->add_gradients(bias_tile(p), s.dweights, p.diagonal);
  product_by_key(kernel_,
                 {.rows = p.keys,
                  .columns = value_width_,
                  .depth = kernel_.depth(p.columns),
                  .a = s.weights_by_key,
                  .a_row = kTile / kernel_.pair,
                  .a_depth = 1,
                  .b = s.paired_dout,
                  .b_depth = value_width_,
                  .c = dv_tile(slot, p.key_tile),
                  .c_row = value_width_,
                  .accumulate = true},
                 p.diagonal);
  product_by_key(kernel_,
                 {.rows = p.keys,
                  .columns = width_,
                  .depth = kernel_.depth(p.columns),
                  .a = s.dscores_by_key,
                  .a_row = kTile / kernel_.pair,
                  .a_depth = 1,
                  .b = s.paired_query,
                  .b_depth = width_,
                  .c = dk_tile(slot, p.key_tile),
                  .c_row = width_,
                  .accumulate = true},
                 p.diagonal);
  product_by_query(kernel_,
                   {.rows = p.queries,
                    .columns = width_,
                    .depth = kernel_.depth(p.keys),
                    .a = s.dscores_by_query,
                    .a_row = 1,
                    .a_depth = kTile,
                    .b = batch_.paired_keys + p.at * kernel_.paired_words(g_.head_dim),
                    .b_depth = width_,
                    .c = dq_tile(query, p.query_tile),
                    .c_row = width_,
                    .accumulate = true},
                   p.diagonal);
}

void Backward::work(size_t slot, size_t head, const BlockPair& pair, const Scratch& s) const {
  const auto key_end = static_cast<size_t>(pair.key_tile + pair.key_tiles);
  for (size_t i = 0; i < group_; ++i) {
    for (int32_t n = 0; n < pair.query_tiles; ++n) {
      const size_t query_tile = pair.query_tile + n;
      const size_t query_head = head * group_ + i;
      const Tile& tile = task_.plan.tile[query_tile];
      size_t seen = tile.first_key_tile();
      if (task_.first_tile != nullptr)
        seen = std::max<size_t>(seen, task_.first_tile[query_head * task_.plan.tiles + query_tile]);
      const size_t begin = std::max<size_t>(pair.key_tile, seen);
      const size_t end = std::min(key_end, tile.end_key_tile());
      if (begin >= end) continue;
      load_queries(query_head, query_tile, s);
      for (size_t t = begin; t < end; ++t) {
        const TilePair pair_of_tiles = pair_of(slot, query_head, query_tile, t);
        recompute(pair_of_tiles, s);
        gather(slot, slot * group_ + i, pair_of_tiles, s);
      }
    }
  }
}

void Backward::finish(size_t slot, size_t head, size_t t) const {
  const Tile &keys = task_.plan.key_tile[t], &queries = task_.plan.tile[t];
  unload_tile(dk_tile(slot, t), task_.scale, rows_from(task_.rotary, keys.token),
              tile_rows(task_.dk, keys.token, keys.tokens, head));
  unload_tile(dv_tile(slot, t), 1.0F, {}, tile_rows(task_.dv, keys.token, keys.tokens, head));
  for (size_t i = 0; i < group_; ++i)
    unload_tile(dq_tile(slot * group_ + i, t), task_.scale, rows_from(task_.rotary, queries.token),
                tile_rows(task_.dq, queries.token, queries.tokens, head * group_ + i));
}

constexpr int32_t kBlock = 8;  // tiles

BlockPair block_pair(const Segment& segment, int32_t query_tile, int32_t key_tile) {
  const auto count = [&](int32_t tile) { return std::min(kBlock, segment.tiles - tile); };
  return {segment.first_tile + query_tile, count(query_tile), segment.first_tile + key_tile,
          count(key_tile)};
}

// All of a segment of a key head in one unit of work.
void run_short(const BackwardTask& task, const AttentionGeometry& g, const TileKernel& kernel,
               const Arena& arena, ThreadTeam& team) {
  const auto take = [&](Arena& own) {
    return std::pair(take_batch(own, g, kernel, kShortSegment, 1), take_scratch(own, g, kernel));
  };
  Arena one;
  take(one);
  team.run(task.plan.segments * g.kv_heads, [&](size_t chunk, int thread) {
    const Segment& segment = task.plan.segment[chunk / g.kv_heads];
    const size_t head = chunk % g.kv_heads, end = segment.first_tile + segment.tiles;
    Arena own = arena;
    own.take<std::byte>(one.used() * thread);
    auto [batch, scratch] = take(own);
    batch.first_tile = segment.first_tile;
    const Backward backward(task, g, kernel, batch);
    for (size_t t = segment.first_tile; t < end; ++t) backward.pack(0, head, t, scratch);
    // Blocks of keys small enough to stay in L2 while queries pass.
    for (int32_t q = 0; q < segment.tiles; q += kBlock)
      for (int32_t k = 0; k <= (task.plan.causal ? q : segment.tiles - 1); k += kBlock)
        backward.work(0, head, block_pair(segment, q, k), scratch);
    for (size_t t = segment.first_tile; t < end; ++t) backward.finish(0, head, t);
  });
}

// Key heads in batches, and in each the rounds of schedule.h.
void run_long(const BackwardTask& task, const AttentionGeometry& g, const TileKernel& kernel,
              Arena& arena, ThreadTeam& team) {
  const size_t tiles = task.plan.tiles;
  const size_t batch_heads = head_batch(g.kv_heads, task.plan.capacity);
  const Batch batch = take_batch(arena, g, kernel, tiles, batch_heads);
  const Backward backward(task, g, kernel, batch);
  Arena one;
  take_scratch(one, g, kernel);
  const auto scratch = [&](int thread) {
    Arena own = arena;
    own.take<std::byte>(one.used() * thread);
    return take_scratch(own, g, kernel);
  };
  for (size_t first = 0; first < g.kv_heads; first += batch_heads) {
    const size_t heads = std::min(batch_heads, g.kv_heads - first);
    const size_t block = block_tiles(tiles, heads), rounds = round_count(task.plan, block);
    team.run(heads * tiles, [&](size_t chunk, int thread) {
      backward.pack(chunk / tiles, first + chunk / tiles, chunk % tiles, scratch(thread));
    });
    for (size_t round = 0; round < rounds; ++round) {
      const size_t pairs = pairs_of_round(task.plan, block, round, batch.pairs);
      team.run(pairs * heads, [&](size_t chunk, int thread) {
        const size_t slot = chunk % heads;
        backward.work(slot, first + slot, batch.pairs[chunk / heads], scratch(thread));
      });
    }
    team.run(heads * tiles, [&](size_t chunk, int) {
      backward.finish(chunk / tiles, first + chunk / tiles, chunk % tiles);
    });
  }
}

}  // namespace

size_t backward_workspace(const AttentionGeometry& geometry, const TileKernel& kernel, size_t tiles,
                          int threads) {
  Arena shared, own;
  take_batch(shared, geometry, kernel, tiles, head_batch(geometry.kv_heads, tiles));
  take_scratch(own, geometry, kernel);
  const size_t scratch = own.used();
  take_batch(own, geometry, kernel, kShortSegment, 1);
  return std::max(shared.used() + scratch * threads, own.used() * threads);
}

void run_backward(const BackwardTask& task, const AttentionGeometry& geometry,
                  const TileKernel& kernel, Arena& arena, ThreadTeam& team) {
  if (takes_whole_segments(task.plan, geometry.kv_heads))
    run_short(task, geometry, kernel, arena, team);
  else
    run_long(task, geometry, kernel, arena, team);
}

}  // namespace cairn
