// Three passes over the super-blocks of each key head, each parallel over all of them:
//   1. inside: blocks are transformed; queries meet the keys of their own super-block while they
//   are
//      carried to its start (x <- x P_b^T, b descending); keys are carried to its end.
//   2. products P_{j+1} ... P_{i-1} between super-blocks.
//   3. before: keys of each earlier super-block are carried to the start of the queries' one and
//      meet all query tiles of all heads of the group. A carried tile is used for many query tiles
//      and never stored.
#include "cairn/attention/path/forward.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "cairn/attention/path/elements.h"
#include "cairn/attention/softmax/forward.h"

namespace cairn {
namespace {

// Query tiles that walk over the keys together: what they need stays in L2.
constexpr size_t kStrip = 16;

// Of a batch of key heads, [head][tile] or [head][super-block].
struct Batch {
  float* carried = nullptr;     // keys at the end of their super-block [kTile][width]
  uint32_t* values = nullptr;   // paired form
  float* p = nullptr;           // of super-blocks [dim][width]
  float* products = nullptr;    // between super-blocks [dim][width]
  uint32_t* columns = nullptr;  // queries at the start of their super-block, [query head][tile]
  float* out = nullptr;         // what they have gathered [kTile][value_width]
  OnlineSoftmax* state = nullptr;
};

struct Scratch {
  Block block;
  BlockQueries queries;
  PairScratch pair;
  float* load = nullptr;                // [kTile][larger width]
  float* inside = nullptr;              // P of the tiles of a super-block, [tile][dim][width]
  uint32_t* keys = nullptr;             // their Kt packed in rows
  float *x = nullptr, *next = nullptr;  // [dim][kTile]
  float *suffix = nullptr, *longer = nullptr;  // [dim][width]
};

struct Sizes {
  size_t key, value, columns, p, out;  // elements of one tile or product

  explicit Sizes(const PathTask& t)
      : key(kTile * t.size.width),
        value(t.kernel->paired_words(t.value_dim)),
        columns(t.kernel->columns_words(t.size.dim)),
        p(t.size.dim * t.size.width),
        out(kTile * t.value_width) {}
};

Batch take_batch(Arena& arena, const PathTask& task, size_t tiles, size_t heads) {
  const Sizes n(task);
  const SuperLimits limits = super_limits(tiles, task.group, task.size.dim, task.in.block_tiles);
  Batch b;
  b.carried = arena.take<float>(heads * tiles * n.key);
  b.values = arena.take<uint32_t>(heads * tiles * n.value);
  b.p = arena.take<float>(heads * limits.count * n.p);
  b.products = arena.take<float>(heads * limits.pairs * n.p);
  b.columns = arena.take<uint32_t>(heads * task.group * tiles * n.columns);
  b.out = arena.take<float>(heads * task.group * tiles * n.out);
  b.state = arena.take<OnlineSoftmax>(heads * task.group * tiles);
  return b;
}

Scratch take_scratch(Arena& arena, const PathTask& task, size_t block_tiles) {
  const Sizes n(task);
  Scratch s;
  s.block = take_block(arena, task.size);
  s.queries = take_block_queries(arena, task.size);
  s.pair = take_pair_scratch(arena, *task.kernel);
  s.load = arena.take<float>(kTile * std::max(task.size.width, task.value_width));
  s.inside = arena.take<float>(block_tiles * n.p);
  s.keys = arena.take<uint32_t>(block_tiles * task.kernel->rows_words(task.size.dim));
  s.x = arena.take<float>(task.size.dim * kTile);
  s.next = arena.take<float>(task.size.dim * kTile);
  s.suffix = arena.take<float>(n.p);
  s.longer = arena.take<float>(n.p);
  return s;
}

class Forward {
 public:
  Forward(const PathTask& task, const AnyView3& out, float* log2_sum, const Batch& batch)
      : task_(task), n_(task), out_(out), log2_sum_(log2_sum), batch_(batch) {}

