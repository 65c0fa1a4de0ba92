#include "cairn/attention/softmax/forward.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace cairn {
namespace {

// Packed keys and values of a batch of key heads: [head][tile][...] in words.
struct PackedKeys {
  uint32_t* keys = nullptr;    // rows form
  uint32_t* values = nullptr;  // paired form
};

// One thread's scratch.
struct Scratch {
  float* load = nullptr;        // [kTile][width of q or v]
  uint32_t* query = nullptr;    // columns form
  float* scores = nullptr;      // [kTile keys][kTile queries]
  uint32_t* weights = nullptr;  // left operand; the scores themselves in f32
  float* out = nullptr;         // [kTile][width of v]
  float* rescale = nullptr;     // [kTile]
  OnlineSoftmax* state = nullptr;
  int32_t* last_key = nullptr;   // [kTile]
  int32_t* first_key = nullptr;  // [kTile]
};

Scratch take_scratch(Arena& arena, const AttentionGeometry& g, const TileKernel& kernel) {
  Scratch s;
  s.load = arena.take<float>(kTile * padded_width(std::max(g.head_dim, g.value_dim)));
  s.query = arena.take<uint32_t>(kernel.columns_words(g.head_dim));
  s.scores = arena.take<float>(kTile * kTile);
  s.weights = kernel.pair == 1 ? reinterpret_cast<uint32_t*>(s.scores)
                               : arena.take<uint32_t>(kTile / 2 * kTile);
  s.out = arena.take<float>(kTile * padded_width(g.value_dim));
  s.rescale = arena.take<float>(kTile);
  s.state = arena.take<OnlineSoftmax>(1);
  s.first_key = arena.take<int32_t>(kTile);
  s.last_key = arena.take<int32_t>(kTile);
  return s;
}

PackedKeys take_keys(Arena& arena, const AttentionGeometry& g, const TileKernel& kernel,
                     size_t tiles, size_t heads) {
  return {arena.take<uint32_t>(heads * tiles * kernel.rows_words(g.head_dim)),
          arena.take<uint32_t>(heads * tiles * kernel.paired_words(g.value_dim))};
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
  // One tile of queries of one head, whose key head is `slot` of the batch.
  void attend(size_t slot, size_t head, size_t query_tile, const Scratch& s) const;

 private:
  void begin(size_t head, size_t query_tile, const Scratch& s) const;
  void visit(size_t slot, size_t key_tile, size_t query_tile, const Scratch& s) const;
  void finish(size_t head, size_t query_tile, const Scratch& s) const;

  const ForwardTask& task_;
  const AttentionGeometry& g_;
  const TileKernel& kernel_;
  const SoftmaxSteps& steps_;
  PackedKeys packed_;
  size_t key_words_, value_words_;
};

void Forward::pack(size_t slot, size_t head, size_t t, const Scratch& s) const {
  const Tile& tile = task_.plan.tile[t];
  const size_t token = tile.token, tokens = tile.tokens, at = slot * task_.plan.tiles + t;
  load_tile(tile_rows(task_.k, token, tokens, head), rows_from(task_.rotate_k, token), s.load);
  kernel_.to_rows(s.load, g_.head_dim, packed_.keys + at * key_words_);
  load_tile(tile_rows(task_.v, token, tokens, head), {}, s.load);
  kernel_.to_paired(s.load, g_.value_dim, packed_.values + at * value_words_);
}

void Forward::begin(size_t head, size_t query_tile, const Scratch& s) const {
  const Tile& tile = task_.query_tile[query_tile];
  load_tile(tile_rows(task_.q, tile.token, tile.tokens, head),
            rows_from(task_.rotate_q, tile.token), s.load);
  kernel_.to_columns(s.load, g_.head_dim, s.query);
  std::fill(s.out, s.out + kTile * padded_width(g_.value_dim), 0.0F);
  std::fill(s.state->maximum, s.state->maximum + kTile, std::numeric_limits<float>::lowest());
  std::fill(s.state->sum, s.state->sum + kTile, 0.0F);
  const size_t slot = task_.query_slot + query_tile * kTile;
  for (size_t row = 0; row < kTile; ++row) {
    const bool real = row < static_cast<size_t>(tile.tokens);
    s.first_key[row] = real ? task_.plan.first_key[slot + row] : 0;
    s.last_key[row] = real ? static_cast<int32_t>(slot + row) : -1;
  }
}

void Forward::visit(size_t slot, size_t key_tile, size_t query_tile, const Scratch& s) const {
  const Tile& tile = task_.query_tile[query_tile];
  const size_t first_query = task_.query_slot + query_tile * kTile;
  const size_t last_query = first_query + tile.tokens - 1;
  const size_t key0 = key_tile * kTile;
  const size_t keys = std::min(kTile, align_up(last_query + 1 - key0, 2));
  const size_t columns = align_up(tile.tokens, kWidth);
  const bool masked =
      key0 + keys - 1 > first_query || static_cast<int32_t>(key0) < s.first_key[tile.tokens - 1];
  const size_t at = slot * task_.plan.tiles + key_tile;

  kernel_.product({.rows = keys,
                   .columns = columns,
                   .depth = kernel_.depth(g_.head_dim),
                   .a = packed_.keys + at * key_words_,
                   .a_row = kernel_.row_words(g_.head_dim),
                   .a_depth = 1,
                   .b = s.query,
                   .b_depth = kTile,
                   .c = s.scores,
                   .c_row = kTile,
                   .accumulate = false});
  const bool grown =
      steps_.softmax({.scores = s.scores,
                      .keys = keys,
                      .columns = columns,
                      .factor = task_.scale * kLog2E,
                      .mask = {s.first_key, s.last_key, static_cast<int32_t>(key0), masked},
                      .state = s.state,
                      .rescale = s.rescale,
                      .weights = s.weights});
  const size_t width = padded_width(g_.value_dim);
  if (grown) {
    for (size_t row = 0; row < static_cast<size_t>(tile.tokens); ++row) {
      const float factor = s.rescale[row];
      if (factor == 1.0F) continue;
      for (size_t i = 0; i < width; ++i) s.out[row * width + i] *= factor;
    }
  }
  kernel_.product({.rows = static_cast<size_t>(tile.tokens),
                   .columns = width,
                   .depth = kernel_.depth(keys),
                   .a = s.weights,
                   .a_row = 1,
                   .a_depth = kTile,
                   .b = packed_.values + at * value_words_,
                   .b_depth = width,
                   .c = s.out,
                   .c_row = width,
                   .accumulate = true});
}

void Forward::finish(size_t head, size_t query_tile, const Scratch& s) const {
  const Tile& tile = task_.query_tile[query_tile];
  const size_t width = padded_width(g_.value_dim);
  for (size_t row = 0; row < static_cast<size_t>(tile.tokens); ++row) {
    const float inverse = 1.0F / s.state->sum[row];
    for (size_t i = 0; i < width; ++i) s.out[row * width + i] *= inverse;
    if (task_.log2_sum != nullptr)
      task_.log2_sum[head * task_.q.tokens + tile.token + row] =
          s.state->maximum[row] * (task_.scale * kLog2E) + std::log2(s.state->sum[row]);
  }
  unload_tile(s.out, 1.0F, {}, tile_rows(task_.out, tile.token, tile.tokens, head));
}

void Forward::attend(size_t slot, size_t head, size_t query_tile, const Scratch& s) const {
  begin(head, query_tile, s);
  const Tile& tile = task_.query_tile[query_tile];
  const size_t last = (task_.query_slot + query_tile * kTile + tile.tokens - 1) / kTile;
  for (size_t t = tile.first_key / kTile; t <= last; ++t) visit(slot, t, query_tile, s);
  finish(head, query_tile, s);
}

}  // namespace

