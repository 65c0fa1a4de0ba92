#include "cairn/attention/tile_gradients.h"

#include <algorithm>

namespace cairn {

GradientQueries take_gradient_queries(Arena& arena, const AttentionGeometry& geometry,
                                      const TileKernel& kernel) {
  GradientQueries queries;
  queries.query = arena.take<uint32_t>(kernel.columns_words(geometry.head_dim));
  queries.paired_query = arena.take<uint32_t>(kernel.paired_words(geometry.head_dim));
  queries.dout = arena.take<uint32_t>(kernel.columns_words(geometry.value_dim));
  queries.paired_dout = arena.take<uint32_t>(kernel.paired_words(geometry.value_dim));
  return queries;
}

GradientPair take_gradient_pair(Arena& arena, const TileKernel& kernel) {
  GradientPair pair;
  pair.scores = arena.take<float>(kTile * kTile);
  pair.dweights = arena.take<float>(kTile * kTile);
  if (kernel.pair == 1) {
    pair.weights_by_key = reinterpret_cast<uint32_t*>(pair.scores);
    pair.dscores_by_key = pair.dscores_by_query = reinterpret_cast<uint32_t*>(pair.dweights);
  } else {
    pair.weights_by_key = arena.take<uint32_t>(kTile * kTile / 2);
    pair.dscores_by_key = arena.take<uint32_t>(kTile * kTile / 2);
    pair.dscores_by_query = arena.take<uint32_t>(kTile * kTile / 2);
  }
  return pair;
}

void pack_queries(const TileKernel& kernel, const AttentionGeometry& geometry, const float* tile,
                  const GradientQueries& to) {
  kernel.to_columns(tile, geometry.head_dim, to.query);
  kernel.to_paired(tile, geometry.head_dim, to.paired_query);
}

void pack_dout(const TileKernel& kernel, const AttentionGeometry& geometry, const float* tile,
               const GradientQueries& to) {
  kernel.to_columns(tile, geometry.value_dim, to.dout);
  kernel.to_paired(tile, geometry.value_dim, to.paired_dout);
}

TileGradients::TileGradients(Arena& arena, const AttentionGeometry& geometry,
                             const TileKernel& kernel, size_t tiles, size_t heads)
    : geometry_(geometry), kernel_(kernel), tiles_(tiles) {
  const size_t all = heads * tiles, group = geometry.heads / geometry.kv_heads;
  const size_t width = padded_width(geometry.head_dim);
  keys_ = arena.take<uint32_t>(all * kernel.rows_words(geometry.head_dim));
  paired_keys_ =
      kernel.pair == 1 ? keys_ : arena.take<uint32_t>(all * kernel.paired_words(geometry.head_dim));
  values_ = arena.take<uint32_t>(all * kernel.rows_words(geometry.value_dim));
  dq_ = arena.take<float>(all * group * kTile * width);
  dk_ = arena.take<float>(all * kTile * width);
  dv_ = arena.take<float>(all * kTile * padded_width(geometry.value_dim));
}

void TileGradients::pack(size_t slot, size_t tile, AnyView2 k, RotaryRows rotary, AnyView2 v,
                         float* load) const {
  load_tile(k, rotary, load);
  kernel_.to_rows(load, geometry_.head_dim, keys(slot, tile));
  if (paired_keys_ != keys_) kernel_.to_paired(load, geometry_.head_dim, paired_keys(slot, tile));
  load_tile(v, {}, load);
  kernel_.to_rows(load, geometry_.value_dim, values(slot, tile));
  const size_t width = padded_width(geometry_.head_dim);
  const size_t group = geometry_.heads / geometry_.kv_heads;
  std::fill_n(dk(slot, tile), kTile * width, 0.0F);
  std::fill_n(dv(slot, tile), kTile * padded_width(geometry_.value_dim), 0.0F);
  for (size_t i = 0; i < group; ++i) std::fill_n(dq(slot * group + i, tile), kTile * width, 0.0F);
}

void TileGradients::scores(size_t slot, const TilePair& pair, const GradientQueries& queries,
                           bool accumulate, float* to) const {
  multiply_scores(kernel_, pair, geometry_.head_dim, keys(slot, pair.key_tile), queries.query,
                  accumulate, to);
}

void TileGradients::recompute(size_t slot, const TilePair& pair, const GradientQueries& queries,
                              bool accumulate_scores, const GradientPair& to) const {
  scores(slot, pair, queries, accumulate_scores, to.scores);
  multiply_scores(kernel_, pair, geometry_.value_dim, values(slot, pair.key_tile), queries.dout,
                  false, to.dweights);
}

void TileGradients::add(size_t slot, size_t query, const TilePair& pair,
                        const GradientQueries& queries, const GradientPair& from) const {
  add_key_gradient(kernel_, pair, geometry_.value_dim, from.weights_by_key, queries.paired_dout,
                   dv(slot, pair.key_tile));
  add_key_gradient(kernel_, pair, geometry_.head_dim, from.dscores_by_key, queries.paired_query,
                   dk(slot, pair.key_tile));
  multiply_values(kernel_, pair, geometry_.head_dim, from.dscores_by_query,
                  paired_keys(slot, pair.key_tile), true, dq(query, pair.query_tile));
}

}  // namespace cairn
