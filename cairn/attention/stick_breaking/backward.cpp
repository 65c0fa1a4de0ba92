// Gradients tile by tile, logits recomputed: five products a tile. A row block needs its tiles of
// keys from oldest to newest, because U of core.h travels that way; a tile of keys takes what query
// blocks add to dk and dv in their order. Sequences are cut into blocks of tiles on both sides. The
// pairs of a query block and a key block whose numbers add up to the same are disjoint in both, and
// each comes after the pairs it needs: they run in parallel without locks, wave after wave, and
// every gradient receives its terms in one order.
#include "cairn/attention/stick_breaking/backward.h"

#include <algorithm>
#include <utility>

#include "cairn/attention/stick_breaking/rows.h"
#include "cairn/attention/stick_breaking/steps.h"
#include "cairn/attention/triangle.h"

namespace cairn {
namespace {

// Of one sequence, for a batch of key heads: packed keys and values, and the gradients being
// summed.
struct Batch {
  uint32_t* keys = nullptr;         // rows form, [head][tile]
  uint32_t* paired_keys = nullptr;  // the same array in f32
  uint32_t* values = nullptr;       // rows form
  float* dq = nullptr;              // [head * group][tile][kTile][width]
  float* dk = nullptr;              // [head][tile][kTile][width]
  float* dv = nullptr;
  size_t tiles = 0;

  size_t index(size_t slot, size_t tile) const { return slot * tiles + tile; }
};

// Per row of every query head, [heads][tokens], while its tiles of keys pass.
struct Carry {
  double* worth = nullptr;   // U
  double* dlogit = nullptr;  // sum of dz; null without logit_bias
};

// One thread's scratch: a tile of queries and what is computed against a tile of keys.
struct Scratch {
  float* load = nullptr;
  float* values = nullptr;           // a second tile to load into
  uint32_t* query = nullptr;         // columns form
  uint32_t* paired_query = nullptr;  // paired form
  uint32_t* dout = nullptr;          // columns form
  uint32_t* paired_dout = nullptr;
  float* scores = nullptr;    // [kTile keys][kTile queries]
  float* dweights = nullptr;  // the same
  uint32_t* weights_by_key = nullptr;
  uint32_t* dz_by_key = nullptr;
  uint32_t* dz_by_query = nullptr;
  float* sticks = nullptr;    // [stride][kTile] as they enter the tiles of a group
  float* consumed = nullptr;  // [kTile]
  float* product = nullptr;   // [kTile]
  float* worth = nullptr;     // [kTile]
  float* dworth = nullptr;    // [kTile]
  float* dlogit = nullptr;    // [kTile]
};

Batch take_batch(Arena& arena, const AttentionGeometry& g, const TileKernel& kernel, size_t tiles,
                 size_t heads) {
  Batch b;
  const size_t all = heads * tiles, group = g.heads / g.kv_heads;
  b.keys = arena.take<uint32_t>(all * kernel.rows_words(g.head_dim));
  b.paired_keys =
      kernel.pair == 1 ? b.keys : arena.take<uint32_t>(all * kernel.paired_words(g.head_dim));
  b.values = arena.take<uint32_t>(all * kernel.rows_words(g.value_dim));
  b.dq = arena.take<float>(all * group * kTile * padded_width(g.head_dim));
  b.dk = arena.take<float>(all * kTile * padded_width(g.head_dim));
  b.dv = arena.take<float>(all * kTile * padded_width(g.value_dim));
  b.tiles = tiles;
  return b;
}

Scratch take_scratch(Arena& arena, const AttentionGeometry& g, const TileKernel& kernel,
                     size_t stride) {
  Scratch s;
  s.load = arena.take<float>(kTile * padded_width(std::max(g.head_dim, g.value_dim)));
  s.values = arena.take<float>(kTile * padded_width(g.value_dim));
  s.query = arena.take<uint32_t>(kernel.columns_words(g.head_dim));
  s.paired_query = arena.take<uint32_t>(kernel.paired_words(g.head_dim));
  s.dout = arena.take<uint32_t>(kernel.columns_words(g.value_dim));
  s.paired_dout = arena.take<uint32_t>(kernel.paired_words(g.value_dim));
  s.scores = arena.take<float>(kTile * kTile);
  s.dweights = arena.take<float>(kTile * kTile);
  if (kernel.pair == 1) {
    s.weights_by_key = reinterpret_cast<uint32_t*>(s.scores);
    s.dz_by_key = s.dz_by_query = reinterpret_cast<uint32_t*>(s.dweights);
  } else {
    s.weights_by_key = arena.take<uint32_t>(kTile * kTile / 2);
    s.dz_by_key = arena.take<uint32_t>(kTile * kTile / 2);
    s.dz_by_query = arena.take<uint32_t>(kTile * kTile / 2);
  }
  s.sticks = arena.take<float>(stride * kTile);
  s.consumed = arena.take<float>(kTile);
  s.product = arena.take<float>(kTile);
  s.worth = arena.take<float>(kTile);
  s.dworth = arena.take<float>(kTile);
  s.dlogit = arena.take<float>(kTile);
  return s;
}

// A sequence and how it is cut.
struct Sequence {
  Sequence(size_t first, size_t count)
      : token(first),
        tokens(count),
        tiles(chunk_count(count, kTile)),
        stride(stick_stride(tiles)),
        block(std::max<size_t>(8, stride)),
        blocks(chunk_count(tiles, block)) {}

