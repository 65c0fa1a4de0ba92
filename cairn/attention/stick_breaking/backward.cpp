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
#include "cairn/attention/tile_gradients.h"

namespace cairn {
namespace {

// Per row of every query head, [heads][tokens], while its tiles of keys pass.
struct Carry {
  double* worth = nullptr;   // U
  double* dlogit = nullptr;  // sum of dz; null without logit_bias
};

// One thread's scratch: a tile of queries and what is computed against a tile of keys.
struct Scratch {
  float* load = nullptr;
  float* values = nullptr;  // a second tile to load into
  GradientQueries queries;
  GradientPair pair;
  float* sticks = nullptr;    // [stride][kTile] as they enter the tiles of a group
  float* consumed = nullptr;  // [kTile]
  float* product = nullptr;   // [kTile]
  float* worth = nullptr;     // [kTile]
  float* dworth = nullptr;    // [kTile]
  float* dlogit = nullptr;    // [kTile]
};

Scratch take_scratch(Arena& arena, const AttentionGeometry& g, const TileKernel& kernel,
                     size_t stride) {
  Scratch s;
  s.load = arena.take<float>(kTile * padded_width(std::max(g.head_dim, g.value_dim)));
  s.values = arena.take<float>(kTile * padded_width(g.value_dim));
  s.queries = take_gradient_queries(arena, g, kernel);
  s.pair = take_gradient_pair(arena, kernel);
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

class Backward {
 public:
  Backward(const StickBackwardTask& task, const Sequence& sequence, const TileKernel& kernel,
           const TileGradients& batch, const Carry& carry)
      : task_(task),
        g_(task.attention.geometry),
        sequence_(sequence),
        kernel_(kernel),
        steps_(kernel.pair == 1 ? f32_stick_steps() : bf16_stick_steps()),
        batch_(batch),
        carry_(carry),
        group_(g_.heads / g_.kv_heads),
        row_end_{task.attention, task.inputs.v, task.inputs.vectors} {}

  // Packs tile `t` of key head `head` as head `slot` of the batch and clears its gradients.
  void pack(size_t slot, size_t head, size_t t, const Scratch& s) const;
  // Adds what one pair of blocks contributes to all gradients of a key head and its query heads.
  void work(size_t slot, size_t head, size_t query_block, size_t key_block, const Scratch& s) const;
  // Writes the finished gradients of tile `t`.
  void finish(size_t slot, size_t head, size_t t, const Scratch& s) const;

 private:
  void load_queries(size_t query_head, size_t t, const Scratch& s) const;
  TilePair pair_of(size_t head, size_t query_tile, size_t key_tile) const;
  GateRule gate(const TilePair& p) const;
  // The sticks of a group of tiles of keys, from the one kept to that of tile `first`.
  void restore_sticks(size_t slot, size_t head, size_t query_tile, size_t group, size_t first,
                      const Scratch& s) const;
  // Weights and logit gradients of a pair of tiles.
  void recompute(size_t slot, const TilePair& p, const Scratch& s) const;
  void carry_on(const TilePair& p, const Scratch& s) const;

  const StickBackwardTask& task_;
  const AttentionGeometry& g_;
  const Sequence& sequence_;
  const TileKernel& kernel_;
  const StickSteps& steps_;
  const TileGradients& batch_;
  const Carry& carry_;
  size_t group_;
  RowEnd row_end_;
};

void Backward::pack(size_t slot, size_t head, size_t t, const Scratch& s) const {
  const size_t token = sequence_.token_of(t), tokens = sequence_.rows(t);
  batch_.pack(slot, t, tile_rows(task_.inputs.k, token, tokens, head), {},
              tile_rows(task_.inputs.v, token, tokens, head), s.load);
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
  pack_queries(kernel_, g_, s.load, s.queries);
  load_dout(task_, row_end_, token, rows, query_head, s.load, nullptr, nullptr);
  pack_dout(kernel_, g_, s.load, s.queries);
}

TilePair Backward::pair_of(size_t head, size_t query_tile, size_t key_tile) const {
  TilePair p;
  p.head = head;
  p.query_tile = query_tile;
  p.key_tile = key_tile;
  p.queries = sequence_.rows(query_tile);
  p.keys = std::min(kTile, align_up((query_tile - key_tile) * kTile + p.queries, 2));
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
    const TilePair p = pair_of(head, query_tile, t);
    batch_.scores(slot, p, s.queries, false, s.pair.scores);
    steps_.attend({.scores = s.pair.scores,
                   .keys = p.keys,
                   .columns = p.columns(),
                   .gate = gate(p),
                   .stick = entering,
                   .consumed = s.consumed,
                   .product = s.product,
                   .weights = s.pair.weights_by_key});
    for (size_t row = 0; row < rows; ++row)
      stick[row] *= share_left(s.consumed[row], s.product[row]);
  }
}

void Backward::recompute(size_t slot, const TilePair& p, const Scratch& s) const {
  batch_.recompute(slot, p, s.queries, false, s.pair);
  std::fill_n(s.worth, kTile, 0.0F);
  std::copy_n(carry_.worth + p.head * task_.store.tokens + sequence_.token_of(p.query_tile),
              p.queries, s.worth);
  steps_.gradient({.scores = s.pair.scores,
                   .dweights = s.pair.dweights,
                   .keys = p.keys,
                   .columns = p.columns(),
                   .gate = gate(p),
                   .stick = s.sticks + p.key_tile % sequence_.stride * kTile,
                   .worth = s.worth,
                   .dworth = s.dworth,
                   .dlogit = s.dlogit,
                   .weights_by_key = s.pair.weights_by_key,
                   .dz_by_key = s.pair.dscores_by_key,
                   .dz_by_query = s.pair.dscores_by_query});
}

void Backward::carry_on(const TilePair& p, const Scratch& s) const {
  const size_t at = p.head * task_.store.tokens + sequence_.token_of(p.query_tile);
  for (size_t row = 0; row < p.queries; ++row) carry_.worth[at + row] += s.dworth[row];
  if (carry_.dlogit == nullptr) return;
  for (size_t row = 0; row < p.queries; ++row) carry_.dlogit[at + row] += s.dlogit[row];
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
        const TilePair pair = pair_of(query, q, t);
        recompute(slot, pair, s);
        carry_on(pair, s);
        batch_.add(slot, slot * group_ + query - head * group_, pair, s.queries, s.pair);
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
      const size_t width = padded_width(g_.value_dim);
      for (size_t row = 0; row < tokens; ++row)
        for (size_t i = row * width; i < (row + 1) * width; ++i)
          batch_.dv(slot, t)[i] += remainder[row] * s.load[i];
    }
  }
  unload_tile(batch_.dk(slot, t), g_.scale, {}, tile_rows(to.dk, token, tokens, head));
  unload_tile(batch_.dv(slot, t), 1.0F, {}, tile_rows(to.dv, token, tokens, head));
  for (size_t i = 0; i < group_; ++i)
    unload_tile(batch_.dq(slot * group_ + i, t), g_.scale, {},
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
    return std::pair(TileGradients(own, g, kernel, kWholeTiles, 1),
                     take_scratch(own, g, kernel, 1));
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
  const TileGradients batch(arena, g, kernel, tiles, batch_heads);
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
  TileGradients(shared, g, kernel, most_batch_tiles(g.kv_heads, tiles), 1);
  take_scratch(scratch, g, kernel, stick_stride(tiles));
  TileGradients(own, g, kernel, kWholeTiles, 1);
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
