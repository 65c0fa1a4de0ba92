// Gradients of forward.cpp, everything recomputed from its inputs and the saved sums. With
// p = softmax(logit), delta_i = sum(dout_i * out_i) and dS = p * (dout v - delta), whose factor
// `scale` is left to the end, since all that follows is linear in it:
//   dv += p^T dout,  dkeys += dS^T queries,  dqueries += dS keys,
//   dc_j -= gate_scale * dS_ij,  dc_i += gate_scale * dS_ij
// for queries and keys carried to where they meet.
//
// Passes, each parallel over super-blocks and key heads:
//   1. prepare: blocks are transformed; queries and keys are carried to the ends of super-blocks.
//   2. products between super-blocks, as in forward.
//   3. distant pairs of super-blocks in the rounds of schedule.h: of a round no two share a block,
//   so
//      they add to dqueries, dkeys and dv without locks, in an order that ignores threads.
//   4. products' gradients back to those of super-blocks.
//   5. inside super-blocks, down to q, k, v, w, beta.
#include "cairn/attention/path/backward.h"

#include <cstring>

#include "cairn/attention/path/backward_memory.h"
#include "cairn/attention/path/elements.h"
#include "cairn/attention/path/forward.h"
#include "cairn/attention/softmax/forward.h"

namespace cairn {
namespace {

using namespace path_backward;

// TileKernel::to_columns, through registers where that is a plain transposition.
void to_columns(const TileKernel& kernel, const float* rows, size_t dim, uint32_t* columns) {
  if (kernel.pair == 1)
    transpose_matrix({rows, padded_width(dim)}, kTile, dim,
                     {reinterpret_cast<float*>(columns), kTile});
  else
    kernel.to_columns(rows, dim, columns);
}

class Backward {
 public:
  Backward(const PathTask& task, const AnyView3& out, const AnyView3& dout, const float* log2_sum,
           const PathGradients& gradients, const Batch& batch)
      : task_(task),
        n_(task),
        out_(out),
        dout_(dout),
        log2_sum_(log2_sum),
        gradients_(gradients),
        batch_(batch),
        width_(task.size.width),
        dim_(task.size.dim) {}

  // The passes; `head` is number `slot` of the batch.
  void prepare(size_t slot, size_t head, size_t i, Scratch& s) const;
  void chain(size_t slot, size_t i) const {
    chain_products(task_, i, super_product(batch_.super_p, slot, 0),
                   product(batch_.products, slot, 0));
  }
  void distant(size_t slot, size_t head, const BlockPair& pair, Scratch& s) const;
  void unchain(size_t slot, size_t segment, Scratch& s) const;
  void inside(size_t slot, size_t head, size_t i, Scratch& s) const;
  void finish_gate(size_t slot, size_t head) const;

 private:
  float* key_tile(float* array, size_t slot, size_t tile) const {
    return array + (slot * task_.plan.tiles + tile) * n_.key;
  }
  float* tile_product(float* array, size_t slot, size_t tile) const {
    return array + (slot * task_.plan.tiles + tile) * n_.p;
  }
  float* dv_tile(size_t slot, size_t tile) const {
    return batch_.dv + (slot * task_.plan.tiles + tile) * n_.value;
  }
  float* super_product(float* array, size_t slot, size_t i) const {
    return array + (slot * task_.supers.count + i) * n_.p;
  }
  float* product(float* array, size_t slot, size_t pair) const {
    return array + (slot * task_.supers.pairs + pair) * n_.p;
  }
  // By query head of the batch.
  float* query_tile(float* array, size_t query, size_t tile) const {
    return array + (query * task_.plan.tiles + tile) * n_.key;
  }
  float* gate_tile(size_t query, size_t tile) const {
    return batch_.dgate + (query * task_.plan.tiles + tile) * kTile;
  }