  size_t rows(size_t t) const { return std::min(kTile, tokens - t * kTile); }
  size_t token_of(size_t t) const { return token + t * kTile; }

  size_t token, tokens, tiles;
  size_t stride;         // stick_stride()
  size_t block, blocks;  // tiles of a block, a multiple of the stride; blocks
};

// A tile of queries of one head against a tile of keys, no later than it.
struct TilePair {
  size_t head = 0;  // of queries
  size_t query_tile = 0, key_tile = 0;
  size_t rows = 0;     // queries
  size_t columns = 0;  // the same, padded
  size_t keys = 0;     // that any query can see, made even
  size_t at = 0;       // of the packed keys
  bool diagonal = false;
};

class Backward {
 public:
  Backward(const StickBackwardTask& task, const Sequence& sequence, const TileKernel& kernel,
           const Batch& batch, const Carry& carry)
      : task_(task),
        g_(task.attention.geometry),
        sequence_(sequence),
        kernel_(kernel),
        steps_(kernel.pair == 1 ? f32_stick_steps() : bf16_stick_steps()),
        batch_(batch),
        carry_(carry),
        group_(g_.heads / g_.kv_heads),
        width_(padded_width(g_.head_dim)),
        value_width_(padded_width(g_.value_dim)),
        row_end_{task.attention, task.inputs.v, task.inputs.vectors} {}

  // Packs tile `t` of key head `head` as head `slot` of the batch and clears its gradients.
  void pack(size_t slot, size_t head, size_t t, const Scratch& s) const;
  // Adds what one pair of blocks contributes to all gradients of a key head and its query heads.
  void work(size_t slot, size_t head, size_t query_block, size_t key_block, const Scratch& s) const;
  // Writes the finished gradients of tile `t`.
  void finish(size_t slot, size_t head, size_t t, const Scratch& s) const;

 private:
  void load_queries(size_t query_head, size_t t, const Scratch& s) const;
  TilePair pair_of(size_t slot, size_t head, size_t query_tile, size_t key_tile) const;
  GateRule gate(const TilePair& p) const;
  void logits(const TilePair& p, const Scratch& s) const;
  // The sticks of a group of tiles of keys, from the one kept to that of tile `first`.
  void restore_sticks(size_t slot, size_t head, size_t query_tile, size_t group, size_t first,
                      const Scratch& s) const;
  // Weights and logit gradients of a pair of tiles.
  void recompute(const TilePair& p, const Scratch& s) const;
  void carry_on(const TilePair& p, const Scratch& s) const;
  // What they add to dv, dk and dq.
  void gather(size_t slot, size_t query, const TilePair& p, const Scratch& s) const;
  float* dq_tile(size_t query, size_t t) const {
    return batch_.dq + batch_.index(query, t) * kTile * width_;
  }
  float* dk_tile(size_t slot, size_t t) const {
    return batch_.dk + batch_.index(slot, t) * kTile * width_;
  }
  float* dv_tile(size_t slot, size_t t) const {
    return batch_.dv + batch_.index(slot, t) * kTile * value_width_;
  }