  // Pass 1 and 3 for super-block `i` of key head `head`, which is number `slot` of the batch.
  void inside(size_t slot, size_t head, size_t i, Scratch& s) const;
  void chain(size_t slot, size_t i) const {
    chain_products(task_, i, batch_.p + slot * task_.supers.count * n_.p,
                   batch_.products + slot * task_.supers.pairs * n_.p);
  }
  void before(size_t slot, size_t head, size_t i, Scratch& s) const;

 private:
  size_t index(size_t slot, size_t tile) const { return slot * task_.plan.tiles + tile; }
  PathKeys keys_of(size_t slot, size_t tile, const void* rows) const {
    return {rows, batch_.values + index(slot, tile) * n_.value, tile};
  }
  PathQueries queries_of(size_t slot, size_t head, size_t member, size_t tile) const {
    const size_t at = index(slot * task_.group + member, tile);
    PathQueries q;
    q.columns = batch_.columns + at * n_.columns;
    q.out = batch_.out + at * n_.out;
    q.state = batch_.state + at;
    q.head = head * task_.group + member;
    q.tile = tile;
    return q;
  }
  void pack_tile(size_t slot, size_t head, size_t tile, size_t place, Scratch& s) const;
  void walk_inside(const SuperBlock& super, size_t slot, size_t head, size_t member, size_t tile,
                   Scratch& s) const;
  void carry_to_end(const SuperBlock& super, size_t slot, size_t i, Scratch& s) const;
  void pack_columns(const float* columns, uint32_t* words) const;
  void meet_tile(size_t slot, size_t i, size_t j, size_t tile, std::span<PathQueries> strip,
                 Scratch& s) const;
  void finish(const PathQueries& queries) const;

