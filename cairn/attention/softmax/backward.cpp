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
#include "cairn/attention/tile_gradients.h"

namespace cairn {
namespace {

// One thread's scratch: a tile of queries and what is computed against a tile of keys.
struct Scratch {
  float* load = nullptr;
  GradientQueries queries;
  GradientPair pair;
  float* log2_sum = nullptr;  // [kTile]
  float* delta = nullptr;     // [kTile]
};

Scratch take_scratch(Arena& arena, const AttentionGeometry& g, const TileKernel& kernel) {
  Scratch s;
  s.load = arena.take<float>(kTile * padded_width(std::max(g.head_dim, g.value_dim)));
  s.queries = take_gradient_queries(arena, g, kernel);
  s.pair = take_gradient_pair(arena, kernel);
  s.log2_sum = arena.take<float>(kTile);
  s.delta = arena.take<float>(kTile);
  return s;
}

class Backward {
 public:
  Backward(const BackwardTask& task, const AttentionGeometry& geometry, const TileKernel& kernel,
           const TileGradients& batch)
      : task_(task),
        g_(geometry),
        kernel_(kernel),
        steps_(kernel.pair == 1 ? f32_softmax_steps() : bf16_softmax_steps()),
        batch_(batch),
        keeps_dscores_(task.bias != nullptr && task.bias->wants_gradients()),
        group_(g_.heads / g_.kv_heads) {}

  // Packs tile `t` of key head `head` as head `slot` of the batch and clears its gradients.
  void pack(size_t slot, size_t head, size_t t, const Scratch& s) const;
  // Adds what one pair of blocks contributes to all gradients of a key head and its query heads.
  void work(size_t slot, size_t head, const BlockPair& pair, const Scratch& s) const;
  // Writes the finished gradients of tile `t`.
  void finish(size_t slot, size_t head, size_t t) const;

 private:
  void load_queries(size_t query_head, size_t t, const Scratch& s) const;
  TilePair pair_of(size_t head, size_t query_tile, size_t key_tile) const;
  BiasTile bias_tile(const TilePair& p) const;
  // Weights and score gradients of a pair of tiles.
  void recompute(size_t slot, const TilePair& p, const Scratch& s) const;