  const StickBackwardTask& task_;
  const AttentionGeometry& g_;
  const Sequence& sequence_;
  const TileKernel& kernel_;
  const StickSteps& steps_;
  const Batch& batch_;
  const Carry& carry_;
  size_t group_, width_, value_width_;
  RowEnd row_end_;
};

void Backward::pack(size_t slot, size_t head, size_t t, const Scratch& s) const {
  const size_t token = sequence_.token_of(t), tokens = sequence_.rows(t);
  const size_t at = batch_.index(slot, t);
  load_tile(tile_rows(task_.inputs.k, token, tokens, head), {}, s.load);
  kernel_.to_rows(s.load, g_.head_dim, batch_.keys + at * kernel_.rows_words(g_.head_dim));
  if (batch_.paired_keys != batch_.keys)
    kernel_.to_paired(s.load, g_.head_dim,
                      batch_.paired_keys + at * kernel_.paired_words(g_.head_dim));
  load_tile(tile_rows(task_.inputs.v, token, tokens, head), {}, s.load);
  kernel_.to_rows(s.load, g_.value_dim, batch_.values + at * kernel_.rows_words(g_.value_dim));
  std::fill_n(dk_tile(slot, t), kTile * width_, 0.0F);
  std::fill_n(dv_tile(slot, t), kTile * value_width_, 0.0F);
  for (size_t i = 0; i < group_; ++i)
    std::fill_n(dq_tile(slot * group_ + i, t), kTile * width_, 0.0F);
}

// dout of a tile as the walk over the keys sees it: behind the head norm.
void load_dout(const StickBackwardTask& task, const RowEnd& row_end, size_t token, size_t rows,
               size_t head, float* tile, double* dweight, double* dbias) {
  const StickStore& store = task.store;
  load_tile(tile_rows(task.dout, token, rows, head), {}, tile);
  if (store.unnormed == nullptr) return;
  const size_t at = (head * store.tokens + token) * task.attention.geometry.value_dim;
  row_end.normalize_backward(rows, head, store.unnormed + at, tile, dweight, dbias);
}

void Backward::load_queries(size_t query_head, size_t t, const Scratch& s) const {
  const size_t token = sequence_.token_of(t), rows = sequence_.rows(t);
  load_tile(tile_rows(task_.inputs.q, token, rows, query_head), {}, s.load);
  kernel_.to_columns(s.load, g_.head_dim, s.query);
  kernel_.to_paired(s.load, g_.head_dim, s.paired_query);
  load_dout(task_, row_end_, token, rows, query_head, s.load, nullptr, nullptr);
  kernel_.to_columns(s.load, g_.value_dim, s.dout);
  kernel_.to_paired(s.load, g_.value_dim, s.paired_dout);
}

TilePair Backward::pair_of(size_t slot, size_t head, size_t query_tile, size_t key_tile) const {
  TilePair p;
  p.head = head;
  p.query_tile = query_tile;
  p.key_tile = key_tile;
  p.rows = sequence_.rows(query_tile);
  p.columns = align_up(p.rows, kWidth);
  p.keys = std::min(kTile, align_up((query_tile - key_tile) * kTile + p.rows, 2));
  p.at = batch_.index(slot, key_tile);
  p.diagonal = key_tile == query_tile;
  return p;
}

GateRule Backward::gate(const TilePair& p) const {
  const StickBreakingOptions& options = task_.attention.options;
  const View1<const float>& bias = task_.inputs.vectors.logit_bias;
  const auto ahead = static_cast<int32_t>((p.query_tile - p.key_tile) * kTile);
  return {.factor = g_.scale * kLogitToExponent,
          .offset = bias.empty() ? 0 : bias[p.head] * kLogitToExponent,
          .floor = options.gate_floor,
          .shift = options.attend_current ? ahead : ahead - 1,
          .restricted = p.diagonal || options.gate_floor > 0};
}

void Backward::logits(const TilePair& p, const Scratch& s) const {
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
                     .accumulate = false},
                    p.diagonal);
}

