#include "cairn/attention/path/backward_memory.h"

namespace cairn::path_backward {

Batch take_batch(Arena& arena, const PathTask& task, size_t tiles, size_t heads) {
  const Sizes n(task);
  const SuperLimits limits = super_limits(tiles, task.group, task.size.dim, task.in.block_tiles);
  const size_t key_tiles = heads * tiles, query_tiles = key_tiles * task.group;
  Batch b;
  for (float** array : {&b.kt, &b.carried, &b.dcarried})
    *array = arena.take<float>(key_tiles * n.key);
  for (float** array : {&b.p, &b.pt}) *array = arena.take<float>(key_tiles * n.p);
  for (float** array : {&b.super_p, &b.dsuper_p})
    *array = arena.take<float>(heads * limits.count * n.p);
  for (float** array : {&b.products, &b.dproducts})
    *array = arena.take<float>(heads * limits.pairs * n.p);
  for (float** array : {&b.qt, &b.start, &b.dstart})
    *array = arena.take<float>(query_tiles * n.key);
  b.dv = arena.take<float>(key_tiles * n.value);
  b.dgate = arena.take<float>(query_tiles * kTile);
  b.pairs = arena.take<BlockPair>(tiles);
  return b;
}

namespace {

void take_packed(Arena& arena, const PathTask& task, size_t block_tiles, Scratch& s) {
  const TileKernel& kernel = *task.kernel;
  const size_t dim = task.size.dim, value_dim = task.value_dim;
  // The tile of the queries itself is computed in f32: room for the larger form.
  const auto take = [&](size_t words, size_t f32_words) {
    return arena.take<uint32_t>(std::max(words, f32_words));
  };
  s.packed_queries.columns = take(kernel.columns_words(dim), task.f32->columns_words(dim));
  s.packed_queries.paired_space = take(kernel.paired_words(dim), task.f32->paired_words(dim));
  s.packed_queries.dout = take(kernel.columns_words(value_dim), task.f32->columns_words(value_dim));
  s.packed_queries.paired_dout =
      take(kernel.paired_words(value_dim), task.f32->paired_words(value_dim));
  s.packed_queries.log2_sum = arena.take<float>(kTile);
  s.packed_queries.delta = arena.take<float>(kTile);
  s.packed_keys.rows = arena.take<uint32_t>(block_tiles * kernel.rows_words(dim));
  s.packed_keys.paired = arena.take<uint32_t>(block_tiles * kernel.paired_words(dim));
  s.packed_keys.values = arena.take<uint32_t>(block_tiles * kernel.rows_words(value_dim));
  s.own_values = arena.take<float>(task.f32->rows_words(value_dim));
}

}  // namespace

Scratch take_scratch(Arena& arena, const PathTask& task, size_t block_tiles) {
  const Sizes n(task);
  Scratch s;
  s.block = take_block(arena, task.size);
  s.queries = take_block_queries(arena, task.size);
  s.local = take_block_scratch(arena, task.size);
  s.gradients.dk = arena.take<float>(n.key);
  s.gradients.dw = arena.take<float>(task.size.maps * task.size.width);
  s.gradients.dbeta = arena.take<float>(task.size.maps);
  s.gradients.du = arena.take<float>(task.size.maps * task.size.width);
  s.gradients.dx = arena.take<float>(task.size.maps * kTile);
  take_packed(arena, task, block_tiles, s);
  s.pair = take_gradient_pair(arena, *task.kernel);
  s.load = arena.take<float>(std::max(n.key, n.value));
  s.keys = arena.take<float>(block_tiles * n.key);
  s.dkeys = arena.take<float>(block_tiles * n.key);
  s.chain = arena.take<float>(4 * n.chain());
  s.states = arena.take<float>(block_tiles * n.key);
  s.dp = arena.take<float>(block_tiles * n.p);
  s.dkt = arena.take<float>(block_tiles * n.key);
  s.suffix = arena.take<float>(block_tiles * n.p);
  return s;
}

}  // namespace cairn::path_backward
