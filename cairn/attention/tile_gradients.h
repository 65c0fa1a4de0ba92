// What a blockwise backward pass of attention holds in memory: of a batch of key heads the packed
// keys and values and the gradients being summed in f32, of a thread one tile of queries and what
// is computed between it and a tile of keys. How weights and their gradients come about is the
// room's; the five products around them are the same in all.
//
// All of it lies in arenas, which own the memory. Threads may work on different tiles.
#pragma once

#include "cairn/attention/arena.h"
#include "cairn/attention/mechanism.h"
#include "cairn/attention/tile_pair.h"

namespace cairn {

// A tile of queries and of the gradients of their outputs.
struct GradientQueries {
  uint32_t* query = nullptr;         // columns form
  uint32_t* paired_query = nullptr;  // paired form
  uint32_t* dout = nullptr;          // columns form
  uint32_t* paired_dout = nullptr;
};

// Weights and score gradients of a pair of tiles. In f32 the operands are the arrays themselves.
struct GradientPair {
  float* scores = nullptr;    // [kTile keys][kTile queries]
  float* dweights = nullptr;  // the same
  uint32_t* weights_by_key = nullptr;
  uint32_t* dscores_by_key = nullptr;
  uint32_t* dscores_by_query = nullptr;
};

GradientQueries take_gradient_queries(Arena& arena, const AttentionGeometry& geometry,
                                      const TileKernel& kernel);
GradientPair take_gradient_pair(Arena& arena, const TileKernel& kernel);

// Packs tiles f32 [kTile][padded width], zero beyond what is real.
void pack_queries(const TileKernel& kernel, const AttentionGeometry& geometry, const float* tile,
                  const GradientQueries& to);
void pack_dout(const TileKernel& kernel, const AttentionGeometry& geometry, const float* tile,
               const GradientQueries& to);

class TileGradients {
 public:
  // Room for `heads` key heads of `tiles` tiles each, in slots [0, heads). An arena without memory
  // only counts.
  TileGradients(Arena& arena, const AttentionGeometry& geometry, const TileKernel& kernel,
                size_t tiles, size_t heads);

  // Tiles are [first, first + tiles) from now on.
  void begin_at(size_t first) { first_tile_ = first; }

  // Packs a tile of keys and values of a slot and clears its gradients, those of the queries in the
  // same place included. `load`: f32 [kTile][the wider padded width].
  void pack(size_t slot, size_t tile, AnyView2 k, RotaryRows rotary, AnyView2 v, float* load) const;

  // Scores of a pair, and the gradients of its weights.
  void recompute(size_t slot, const TilePair& pair, const GradientQueries& queries,
                 bool accumulate_scores, const GradientPair& to) const;
  void scores(size_t slot, const TilePair& pair, const GradientQueries& queries, bool accumulate,
              float* to) const;
  // Adds what weights and score gradients of a pair bring to dv, dk and dq; `query` counts the
  // query heads of the batch.
  void add(size_t slot, size_t query, const TilePair& pair, const GradientQueries& queries,
           const GradientPair& from) const;

  // Gradient tiles, [kTile][padded width].
  float* dq(size_t query, size_t tile) const {
    return dq_ + index(query, tile) * kTile * padded_width(geometry_.head_dim);
  }
  float* dk(size_t slot, size_t tile) const {
    return dk_ + index(slot, tile) * kTile * padded_width(geometry_.head_dim);
  }
  float* dv(size_t slot, size_t tile) const {
    return dv_ + index(slot, tile) * kTile * padded_width(geometry_.value_dim);
  }

 private:
  size_t index(size_t head, size_t tile) const { return head * tiles_ + tile - first_tile_; }
  uint32_t* keys(size_t slot, size_t tile) const {
    return keys_ + index(slot, tile) * kernel_.rows_words(geometry_.head_dim);
  }
  uint32_t* paired_keys(size_t slot, size_t tile) const {
    return paired_keys_ + index(slot, tile) * kernel_.paired_words(geometry_.head_dim);
  }
  uint32_t* values(size_t slot, size_t tile) const {
    return values_ + index(slot, tile) * kernel_.rows_words(geometry_.value_dim);
  }

  const AttentionGeometry& geometry_;
  const TileKernel& kernel_;
  size_t first_tile_ = 0, tiles_ = 0;
  uint32_t* keys_ = nullptr;         // rows form, [head][tile]
  uint32_t* paired_keys_ = nullptr;  // the same array in f32
  uint32_t* values_ = nullptr;       // rows form
  float* dq_ = nullptr;              // [head * group][tile][kTile][width]
  float* dk_ = nullptr;              // [head][tile][kTile][width]
  float* dv_ = nullptr;
};

}  // namespace cairn