void Backward::restore_sticks(size_t slot, size_t head, size_t query_tile, size_t group,
                              size_t first, const Scratch& s) const {
  const size_t stride = sequence_.stride, rows = sequence_.rows(query_tile);
  const size_t last = std::min(group * stride + stride - 1, query_tile);
  const float* kept = task_.store.sticks_of(head, sequence_.token, query_tile, rows, group, stride);
  double stick[kTile] = {};  // of padding 0
  std::copy_n(kept, rows, stick);
  for (size_t t = last;; --t) {
    float* entering = s.sticks + t % stride * kTile;
    std::copy_n(stick, kTile, entering);
    if (t == first) return;
    const TilePair p = pair_of(slot, head, query_tile, t);
    logits(p, s);
    steps_.attend({.scores = s.scores,
                   .keys = p.keys,
                   .columns = p.columns,
                   .gate = gate(p),
                   .stick = entering,
                   .consumed = s.consumed,
                   .product = s.product,
                   .weights = s.weights_by_key});
    for (size_t row = 0; row < rows; ++row)
      stick[row] *= share_left(s.consumed[row], s.product[row]);
  }
}

void Backward::recompute(const TilePair& p, const Scratch& s) const {
  logits(p, s);
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
  std::fill_n(s.worth, kTile, 0.0F);
  std::copy_n(carry_.worth + p.head * task_.store.tokens + sequence_.token_of(p.query_tile), p.rows,
              s.worth);
  steps_.gradient({.scores = s.scores,
                   .dweights = s.dweights,
                   .keys = p.keys,
                   .columns = p.columns,
                   .gate = gate(p),
                   .stick = s.sticks + p.key_tile % sequence_.stride * kTile,
                   .worth = s.worth,
                   .dworth = s.dworth,
                   .dlogit = s.dlogit,
                   .weights_by_key = s.weights_by_key,
                   .dz_by_key = s.dz_by_key,
                   .dz_by_query = s.dz_by_query});
}

void Backward::carry_on(const TilePair& p, const Scratch& s) const {
  const size_t at = p.head * task_.store.tokens + sequence_.token_of(p.query_tile);
  for (size_t row = 0; row < p.rows; ++row) carry_.worth[at + row] += s.dworth[row];
  if (carry_.dlogit == nullptr) return;
  for (size_t row = 0; row < p.rows; ++row) carry_.dlogit[at + row] += s.dlogit[row];
}

void Backward::gather(size_t slot, size_t query, const TilePair& p, const Scratch& s) const {
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
                  .a = s.dz_by_key,
                  .a_row = kTile / kernel_.pair,
                  .a_depth = 1,
                  .b = s.paired_query,
                  .b_depth = width_,
                  .c = dk_tile(slot, p.key_tile),
                  .c_row = width_,
                  .accumulate = true},
                 p.diagonal);
  product_by_query(kernel_,
                   {.rows = p.rows,
                    .columns = width_,
                    .depth = kernel_.depth(p.keys),
                    .a = s.dz_by_query,
                    .a_row = 1,
                    .a_depth = kTile,
                    .b = batch_.paired_keys + p.at * kernel_.paired_words(g_.head_dim),
                    .b_depth = width_,
                    .c = dq_tile(query, p.query_tile),
                    .c_row = width_,
                    .accumulate = true},
                   p.diagonal);
}

void Backward::work(size_t slot, size_t head, size_t query_block, size_t key_block,
                    const Scratch& s) const {
  const size_t block = sequence_.block, stride = sequence_.stride;
  const size_t query_end = std::min((query_block + 1) * block, sequence_.tiles);
  for (size_t query = head * group_; query < (head + 1) * group_; ++query) {
    for (size_t q = query_block * block; q < query_end; ++q) {
      const size_t token = sequence_.token_of(q);
      const size_t visited = task_.store.first_tile[query * task_.store.tokens + token];
      const size_t begin = std::max(key_block * block, visited);
      const size_t end = std::min((key_block + 1) * block, q + 1);
      if (begin >= end) continue;
      load_queries(query, q, s);
      for (size_t t = begin; t < end; ++t) {
        if (t == begin || t % stride == 0) restore_sticks(slot, query, q, t / stride, t, s);
        const TilePair pair = pair_of(slot, query, q, t);
        recompute(pair, s);
        carry_on(pair, s);
        gather(slot, slot * group_ + query - head * group_, pair, s);
      }
    }
  }
}