  void prepare_queries(size_t query, size_t head, size_t tile, const float* prefix,
                       Scratch& s) const;
  void load_gradients(const TileKernel& kernel, size_t head, size_t tile, Scratch& s) const;
  void pack_queries(const float* rows, Scratch& s) const;
  PackedKeys packed_at(size_t place, const Scratch& s) const;
  void pack_keys(const float* rows, size_t head, size_t tile, size_t place, Scratch& s) const;
  void carry_back(size_t slot, size_t pair, const BlockPair& blocks, Scratch& s) const;
  // Tiles that meet, and where their gradients go.
  struct Meeting {
    size_t query = 0, head = 0;  // query head of the batch and of all
    size_t query_tile = 0, key_tile = 0;
    PackedKeys keys;
    float *dv = nullptr, *dkeys = nullptr, *dqueries = nullptr;
  };
  void meet(const Meeting& m, Scratch& s) const;
  void carry_gradients(size_t slot, size_t i, Scratch& s) const;
  void walk_inside(size_t slot, size_t head, size_t member, size_t tile, const SuperBlock& super,
                   Scratch& s) const;
  void local(size_t slot, size_t head, size_t tile, size_t place, Scratch& s) const;
  void local_queries(size_t slot, size_t head, size_t member, size_t tile, Scratch& s) const;
  void own_scores(size_t query, size_t head, size_t tile, size_t slot, Scratch& s) const;
  void unload_block(size_t slot, size_t head, size_t tile, Scratch& s) const;