size_t head_batch(size_t kv_heads, size_t tiles) {
  constexpr size_t kEnough = 512;  // tiles of all heads together: 32768 tokens
  return std::clamp<size_t>(kEnough / std::max<size_t>(tiles, 1), 1, kv_heads);
}

size_t forward_workspace(const AttentionGeometry& geometry, const TileKernel& kernel, size_t tiles,
                         int threads) {
  Arena arena;
  take_keys(arena, geometry, kernel, tiles, head_batch(geometry.kv_heads, tiles));
  for (int i = 0; i < threads; ++i) take_scratch(arena, geometry, kernel);
  return arena.used();
}

void run_forward(const ForwardTask& task, const AttentionGeometry& geometry,
                 const TileKernel& kernel, Arena& arena, ThreadTeam& team) {
  const size_t tiles = task.plan.tiles;
  const size_t batch = head_batch(geometry.kv_heads, task.plan.capacity);
  const size_t group = geometry.heads / geometry.kv_heads;
  const Forward forward(task, geometry, kernel, take_keys(arena, geometry, kernel, tiles, batch));
  const Arena shared = arena;
  Arena one;
  take_scratch(one, geometry, kernel);
  const auto scratch = [&](int thread) {
    Arena own = shared;
    own.take<std::byte>(one.used() * thread);
    return take_scratch(own, geometry, kernel);
  };
  for (size_t first = 0; first < geometry.kv_heads; first += batch) {
    const size_t heads = std::min(batch, geometry.kv_heads - first);
    team.run(heads * tiles, [&](size_t chunk, int thread) {
      forward.pack(chunk / tiles, first + chunk / tiles, chunk % tiles, scratch(thread));
    });
    // Later tiles of a sequence have more keys: they come first, so that no long one is left last.
    const size_t units = heads * group;
    team.run(task.query_tiles * units, [&](size_t chunk, int thread) {
      const size_t unit = chunk % units, query_tile = task.query_tiles - 1 - chunk / units;
      forward.attend(unit / group, first * group + unit, query_tile, scratch(thread));
    });
  }
}

}  // namespace cairn