void Backward::finish(size_t slot, size_t head, size_t t, const Scratch& s) const {
  const size_t token = sequence_.token_of(t), tokens = sequence_.rows(t);
  const StickGradients& to = task_.gradients;
  if (task_.attention.options.remainder == StickRemainder::value) {
    for (size_t query = head * group_; query < (head + 1) * group_; ++query) {
      load_dout(task_, row_end_, token, tokens, query, s.load, nullptr, nullptr);
      const float* remainder = task_.store.remainder + query * task_.store.tokens + token;
      for (size_t row = 0; row < tokens; ++row)
        for (size_t i = row * value_width_; i < (row + 1) * value_width_; ++i)
          dv_tile(slot, t)[i] += remainder[row] * s.load[i];
    }
  }
  unload_tile(dk_tile(slot, t), g_.scale, {}, tile_rows(to.dk, token, tokens, head));
  unload_tile(dv_tile(slot, t), 1.0F, {}, tile_rows(to.dv, token, tokens, head));
  for (size_t i = 0; i < group_; ++i)
    unload_tile(dq_tile(slot * group_ + i, t), g_.scale, {},
                tile_rows(to.dq, token, tokens, head * group_ + i));
}

// Sums over the rows of a sequence, [value_dim] each.
struct VectorSums {
  double remainder[256] = {}, norm_weight[256] = {}, norm_bias[256] = {};
};

void add_sums(const double* sums, size_t n, size_t head, View1<float> to) {
  if (to.empty()) return;
  for (size_t i = 0; i < n; ++i) to[head * n + i] += static_cast<float>(sums[i]);
}

// Fills the carry of one query head and adds to the gradients of its vectors, sequence by sequence.
void prepare_head(const StickBackwardTask& task, View1<const int32_t> offsets, const Carry& carry,
                  size_t head, const Scratch& s) {
  const size_t n = task.attention.geometry.value_dim, width = padded_width(n);
  const RowEnd row_end{task.attention, task.inputs.v, task.inputs.vectors};
  for (size_t i = 0; i + 1 < offsets.size; ++i) {
    VectorSums sums;
    const size_t end = offsets[i + 1];
    for (size_t token = offsets[i]; token < end; token += kTile) {
      const size_t rows = std::min(kTile, end - token), at = head * task.store.tokens + token;
      load_dout(task, row_end, token, rows, head, s.load, sums.norm_weight, sums.norm_bias);
      for (size_t row = 0; row < rows; ++row)
        carry.worth[at + row] = task.dremainder.empty() ? 0 : task.dremainder[token + row][head];
      row_end.remainder_backward(token, rows, head, s.load, carry.worth + at, s.values);
      if (carry.dlogit != nullptr) std::fill_n(carry.dlogit + at, rows, 0.0);
      for (size_t row = 0; row < rows; ++row)
        for (size_t c = 0; c < n; ++c)
          sums.remainder[c] +=
              static_cast<double>(task.store.remainder[at + row]) * s.load[row * width + c];
    }
    add_sums(sums.remainder, n, head, task.gradients.vectors.remainder);
    add_sums(sums.norm_weight, n, head, task.gradients.vectors.norm_weight);
    add_sums(sums.norm_bias, n, head, task.gradients.vectors.norm_bias);
  }
}

// The gradient of the logit bias, sequence by sequence.
void add_logit_gradients(const StickBackwardTask& task, View1<const int32_t> offsets,
                         const Carry& carry) {
  if (carry.dlogit == nullptr) return;
  for (size_t head = 0; head < task.attention.geometry.heads; ++head)
    for (size_t i = 0; i + 1 < offsets.size; ++i) {
      double sum = 0;
      for (int32_t token = offsets[i]; token < offsets[i + 1]; ++token)
        sum += carry.dlogit[head * task.store.tokens + token];
      task.gradients.vectors.logit_bias[head] += static_cast<float>(sum);
    }
}

// A key head of a short sequence in one unit of work.
void run_whole(const StickBackwardTask& task, View1<const int32_t> offsets, size_t whole,
               const TileKernel& kernel, const Carry& carry, const Arena& arena, ThreadTeam& team) {
  const AttentionGeometry& g = task.attention.geometry;
  const auto take = [&](Arena& own) {
    return std::pair(take_batch(own, g, kernel, kWholeTiles, 1), take_scratch(own, g, kernel, 1));
  };
  Arena one;
  take(one);
  team.run((offsets.size - 1) * g.kv_heads, [&](size_t chunk, int thread) {
    const size_t i = chunk / g.kv_heads, head = chunk % g.kv_heads;
    const Sequence sequence(offsets[i], offsets[i + 1] - offsets[i]);
    if (sequence.tokens == 0 || sequence.tiles > whole) return;
    Arena own = arena;
    own.take<std::byte>(one.used() * thread);
    const auto [batch, scratch] = take(own);
    const Backward backward(task, sequence, kernel, batch, carry);
    for (size_t t = 0; t < sequence.tiles; ++t) backward.pack(0, head, t, scratch);
    for (size_t q = 0; q < sequence.blocks; ++q)
      for (size_t k = 0; k <= q; ++k) backward.work(0, head, q, k, scratch);
    for (size_t t = 0; t < sequence.tiles; ++t) backward.finish(0, head, t, scratch);
  });
}

