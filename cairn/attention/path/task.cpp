#include "cairn/attention/path/task.h"

#include <cmath>

#include "cairn/attention/checks.h"
#include "cairn/attention/path/elements.h"
#include "cairn/attention/tile_pair.h"
#include "cairn/kernels/dispatch.h"
#include "cairn/tensor/shape.h"

namespace cairn {
namespace {

void check_sizes(std::string_view doing, const PathInputs& in) {
  check_geometry(doing, {.heads = in.q.heads,
                         .kv_heads = in.k.heads,
                         .head_dim = in.q.dim,
                         .value_dim = in.v.dim,
                         .scale = in.scale});
  if (in.products < 1 || in.products > 4)
    refuse(doing, "products", "1 to 4", std::to_string(in.products));
  if (!std::isfinite(in.gate_scale))
    refuse(doing, "gate_scale", "a finite number", std::to_string(in.gate_scale));
}

void scale_rows(const float* factors, size_t rows, size_t width, float* values) {
  for (size_t row = 0; row < rows; ++row) {
    if (factors[row] == 1.0F) continue;
    for (size_t i = 0; i < width; ++i) values[row * width + i] *= factors[row];
  }
}

// c of one head by slot: the sum runs through a whole segment, since only differences inside a
// sequence count.
void sum_gate(const PathTask& task, size_t head, double* c) {
  for (size_t t = 0; t < task.plan.tiles; ++t) {
    const Tile& tile = task.plan.tile[t];
    double sum = t == 0 ? 0 : c[t * kTile - 1];
    for (size_t i = 0; i < kTile; ++i) {
      if (i < static_cast<size_t>(tile.tokens))
        sum += task.in.log_gate.data[(tile.token + i) * task.in.log_gate.stride + head];
      c[t * kTile + i] = sum;
    }
  }
}

}  // namespace

PathTask make_task(std::string_view doing, const PathInputs& in) {
  const size_t tokens = in.q.tokens, rows = tokens * in.products;
  check_sizes(doing, in);
  check_heads(doing, "q", in.q, tokens, in.q.heads, in.q.dim, in.q.dtype);
  check_heads(doing, "k", in.k, tokens, in.k.heads, in.q.dim, in.k.dtype);
  check_heads(doing, "v", in.v, tokens, in.k.heads, in.v.dim, in.v.dtype);
  check_shape(doing, "w", {rows, in.k.heads, in.q.dim}, {in.w.tokens, in.w.heads, in.w.dim});
  check_shape(doing, "beta", {rows, in.k.heads}, {in.beta.rows, in.beta.cols});
  if (in.log_gate.rows != 0 || in.log_gate.cols != 0)
    check_shape(doing, "log_gate", {tokens, in.q.heads}, {in.log_gate.rows, in.log_gate.cols});
  if (in.offsets.data != nullptr) check_offsets(doing, in.offsets, tokens);
  apply_isa_limit();
  PathTask task;
  task.in = in;
  task.size = BlockSize(in.q.dim, in.products);
  task.heads = in.q.heads;
  task.kv_heads = in.k.heads;
  task.group = task.heads / task.kv_heads;
  task.value_dim = in.v.dim;
  task.value_width = padded_width(in.v.dim);
  task.scale = in.scale == 0 ? 1.0F / std::sqrt(static_cast<float>(in.q.dim)) : in.scale;
  task.f32 = &f32_tile_kernel();
  task.kernel = &tile_kernel_for(in.compute);
  task.steps = task.kernel->pair == 1 ? &f32_softmax_steps() : &bf16_softmax_steps();
  return task;
}

void plan_task(PathTask& task, size_t tokens, Arena& arena, ThreadTeam* team) {
  const size_t tiles = most_tiles(tokens);
  const bool gated = task.in.log_gate.cols != 0;
  task.plan = take_plan(arena, tiles);
  task.supers = take_supers(arena, tiles);
  double* gate = gated ? arena.take<double>(task.heads * tiles * kTile) : nullptr;
  if (team == nullptr) return;
  fill_plan(task.plan, task.in.offsets);
  const size_t wanted = task.in.block_tiles;
  fill_supers(task.supers, task.plan,
              wanted != 0
                  ? wanted
                  : super_block_tiles(task.plan.longest_segment, task.group, task.size.dim));
  if (!gated) return;
  task.gate = gate;
  team->run(task.heads,
            [&](size_t head, int) { sum_gate(task, head, gate + head * task.plan.slots()); });
}

bool pair_bias(const PathTask& task, size_t head, size_t query_tile, size_t key_tile,
               PairBias& bias) {
  if (task.gate == nullptr) return false;
  const double* c = task.gate + head * task.plan.slots();
  const double unit = static_cast<double>(task.in.gate_scale) / task.scale;
  const double origin = c[query_tile * kTile];
  for (size_t i = 0; i < kTile; ++i) {
    bias.query[i] = static_cast<float>(unit * (c[query_tile * kTile + i] - origin));
    bias.key[i] = static_cast<float>(unit * (origin - c[key_tile * kTile + i]));
  }
  return true;
}

PairScratch take_pair_scratch(Arena& arena, const TileKernel& kernel) {
  PairScratch s;
  s.scores = arena.take<float>(kTile * kTile);
  s.weights = kernel.pair == 1 ? reinterpret_cast<uint32_t*>(s.scores)
                               : arena.take<uint32_t>(kTile / 2 * kTile);
  s.rescale = arena.take<float>(kTile);
  return s;
}

void gather_weighted(const PathTask& task, const PairMask& pair, const void* values,
                     const Gathering& to, const PairScratch& s) {
  const TilePair tiles{.queries = pair.queries, .keys = pair.keys, .diagonal = pair.diagonal};
  if (pair.bias != nullptr) add_bias(s.scores, pair.keys, pair.bias->key, pair.bias->query);
  const bool grown = task.steps->softmax({.scores = s.scores,
                                          .keys = tiles.keys,
                                          .columns = tiles.columns(),
                                          .factor = task.factor(),
                                          .mask = pair.mask,
                                          .state = to.state,
                                          .rescale = s.rescale,
                                          .weights = s.weights});
  if (grown && !to.fresh) scale_rows(s.rescale, pair.queries, task.value_width, to.out);
  multiply_values(*task.kernel, tiles, task.value_dim, s.weights, values, !to.fresh, to.out);
}

void gather_scores(const PathTask& task, const PathKeys& keys, PathQueries& queries,
                   const PairScratch& s) {
  const size_t tokens = task.plan.tile[queries.tile].tokens;
  const auto key0 = static_cast<int32_t>(keys.tile * kTile);
  const int32_t* first_key = task.plan.first_key + queries.tile * kTile;
  const bool diagonal = keys.tile == queries.tile;
  PairBias bias;
  const bool gated = pair_bias(task, queries.head, queries.tile, keys.tile, bias);
  gather_weighted(
      task,
      {.queries = tokens,
       .keys = std::min(kTile, align_up((queries.tile - keys.tile) * kTile + tokens, 2)),
       .mask = {first_key, task.plan.last_key + queries.tile * kTile, key0,
                diagonal || key0 < first_key[tokens - 1]},
       .bias = gated ? &bias : nullptr,
       .diagonal = diagonal},
      keys.values, {queries.out, queries.state, queries.fresh}, s);
  queries.fresh = false;
}

void meet(const PathTask& task, const PathKeys& keys, PathQueries& queries, const PairScratch& s) {
  const size_t tokens = task.plan.tile[queries.tile].tokens;
  task.kernel->product({.rows = kTile,
                        .columns = align_up(tokens, kWidth),
                        .depth = task.kernel->depth(task.size.dim),
                        .a = keys.rows,
                        .a_row = task.kernel->row_words(task.size.dim),
                        .a_depth = 1,
                        .b = queries.columns,
                        .b_depth = kTile,
                        .c = s.scores,
                        .c_row = kTile,
                        .accumulate = false});
  gather_scores(task, keys, queries, s);
}

}  // namespace cairn