  const PathTask& task_;
  const Sizes n_;
  const AnyView3 &out_, &dout_;
  const float* log2_sum_;
  const PathGradients& gradients_;
  const Batch& batch_;
  size_t width_, dim_;
};

// ---- 1. prepare

// Qt, and the same at the start of the super-block: times (P_first ... P_{tile-1})^T.
void Backward::prepare_queries(size_t query, size_t head, size_t tile, const float* prefix,
                               Scratch& s) const {
  const Tile& t = task_.plan.tile[tile];
  make_block_queries(tile_rows(task_.in.q, t.token, t.tokens, head), 0, task_.size, *task_.f32,
                     s.block, s.queries);
  float* qt = query_tile(batch_.qt, query, tile);
  float* start = query_tile(batch_.start, query, tile);
  carried_query_rows(task_.size, *task_.f32, s.block, s.queries, qt);
  if (prefix == nullptr)
    std::memcpy(start, qt, n_.key * sizeof(float));
  else
    multiply(*task_.f32, {kTile, width_, dim_}, plain(qt, width_), {prefix, width_},
             {start, width_});
  std::fill_n(query_tile(batch_.dstart, query, tile), n_.key, 0.0F);
  std::fill_n(gate_tile(query, tile), kTile, 0.0F);
}

void Backward::prepare(size_t slot, size_t head, size_t i, Scratch& s) const {
  const SuperBlock& super = task_.supers.super[i];
  const size_t tiles = super.tiles, group = task_.group;
  float *prefix = nullptr, *free = s.chain, *other = s.chain + n_.chain();
  for (size_t place = 0; place < tiles; ++place) {
    const size_t tile = super.first_tile + place;
    float* pt = tile_product(batch_.pt, slot, tile);
    make_block(task_.in, task_.size, task_.plan.tile[tile], head, *task_.f32, s.block);
    std::memcpy(key_tile(batch_.kt, slot, tile), s.block.carried, n_.key * sizeof(float));
    std::memcpy(tile_product(batch_.p, slot, tile), s.block.p, n_.p * sizeof(float));
    transposed_product(task_.size, s.block, pt);
    for (size_t member = 0; member < group; ++member)
      prepare_queries(slot * group + member, head * group + member, tile, prefix, s);
    std::fill_n(key_tile(batch_.dcarried, slot, tile), n_.key, 0.0F);
    std::fill_n(dv_tile(slot, tile), n_.value, 0.0F);
    if (prefix == nullptr) {
      prefix = pt;
    } else if (place + 1 < tiles) {  // (P_first ... P_tile)^T = P_tile^T (P_first ... P_{tile-1})^T
      multiply(*task_.f32, {dim_, width_, dim_}, plain(pt, width_), {prefix, width_},
               {free, width_});
      prefix = free;
      std::swap(free, other);
    }
  }
  std::fill_n(super_product(batch_.dsuper_p, slot, i), n_.p, 0.0F);
  const size_t pairs = task_.supers.products_of(i);
  std::fill_n(product(batch_.dproducts, slot, task_.supers.super[i].pair), pairs * n_.p, 0.0F);
  // Keys to the end.
  float* suffix = s.suffix;
  std::memcpy(suffix, tile_product(batch_.p, slot, super.first_tile + tiles - 1),
              n_.p * sizeof(float));
  std::memcpy(key_tile(batch_.carried, slot, super.first_tile + tiles - 1),
              key_tile(batch_.kt, slot, super.first_tile + tiles - 1), n_.key * sizeof(float));
  float* longer = s.chain;
  for (size_t place = tiles - 1; place-- > 0;) {
    const size_t tile = super.first_tile + place;
    multiply(*task_.f32, {kTile, width_, dim_}, plain(key_tile(batch_.kt, slot, tile), width_),
             {suffix, width_}, {key_tile(batch_.carried, slot, tile), width_});
    multiply(*task_.f32, {dim_, width_, dim_}, plain(tile_product(batch_.p, slot, tile), width_),
             {suffix, width_}, {longer, width_});
    std::swap(suffix, longer);
  }
  std::memcpy(super_product(batch_.super_p, slot, i), suffix, n_.p * sizeof(float));
}

// ---- pairs of tiles

// dout, the sums and delta of a tile of queries.
void Backward::load_gradients(const TileKernel& kernel, size_t head, size_t tile,
                              Scratch& s) const {
  const Tile& t = task_.plan.tile[tile];
  const PackedQueries& q = s.packed_queries;
  const AnyView2 dout = tile_rows(dout_, t.token, t.tokens, head);
  load_tile(dout, {}, s.load);
  to_columns(kernel, s.load, task_.value_dim, q.dout);
  kernel.to_paired(s.load, task_.value_dim, q.paired_dout);
  // Padding gets weight 2^0 and gradient 0 times 0.
  std::fill_n(q.delta, kTile, 0.0F);
  std::fill_n(q.log2_sum, kTile, 0.0F);
  dot_tile_rows(tile_rows(out_, t.token, t.tokens, head), dout, q.delta);
  std::copy_n(log2_sum_ + head * task_.in.q.tokens + t.token, t.tokens, q.log2_sum);
}

// In f32 rows are their own paired form.
void Backward::pack_queries(const float* rows, Scratch& s) const {
  PackedQueries& q = s.packed_queries;
  to_columns(*task_.kernel, rows, dim_, q.columns);
  if (task_.kernel->pair == 1) {
    q.paired = reinterpret_cast<const uint32_t*>(rows);
  } else {
    task_.kernel->to_paired(rows, dim_, q.paired_space);
    q.paired = q.paired_space;
  }
}

PackedKeys Backward::packed_at(size_t place, const Scratch& s) const {
  const TileKernel& kernel = *task_.kernel;
  uint32_t* rows = s.packed_keys.rows + place * kernel.rows_words(dim_);
  return {rows, kernel.pair == 1 ? rows : s.packed_keys.paired + place * kernel.paired_words(dim_),
          s.packed_keys.values + place * kernel.rows_words(task_.value_dim)};
}

void Backward::pack_keys(const float* rows, size_t head, size_t tile, size_t place,
                         Scratch& s) const {
  const Tile& t = task_.plan.tile[tile];
  const PackedKeys to = packed_at(place, s);
  task_.kernel->to_rows(rows, dim_, to.rows);
  if (to.paired != to.rows) task_.kernel->to_paired(rows, dim_, to.paired);
  load_tile(tile_rows(task_.in.v, t.token, t.tokens, head), {}, s.load);
  task_.kernel->to_rows(s.load, task_.value_dim, to.values);
}

// The packed queries against packed, earlier keys: adds to dv, dkeys and dqueries.
void Backward::meet(const Meeting& m, Scratch& s) const {
  const TileKernel& kernel = *task_.kernel;
  const size_t queries = task_.plan.tile[m.query_tile].tokens, columns = align_up(queries, kWidth);
  const PackedQueries& q = s.packed_queries;
  const auto scores = [&](const uint32_t* left, size_t dim, const uint32_t* right, float* c) {
    kernel.product({kTile, columns, kernel.depth(dim), left, kernel.row_words(dim), 1, right, kTile,
                    c, kTile, false});
  };
  scores(m.keys.rows, dim_, q.columns, s.pair.scores);
  scores(m.keys.values, task_.value_dim, q.dout, s.pair.dweights);
  PairBias bias;
  const bool gated = pair_bias(task_, m.head, m.query_tile, m.key_tile, bias);
  if (gated) add_bias(s.pair.scores, kTile, bias.key, bias.query);
  const auto key0 = static_cast<int32_t>(m.key_tile * kTile);
  const int32_t* first_key = task_.plan.first_key + m.query_tile * kTile;
  task_.steps->gradient({.scores = s.pair.scores,
                         .dweights = s.pair.dweights,
                         .keys = kTile,
                         .columns = columns,
                         .factor = task_.factor(),
                         .mask = {first_key, task_.plan.last_key + m.query_tile * kTile, key0,
                                  key0 < first_key[queries - 1]},
                         .log2_sum = q.log2_sum,
                         .delta = q.delta,
                         .weights_by_key = s.pair.weights_by_key,
                         .dscores_by_key = s.pair.dscores_by_key,
                         .dscores_by_query = s.pair.dscores_by_query});
  if (gated)
    add_gate_gradients(s.pair.dscores_by_key, kernel.pair, kTile, columns, task_.in.gate_scale,
                       gate_tile(m.query, m.key_tile), gate_tile(m.query, m.query_tile));
  const auto by_key = [&](const uint32_t* left, size_t width, const uint32_t* right, float* c) {
    kernel.product({kTile, width, kernel.depth(columns), left, kTile / kernel.pair, 1, right, width,
                    c, width, true});
  };
  by_key(s.pair.weights_by_key, task_.value_width, q.paired_dout, m.dv);
  by_key(s.pair.dscores_by_key, width_, q.paired, m.dkeys);
  kernel.product({queries, width_, kernel.depth(kTile), s.pair.dscores_by_query, 1, kTile,
                  m.keys.paired, width_, m.dqueries, width_, true});
}

// ---- 3. distant pairs

void Backward::distant(size_t slot, size_t head, const BlockPair& blocks, Scratch& s) const {
  const size_t i = task_.supers.of_tile[blocks.query_tile];
  const size_t j = task_.supers.of_tile[blocks.key_tile];
  const bool adjacent = j + 1 == i;
  const size_t index = adjacent ? 0 : task_.supers.pair(i, j);
  const size_t tiles = blocks.key_tiles;
  float* dkeys = adjacent ? key_tile(batch_.dcarried, slot, blocks.key_tile) : s.dkeys;
  if (!adjacent) std::fill_n(dkeys, tiles * n_.key, 0.0F);
  for (size_t n = 0; n < tiles; ++n) {
    const float* keys = key_tile(batch_.carried, slot, blocks.key_tile + n);
    if (!adjacent)
      multiply(*task_.f32, {kTile, width_, dim_}, plain(keys, width_),
               {product(batch_.products, slot, index), width_}, {s.keys, width_});
    pack_keys(adjacent ? keys : s.keys, head, blocks.key_tile + n, n, s);
  }
  for (size_t member = 0; member < task_.group; ++member)
    for (int32_t m = 0; m < blocks.query_tiles; ++m) {
      const size_t queries = blocks.query_tile + m, query = slot * task_.group + member;
      const size_t seen = task_.plan.tile[queries].first_key / kTile;
      if (seen >= blocks.key_tile + tiles) continue;
      const size_t query_head = head * task_.group + member;
      load_gradients(*task_.kernel, query_head, queries, s);
      pack_queries(query_tile(batch_.start, query, queries), s);
      for (size_t n = 0; n < tiles; ++n) {
        const size_t tile = blocks.key_tile + n;
        if (tile < seen) continue;
        meet({query, query_head, queries, tile, packed_at(n, s), dv_tile(slot, tile),
              dkeys + n * n_.key, query_tile(batch_.dstart, query, queries)},
             s);
      }
    }
  if (!adjacent) carry_back(slot, index, blocks, s);
}

// The keys of a pair were y = keys M: dkeys += dy M^T, dM += keys^T dy.
void Backward::carry_back(size_t slot, size_t pair, const BlockPair& blocks, Scratch& s) const {
  float* flipped = s.chain;
  std::fill_n(flipped, n_.p, 0.0F);
  transpose_matrix({product(batch_.products, slot, pair), width_}, dim_, dim_, {flipped, width_});
  for (int32_t n = 0; n < blocks.key_tiles; ++n) {
    const size_t tile = blocks.key_tile + n;
    const float* dy = s.dkeys + n * n_.key;
    multiply_add(*task_.f32, {kTile, width_, dim_}, plain(dy, width_), {flipped, width_},
                 {key_tile(batch_.dcarried, slot, tile), width_});
    multiply_add(*task_.f32, {dim_, width_, kTile},
                 transposed(key_tile(batch_.carried, slot, tile), width_), {dy, width_},
                 {product(batch_.dproducts, slot, pair), width_});
  }
}

// ---- 4. products between super-blocks

// M_{j->i} = P_{j+1} M_{j+1->i}, M_{i-2->i} = P_{i-1}: dP_{j+1} += E M_{j+1->i}^T and
// E_{j+1} += P_{j+1}^T E, j ascending, where E gathers in dproducts. One unit of work takes a
// segment: its super-blocks share what they add to.
void Backward::unchain(size_t slot, size_t segment, Scratch& s) const {
  float* flipped = s.chain;
  const auto add_size = ProductSize{dim_, width_, dim_};
  for (size_t i = 0; i < task_.supers.count; ++i) {
    const SuperBlock& super = task_.supers.super[i];
    const Segment& own = task_.plan.segment[segment];
    if (super.first_tile < own.first_tile || super.first_tile >= own.first_tile + own.tiles)
      continue;
    const size_t count = task_.supers.products_of(i);
    for (size_t n = 0; n < count; ++n) {
      const size_t j = super.first + n, at = super.pair + n;
      const float* gradient = product(batch_.dproducts, slot, at);
      float* dp = super_product(batch_.dsuper_p, slot, j + 1);
      if (n + 1 == count) {
        add_to(gradient, n_.p, dp);
        continue;
      }
      std::fill_n(flipped, n_.p, 0.0F);
      transpose_matrix({product(batch_.products, slot, at + 1), width_}, dim_, dim_,
                       {flipped, width_});
      multiply_add(*task_.f32, add_size, plain(gradient, width_), {flipped, width_}, {dp, width_});
      multiply_add(*task_.f32, add_size,
                   transposed(super_product(batch_.super_p, slot, j + 1), width_),
                   {gradient, width_}, {product(batch_.dproducts, slot, at + 1), width_});
    }
  }
}

// ---- 5. inside super-blocks

// Keys were carried by R_b = P_{b+1} ... P_last and the super-block's product is P_first R_first:
// from their gradients to dKt and dP^T of the tiles.
//   dR_{first-1} = dP_super; for b ascending: dP_b += dR_{b-1} R_b^T,
//   dR_b = P_b^T dR_{b-1} + Kt_b^T dcarried_b, dKt_b += dcarried_b R_b^T
// dP and dR are kept transposed, R_b as R_b^T: no product needs another form of its operands.
void Backward::carry_gradients(size_t slot, size_t i, Scratch& s) const {
  const SuperBlock& super = task_.supers.super[i];
  const size_t tiles = super.tiles;
  const TileKernel& f32 = *task_.f32;
  // R_b, and R_b^T = R_{b+1}^T P_{b+1}^T, which is what the products below need.
  for (size_t place = tiles - 1; place-- > 0;) {
    const float* next = tile_product(batch_.pt, slot, super.first_tile + place + 1);
    float* to = s.suffix + place * n_.p;
    if (place + 2 == tiles)
      std::memcpy(to, next, n_.p * sizeof(float));
    else
      multiply(f32, {dim_, width_, dim_}, plain(s.suffix + (place + 1) * n_.p, width_),
               {next, width_}, {to, width_});
  }
  float *dr = s.chain, *other = s.chain + n_.chain();  // dR^T
  std::fill_n(dr, n_.p, 0.0F);
  transpose_matrix({super_product(batch_.dsuper_p, slot, i), width_}, dim_, dim_, {dr, width_});
  for (size_t place = 0; place < tiles; ++place) {
    const size_t tile = super.first_tile + place;
    const float* dcarried = key_tile(batch_.dcarried, slot, tile);
    float *dp = s.dp + place * n_.p, *dkt = s.dkt + place * n_.key;
    if (place + 1 == tiles) {
      add_to(dcarried, n_.key, dkt);
      add_to(dr, n_.p, dp);
      break;
    }
    const float* suffix = s.suffix + place * n_.p;
    multiply_add(f32, {kTile, width_, dim_}, plain(dcarried, width_), {suffix, width_},
                 {dkt, width_});
    multiply_add(f32, {dim_, width_, dim_}, transposed(suffix, width_), {dr, width_}, {dp, width_});
    multiply(f32, {dim_, width_, dim_}, plain(dr, width_),
             {tile_product(batch_.p, slot, tile), width_}, {other, width_});
    multiply_add(f32, {dim_, width_, kTile}, transposed(dcarried, width_),
                 {key_tile(batch_.kt, slot, tile), width_}, {other, width_});
    std::swap(dr, other);
  }
}

// Queries of one head of tile `tile` walk to the start of the super-block (x_{b-1} = x_b P_b^T) and
// their gradient back; on its way it meets the keys. Leaves dQt in dstart.
void Backward::walk_inside(size_t slot, size_t head, size_t member, size_t tile,
                           const SuperBlock& super, Scratch& s) const {
  const size_t first = super.first_tile, query = slot * task_.group + member;
  const size_t query_head = head * task_.group + member;
  const auto state = [&](size_t b) { return s.states + (b - first) * n_.key; };
  if (tile == first) return;
  std::memcpy(state(tile - 1), query_tile(batch_.qt, query, tile), n_.key * sizeof(float));
  for (size_t b = tile - 1; b > first; --b)
    multiply(*task_.f32, {kTile, width_, dim_}, plain(state(b), width_),
             {tile_product(batch_.pt, slot, b), width_}, {state(b - 1), width_});
  float* const result = query_tile(batch_.dstart, query, tile);
  float *d = result, *other = s.dkeys;
  load_gradients(*task_.kernel, query_head, tile, s);
  const size_t seen = task_.plan.tile[tile].first_key / kTile;
  for (size_t b = first; b < tile; ++b) {
    float* dp = s.dp + (b - first) * n_.p;  // dP^T += x^T d
    multiply_add(*task_.f32, {dim_, width_, kTile}, transposed(state(b), width_), {d, width_},
                 {dp, width_});
    multiply(*task_.f32, {kTile, width_, dim_}, plain(d, width_),
             {tile_product(batch_.p, slot, b), width_}, {other, width_});
    std::swap(d, other);
    if (b < seen) continue;
    pack_queries(state(b), s);
    meet({query, query_head, tile, b, packed_at(b - first, s), dv_tile(slot, b),
          s.dkt + (b - first) * n_.key, d},
         s);
  }
  if (d != result) std::memcpy(result, d, n_.key * sizeof(float));
}

// Scores and their gradients of a tile of queries among its own keys, in f32; adds to dv.
void Backward::own_scores(size_t query, size_t head, size_t tile, size_t slot, Scratch& s) const {
  const TileKernel& f32 = *task_.f32;
  const PackedQueries& q = s.packed_queries;
  const size_t value_dim = task_.value_dim, value_width = task_.value_width;
  load_gradients(f32, head, tile, s);
  block_scores(task_.size, f32, s.block, s.queries, s.pair.scores);
  multiply_parts(f32, {kTile, kTile, value_dim}, {.columns = Part::late},
                 plain(s.own_values, value_width), {reinterpret_cast<const float*>(q.dout), kTile},
                 {s.pair.dweights, kTile});
  PairBias bias;
  const bool gated = pair_bias(task_, head, tile, tile, bias);
  if (gated) add_bias(s.pair.scores, kTile, bias.key, bias.query);
  f32_softmax_steps().gradient(
      {.scores = s.pair.scores,
       .dweights = s.pair.dweights,
       .keys = kTile,
       .columns = kTile,
       .factor = task_.factor(),
       .mask = {task_.plan.first_key + tile * kTile, task_.plan.last_key + tile * kTile,
                static_cast<int32_t>(tile * kTile), true},
       .log2_sum = q.log2_sum,
       .delta = q.delta,
       .weights_by_key = s.pair.scores,
       .dscores_by_key = s.pair.dweights,
       .dscores_by_query = s.pair.dweights});
  for (size_t key = 1; key < kTile; ++key)  // weight 0 times what was never computed
    std::fill_n(s.pair.dweights + key * kTile, key, 0.0F);
  if (gated)
    add_gate_gradients(s.pair.dweights, 1, kTile, kTile, task_.in.gate_scale,
                       gate_tile(query, tile), gate_tile(query, tile));
  multiply_add_parts(f32, {kTile, value_width, kTile}, {.depth = Part::late},
                     plain(s.pair.scores, kTile),
                     {reinterpret_cast<const float*>(q.paired_dout), value_width},
                     {dv_tile(slot, tile), value_width});
}

void Backward::local_queries(size_t slot, size_t head, size_t member, size_t tile,
                             Scratch& s) const {
  const Tile& t = task_.plan.tile[tile];
  const size_t query = slot * task_.group + member, query_head = head * task_.group + member;
  make_block_queries(tile_rows(task_.in.q, t.token, t.tokens, query_head), 0, task_.size,
                     *task_.f32, s.block, s.queries);
  own_scores(query, query_head, tile, slot, s);
  float* dq = query_tile(batch_.dstart, query, tile);
  add_query_gradients(task_.size, *task_.f32, s.block, s.queries, s.pair.dweights, dq, s.gradients,
                      s.local);
  unload_tile(dq, task_.scale, {}, tile_rows(gradients_.dq, t.token, t.tokens, query_head));
}

void Backward::unload_block(size_t slot, size_t head, size_t tile, Scratch& s) const {
  const Tile& t = task_.plan.tile[tile];
  unload_tile(s.gradients.dk, task_.scale, {}, tile_rows(gradients_.dk, t.token, t.tokens, head));
  unload_tile(dv_tile(slot, tile), 1.0F, {}, tile_rows(gradients_.dv, t.token, t.tokens, head));
  const size_t products = task_.size.products;
  const size_t first = t.token * products, count = t.tokens * products;
  for (size_t row = 0; row < count; row += kTile)
    unload_tile(s.gradients.dw + row * width_, task_.scale, {},
                tile_rows(gradients_.dw, first + row, std::min(kTile, count - row), head));
  for (size_t row = 0; row < count; ++row)
    gradients_.dbeta.data[(first + row) * gradients_.dbeta.stride + head] =
        task_.scale * s.gradients.dbeta[row];
}

void Backward::local(size_t slot, size_t head, size_t tile, size_t place, Scratch& s) const {
  const Tile& t = task_.plan.tile[tile];
  make_block(task_.in, task_.size, t, head, *task_.f32, s.block);
  load_tile(tile_rows(task_.in.v, t.token, t.tokens, head), {}, s.load);
  task_.f32->to_rows(s.load, task_.value_dim, s.own_values);
  s.gradients.dp_transposed = s.dp + place * n_.p;
  s.gradients.dcarried = s.dkt + place * n_.key;
  begin_block_gradients(task_.size, *task_.f32, s.block, s.gradients, s.local);
  for (size_t member = 0; member < task_.group; ++member)
    local_queries(slot, head, member, tile, s);
  finish_block_gradients(task_.size, *task_.f32, s.block, s.gradients, s.local);
  unload_block(slot, head, tile, s);
}

void Backward::inside(size_t slot, size_t head, size_t i, Scratch& s) const {
  const SuperBlock& super = task_.supers.super[i];
  const size_t tiles = super.tiles;
  std::fill_n(s.dp, tiles * n_.p, 0.0F);
  std::fill_n(s.dkt, tiles * n_.key, 0.0F);
  for (size_t place = 0; place + 1 < tiles; ++place)
    pack_keys(key_tile(batch_.kt, slot, super.first_tile + place), head, super.first_tile + place,
              place, s);
  for (size_t place = 0; place < tiles; ++place)
    for (size_t member = 0; member < task_.group; ++member)
      walk_inside(slot, head, member, super.first_tile + place, super, s);
  carry_gradients(slot, i, s);
  for (size_t place = 0; place < tiles; ++place)
    local(slot, head, super.first_tile + place, place, s);
}

// dlog_gate_t is the sum of dc from t to the end of its sequence.
void Backward::finish_gate(size_t slot, size_t query_head) const {
  const View2<float> to = gradients_.dlog_gate;
  double sum = 0;
  for (size_t tile = task_.plan.tiles; tile-- > 0;) {
    const Tile& t = task_.plan.tile[tile];
    const float* dc = gate_tile(slot, tile);
    for (size_t row = t.tokens; row-- > 0;) {
      sum += dc[row];
      to.data[(t.token + row) * to.stride + query_head] = static_cast<float>(sum);
      const size_t own = tile * kTile + row;
      if (static_cast<size_t>(task_.plan.first_key[own]) == own) sum = 0;  // a sequence begins
    }
  }
}

}  // namespace

size_t path_backward_workspace(const PathTask& task, size_t tiles, int threads) {
  Arena arena, one;
  take_batch(arena, task, tiles, head_batch(task.kv_heads, tiles));
  take_scratch(one, task,
               super_limits(tiles, task.group, task.size.dim, task.in.block_tiles).block_tiles);
  return arena.used() + one.used() * threads;
}

void run_path_backward(const PathTask& task, const AnyView3& out, const AnyView3& dout,
                       const float* log2_sum, const PathGradients& gradients, Arena& arena,
                       ThreadTeam& team) {
  const size_t batch_heads = head_batch(task.kv_heads, task.plan.capacity);
  const size_t block_tiles = task.supers.block_tiles, supers = task.supers.count;
  const Batch batch = take_batch(arena, task, task.plan.capacity, batch_heads);
  const Backward backward(task, out, dout, log2_sum, gradients, batch);
  Arena one;
  take_scratch(one, task, block_tiles);
  const auto scratch = [&](int thread) {
    Arena own = arena;
    own.take<std::byte>(one.used() * thread);
    return take_scratch(own, task, block_tiles);
  };
  const size_t rounds = round_count(task.plan, block_tiles);
  for (size_t first = 0; first < task.kv_heads; first += batch_heads) {
    const size_t heads = std::min(batch_heads, task.kv_heads - first);
    const auto each = [&](size_t count, auto body) {
      team.run(count * heads, [&](size_t chunk, int thread) {
        Scratch own = scratch(thread);
        body(chunk % heads, first + chunk % heads, chunk / heads, own);
      });
    };
    each(supers, [&](size_t slot, size_t head, size_t i, Scratch& s) {
      backward.prepare(slot, head, i, s);
    });
    each(supers, [&](size_t slot, size_t, size_t i, Scratch&) { backward.chain(slot, i); });
    for (size_t round = 1; round < rounds; ++round) {
      const size_t pairs = pairs_of_round(task.plan, block_tiles, round, batch.pairs);
      each(pairs, [&](size_t slot, size_t head, size_t n, Scratch& s) {
        backward.distant(slot, head, batch.pairs[n], s);
      });
    }
    each(task.plan.segments, [&](size_t slot, size_t, size_t segment, Scratch& s) {
      backward.unchain(slot, segment, s);
    });
    each(supers, [&](size_t slot, size_t head, size_t i, Scratch& s) {
      backward.inside(slot, head, i, s);
    });
    if (task.gate == nullptr || gradients.dlog_gate.cols == 0) continue;
    team.run(heads * task.group,
             [&](size_t query, int) { backward.finish_gate(query, first * task.group + query); });
  }
}

}  // namespace cairn