  const PathTask& task_;
  const Sizes n_;
  const AnyView3& out_;
  float* log2_sum_;
  const Batch& batch_;
};

void Forward::pack_columns(const float* columns, uint32_t* words) const {
  if (task_.kernel->pair == 2)
    pair_columns(columns, task_.size.dim, words);
  else
    std::memcpy(words, columns, task_.size.dim * kTile * sizeof(float));
}

// Transforms a tile, number `place` of its super-block, and packs its keys and values.
void Forward::pack_tile(size_t slot, size_t head, size_t tile, size_t place, Scratch& s) const {
  const Tile& t = task_.plan.tile[tile];
  make_block(task_.in, task_.size, t, head, *task_.f32, s.block);
  std::memcpy(s.inside + place * n_.p, s.block.p, n_.p * sizeof(float));
  std::memcpy(batch_.carried + index(slot, tile) * n_.key, s.block.carried, n_.key * sizeof(float));
  task_.kernel->to_rows(s.block.carried, task_.size.dim,
                        s.keys + place * task_.kernel->rows_words(task_.size.dim));
  load_tile(tile_rows(task_.in.v, t.token, t.tokens, head), {}, s.load);
  task_.kernel->to_paired(s.load, task_.value_dim, batch_.values + index(slot, tile) * n_.value);
}

void Forward::walk_inside(const SuperBlock& super, size_t slot, size_t head, size_t member,
                          size_t tile, Scratch& s) const {
  const Tile& t = task_.plan.tile[tile];
  const size_t dim = task_.size.dim, first = super.first_tile;
  const size_t rows_words = task_.kernel->rows_words(dim);
  PathQueries queries = queries_of(slot, head, member, tile);
  std::fill_n(queries.state->maximum, kTile, std::numeric_limits<float>::lowest());
  std::fill_n(queries.state->sum, kTile, 0.0F);
  make_block_queries(tile_rows(task_.in.q, t.token, t.tokens, queries.head), 0, task_.size,
                     *task_.f32, s.block, s.queries);
  block_scores(task_.size, *task_.f32, s.block, s.queries, s.pair.scores);
  gather_scores(task_, keys_of(slot, tile, nullptr), queries, s.pair);
  carried_query_columns(task_.size, *task_.f32, s.block, s.queries, s.x);
  auto* columns = batch_.columns + (static_cast<const uint32_t*>(queries.columns) - batch_.columns);
  const size_t seen = t.first_key / kTile;
  for (size_t b = tile; b-- > first;) {
    if (b < seen) return;  // nothing earlier is seen
    pack_columns(s.x, columns);
    meet(task_, keys_of(slot, b, s.keys + (b - first) * rows_words), queries, s.pair);
    multiply(*task_.f32, {dim, kTile, dim}, plain(s.inside + (b - first) * n_.p, task_.size.width),
             {s.x, kTile}, {s.next, kTile});
    std::swap(s.x, s.next);
  }
  pack_columns(s.x, columns);
}

// Keys to the end of the super-block, and the product of the whole.
void Forward::carry_to_end(const SuperBlock& super, size_t slot, size_t i, Scratch& s) const {
  const size_t width = task_.size.width, dim = task_.size.dim, last = super.tiles - 1;
  std::memcpy(s.suffix, s.inside + last * n_.p, n_.p * sizeof(float));
  for (size_t b = last; b-- > 0;) {
    float* keys = batch_.carried + index(slot, super.first_tile + b) * n_.key;
    multiply(*task_.f32, {kTile, width, dim}, plain(keys, width), {s.suffix, width},
             {s.load, width});
    std::memcpy(keys, s.load, n_.key * sizeof(float));
    multiply(*task_.f32, {dim, width, dim}, plain(s.inside + b * n_.p, width), {s.suffix, width},
             {s.longer, width});
    std::swap(s.suffix, s.longer);
  }
  std::memcpy(batch_.p + (slot * task_.supers.count + i) * n_.p, s.suffix, n_.p * sizeof(float));
}

void Forward::inside(size_t slot, size_t head, size_t i, Scratch& s) const {
  const SuperBlock& super = task_.supers.super[i];
  for (size_t place = 0; place < static_cast<size_t>(super.tiles); ++place) {
    const size_t tile = super.first_tile + place;
    pack_tile(slot, head, tile, place, s);
    for (size_t member = 0; member < task_.group; ++member)
      walk_inside(super, slot, head, member, tile, s);
  }
  carry_to_end(super, slot, i, s);
}

// The keys of one tile of super-block j at the start of super-block i.
void Forward::meet_tile(size_t slot, size_t i, size_t j, size_t tile, std::span<PathQueries> strip,
                        Scratch& s) const {
  const size_t width = task_.size.width, dim = task_.size.dim;
  const float* keys = batch_.carried + index(slot, tile) * n_.key;
  if (j + 1 < i) {
    const size_t pair = slot * task_.supers.pairs + task_.supers.pair(i, j);
    multiply(*task_.f32, {kTile, width, dim}, plain(keys, width),
             {batch_.products + pair * n_.p, width}, {s.load, width});
    keys = s.load;
  }
  const void* rows = keys;
  if (task_.kernel->pair == 2) {
    task_.kernel->to_rows(keys, dim, s.keys);
    rows = s.keys;
  }
  for (PathQueries& queries : strip)
    if (static_cast<size_t>(task_.plan.tile[queries.tile].first_key) < (tile + 1) * kTile)
      meet(task_, keys_of(slot, tile, rows), queries, s.pair);
}

void Forward::before(size_t slot, size_t head, size_t i, Scratch& s) const {
  const SuperBlock& super = task_.supers.super[i];
  const size_t all = super.tiles * task_.group;
  const auto first_super = static_cast<size_t>(super.first);
  for (size_t begin = 0; begin < all; begin += kStrip) {
    const size_t count = std::min(kStrip, all - begin);
    PathQueries strip[kStrip];
    int32_t seen = std::numeric_limits<int32_t>::max();
    for (size_t n = 0; n < count; ++n) {
      const size_t member = (begin + n) / super.tiles, place = (begin + n) % super.tiles;
      strip[n] = queries_of(slot, head, member, super.first_tile + place);
      strip[n].fresh = false;
      seen = std::min(seen, task_.plan.tile[strip[n].tile].first_key);
    }
    for (size_t j = i; j-- > first_super;) {
      const SuperBlock& keys = task_.supers.super[j];
      for (size_t tile = keys.first_tile + keys.tiles;
           tile-- > static_cast<size_t>(keys.first_tile);)
        if (static_cast<size_t>(seen) < (tile + 1) * kTile)
          meet_tile(slot, i, j, tile, {strip, count}, s);
    }
    for (size_t n = 0; n < count; ++n) finish(strip[n]);
  }
}

void Forward::finish(const PathQueries& queries) const {
  const Tile& tile = task_.plan.tile[queries.tile];
  const OnlineSoftmax& state = *queries.state;
  const size_t width = task_.value_width;
  for (size_t row = 0; row < static_cast<size_t>(tile.tokens); ++row) {
    const float inverse = 1.0F / state.sum[row];
    for (size_t i = 0; i < width; ++i) queries.out[row * width + i] *= inverse;
    if (log2_sum_ != nullptr)
      log2_sum_[queries.head * task_.in.q.tokens + tile.token + row] =
          state.maximum[row] * task_.factor() + std::log2(state.sum[row]);
  }
  unload_tile(queries.out, 1.0F, {}, tile_rows(out_, tile.token, tile.tokens, queries.head));
}

}  // namespace

void chain_products(const PathTask& task, size_t i, const float* p, float* products) {
  const size_t width = task.size.width, dim = task.size.dim, size = dim * width;
  const size_t count = task.supers.products_of(i);
  if (count == 0) return;
  const auto first = static_cast<size_t>(task.supers.super[i].first);
  std::memcpy(products + task.supers.pair(i, i - 2) * size, p + (i - 1) * size,
              size * sizeof(float));
  for (size_t j = i - 2; j-- > first;)
    multiply(*task.f32, {dim, width, dim}, plain(p + (j + 1) * size, width),
             {products + task.supers.pair(i, j + 1) * size, width},
             {products + task.supers.pair(i, j) * size, width});
}

size_t path_forward_workspace(const PathTask& task, size_t tiles, int threads) {
  Arena arena, one;
  take_batch(arena, task, tiles, head_batch(task.kv_heads, tiles));
  take_scratch(one, task,
               super_limits(tiles, task.group, task.size.dim, task.in.block_tiles).block_tiles);
  return arena.used() + one.used() * threads;
}

void run_path_forward(const PathTask& task, const AnyView3& out, float* log2_sum, Arena& arena,
                      ThreadTeam& team) {
  const size_t batch_heads = head_batch(task.kv_heads, task.plan.capacity);
  const size_t block_tiles = task.supers.block_tiles, supers = task.supers.count;
  const Batch batch = take_batch(arena, task, task.plan.capacity, batch_heads);
  const Forward forward(task, out, log2_sum, batch);
  Arena one;
  take_scratch(one, task, block_tiles);
  const auto scratch = [&](int thread) {
    Arena own = arena;
    own.take<std::byte>(one.used() * thread);
    return take_scratch(own, task, block_tiles);
  };
  for (size_t first = 0; first < task.kv_heads; first += batch_heads) {
    const size_t heads = std::min(batch_heads, task.kv_heads - first);
    team.run(supers * heads, [&](size_t chunk, int thread) {
      Scratch own = scratch(thread);
      forward.inside(chunk % heads, first + chunk % heads, chunk / heads, own);
    });
    team.run(supers * heads,
             [&](size_t chunk, int) { forward.chain(chunk % heads, chunk / heads); });
    // Later super-blocks of a sequence have more keys: they come first.
    team.run(supers * heads, [&](size_t chunk, int thread) {
      Scratch own = scratch(thread);
      forward.before(chunk % heads, first + chunk % heads, supers - 1 - chunk / heads, own);
    });
  }
}

}  // namespace cairn