  const BackwardTask& task_;
  const AttentionGeometry& g_;
  const TileKernel& kernel_;
  const SoftmaxSteps& steps_;
  const TileGradients& batch_;
  const bool keeps_dscores_;
  size_t group_;
};

void Backward::pack(size_t slot, size_t head, size_t t, const Scratch& s) const {
  const Tile& tile = task_.plan.key_tile[t];
  const size_t token = tile.token, tokens = tile.tokens;
  batch_.pack(slot, t, tile_rows(task_.k, token, tokens, head), rows_from(task_.rotary, token),
              tile_rows(task_.v, token, tokens, head), s.load);
}

void Backward::load_queries(size_t query_head, size_t t, const Scratch& s) const {
  const Tile& tile = task_.plan.tile[t];
  const size_t token = tile.token, tokens = tile.tokens;
  load_tile(tile_rows(task_.q, token, tokens, query_head), rows_from(task_.rotary, token), s.load);
  pack_queries(kernel_, g_, s.load, s.queries);
  const AnyView2 dout = tile_rows(task_.dout, token, tokens, query_head);
  load_tile(dout, {}, s.load);
  pack_dout(kernel_, g_, s.load, s.queries);
  // Padding gets weight 2^0 and gradient 0 times 0.
  std::fill_n(s.delta, kTile, 0.0F);
  std::fill_n(s.log2_sum, kTile, 0.0F);
  dot_tile_rows(tile_rows(task_.out, token, tokens, query_head), dout, s.delta);
  std::copy_n(task_.log2_sum + query_head * task_.q.tokens + token, tokens, s.log2_sum);
}

TilePair Backward::pair_of(size_t head, size_t query_tile, size_t key_tile) const {
  TilePair p;
  p.head = head;
  p.query_tile = query_tile;
  p.key_tile = key_tile;
  const TilePlan& plan = task_.plan;
  p.queries = plan.tile[query_tile].tokens;
  p.keys = keys_in_sight(plan.tile[query_tile], key_tile * kTile);
  p.diagonal = plan.causal && key_tile == query_tile;
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
          .columns = p.columns()};
}

void Backward::recompute(size_t slot, const TilePair& p, const Scratch& s) const {
  const bool biased = task_.bias != nullptr;
  if (biased) task_.bias->fill(bias_tile(p), task_.scale, s.pair.scores);
  batch_.recompute(slot, p, s.queries, biased, s.pair);
  const int32_t* first_key = task_.plan.first_key + p.query_tile * kTile;
  const int32_t* last_key = task_.plan.last_key + p.query_tile * kTile;
  const size_t key0 = p.key_tile * kTile;
  steps_.gradient({.scores = s.pair.scores,
                   .dweights = s.pair.dweights,
                   .keys = p.keys,
                   .columns = p.columns(),
                   .factor = task_.scale * kLog2E,
                   .mask = {first_key, last_key, static_cast<int32_t>(key0),
                            needs_mask(first_key, last_key, p.queries, key0, p.keys)},
                   .log2_sum = s.log2_sum,
                   .delta = s.delta,
                   .weights_by_key = s.pair.weights_by_key,
                   .dscores_by_key = s.pair.dscores_by_key,
                   .dscores_by_query = s.pair.dscores_by_query,
                   .keep_dscores = keeps_dscores_});
  if (keeps_dscores_) task_.bias->add_gradients(bias_tile(p), s.pair.dweights, p.diagonal);
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
        const TilePair tiles = pair_of(query_head, query_tile, t);
        recompute(slot, tiles, s);
        batch_.add(slot, slot * group_ + i, tiles, s.queries, s.pair);
      }
    }
  }
}

void Backward::finish(size_t slot, size_t head, size_t t) const {
  const Tile &keys = task_.plan.key_tile[t], &queries = task_.plan.tile[t];
  unload_tile(batch_.dk(slot, t), task_.scale, rows_from(task_.rotary, keys.token),
              tile_rows(task_.dk, keys.token, keys.tokens, head));
  unload_tile(batch_.dv(slot, t), 1.0F, {}, tile_rows(task_.dv, keys.token, keys.tokens, head));
  for (size_t i = 0; i < group_; ++i)
    unload_tile(batch_.dq(slot * group_ + i, t), task_.scale,
                rows_from(task_.rotary, queries.token),
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
    return std::pair(TileGradients(own, g, kernel, kShortSegment, 1), take_scratch(own, g, kernel));
  };
  Arena one;
  take(one);
  team.run(task.plan.segments * g.kv_heads, [&](size_t chunk, int thread) {
    const Segment& segment = task.plan.segment[chunk / g.kv_heads];
    const size_t head = chunk % g.kv_heads, end = segment.first_tile + segment.tiles;
    Arena own = arena;
    own.take<std::byte>(one.used() * thread);
    auto [batch, scratch] = take(own);
    batch.begin_at(segment.first_tile);
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
  const TileGradients batch(arena, g, kernel, tiles, batch_heads);
  BlockPair* pairs_in_turn = arena.take<BlockPair>(tiles);
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
      const size_t pairs = pairs_of_round(task.plan, block, round, pairs_in_turn);
      team.run(pairs * heads, [&](size_t chunk, int thread) {
        const size_t slot = chunk % heads;
        backward.work(slot, first + slot, pairs_in_turn[chunk / heads], scratch(thread));
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
  TileGradients(shared, geometry, kernel, tiles, head_batch(geometry.kv_heads, tiles));
  shared.take<BlockPair>(tiles);
  take_scratch(own, geometry, kernel);
  const size_t scratch = own.used();
  TileGradients(own, geometry, kernel, kShortSegment, 1);
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