// Key heads in batches, and in each the waves.
void run_waves(const StickBackwardTask& task, const Sequence& sequence, const TileKernel& kernel,
               const Carry& carry, Arena arena, ThreadTeam& team) {
  const AttentionGeometry& g = task.attention.geometry;
  const size_t tiles = sequence.tiles, batch_heads = stick_head_batch(g.kv_heads, tiles);
  const Batch batch = take_batch(arena, g, kernel, tiles, batch_heads);
  const Backward backward(task, sequence, kernel, batch, carry);
  Arena one;
  take_scratch(one, g, kernel, sequence.stride);
  const auto scratch = [&](int thread) {
    Arena own = arena;
    own.take<std::byte>(one.used() * thread);
    return take_scratch(own, g, kernel, sequence.stride);
  };
  for (size_t first = 0; first < g.kv_heads; first += batch_heads) {
    const size_t heads = std::min(batch_heads, g.kv_heads - first);
    team.run(heads * tiles, [&](size_t chunk, int thread) {
      backward.pack(chunk / tiles, first + chunk / tiles, chunk % tiles, scratch(thread));
    });
    for (size_t wave = 0; wave + 1 < 2 * sequence.blocks; ++wave) {
      const size_t begin = (wave + 1) / 2, end = std::min(wave + 1, sequence.blocks);
      team.run((end - begin) * heads, [&](size_t chunk, int thread) {
        const size_t slot = chunk % heads, query_block = begin + chunk / heads;
        backward.work(slot, first + slot, query_block, wave - query_block, scratch(thread));
      });
    }
    team.run(heads * tiles, [&](size_t chunk, int thread) {
      backward.finish(chunk / tiles, first + chunk / tiles, chunk % tiles, scratch(thread));
    });
  }
}

Carry take_carry(Arena& arena, const StickBreaking& attention, size_t tokens) {
  const size_t rows = attention.geometry.heads * tokens;
  return {arena.take<double>(rows),
          attention.options.logit_bias ? arena.take<double>(rows) : nullptr};
}

}  // namespace

size_t stick_backward_workspace(const StickBreaking& attention, const TileKernel& kernel,
                                size_t tokens, size_t tiles, int threads) {
  const AttentionGeometry& g = attention.geometry;
  Arena carry, shared, scratch, own;
  take_carry(carry, attention, tokens);
  take_batch(shared, g, kernel, most_batch_tiles(g.kv_heads, tiles), 1);
  take_scratch(scratch, g, kernel, stick_stride(tiles));
  take_batch(own, g, kernel, kWholeTiles, 1);
  take_scratch(own, g, kernel, 1);
  return carry.used() + std::max(shared.used() + scratch.used() * threads, own.used() * threads);
}

void run_stick_backward(const StickBackwardTask& task, View1<const int32_t> offsets, Arena& arena,
                        ThreadTeam& team) {
  const AttentionGeometry& g = task.attention.geometry;
  const TileKernel& kernel = tile_kernel_for(task.inputs.q.dtype);
  const Carry carry = take_carry(arena, task.attention, task.store.tokens);
  Arena one;
  take_scratch(one, g, kernel, 1);
  team.run(g.heads, [&](size_t head, int thread) {
    Arena own = arena;
    own.take<std::byte>(one.used() * thread);
    prepare_head(task, offsets, carry, head, take_scratch(own, g, kernel, 1));
  });
  const size_t whole = whole_tiles(offsets, g.kv_heads);
  for (size_t i = 0; i + 1 < offsets.size; ++i) {
    const Sequence sequence(offsets[i], offsets[i + 1] - offsets[i]);
    if (sequence.tiles > whole) run_waves(task, sequence, kernel, carry, arena, team);
  }
  run_whole(task, offsets, whole, kernel, carry, arena, team);
  add_logit_gradients(task, offsets, carry);
}

}  // namespace cairn
