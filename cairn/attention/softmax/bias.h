// A term of every score that is a difference of one number a token and query head:
//   s[i, j] = scale * q_i . k_j + potential[i] - potential[j]
// ALiBi (Press et al. 2022, arXiv:2108.12409) has potential[t] = -slope * t, a forget gate (Lin et
// al. 2025, arXiv:2503.02130) the running sum of its logarithms. Internal to softmax and fox.
//
// Potentials are f64: over long sequences they grow while only differences between near tokens
// count. On a tile they are taken relative to one token of the sequence inside the tile of keys, so
// that what is rounded to f32 is small wherever weights are not.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cairn/attention/plan.h"

namespace cairn {

// A tile of queries of one head against a tile of keys.
struct BiasTile {
  size_t head = 0;        // query head
  size_t query = 0;       // first token among those of the queries
  size_t queries = 0;     // tokens
  size_t query_slot = 0;  // of the first query
  Tile key_tile;
  size_t key_slot = 0;  // of the first key
  size_t keys = 0;      // even, may be one more than there are
  size_t columns = 0;   // queries, padded to a multiple of kWidth
};

struct ScoreBias {
  const double* queries = nullptr;  // [heads, tokens of q]; null: no bias
  const double* keys = nullptr;     // [heads, tokens of k]
  size_t query_stride = 0;          // from one head to the next
  size_t key_stride = 0;
  const int32_t* sequence_slot = nullptr;  // [slots of the plan]: where the slot's sequence begins

  explicit operator bool() const { return queries != nullptr; }
  // scores [keys][kTile] = bias / scale, for a product to add to.
  void fill(const BiasTile& tile, float scale, float* scores) const;
};

// Adds the gradients dscores [keys][kTile] of a tile's scores to those of its potentials: their sum
// over keys to `of_queries`, and takes their sum over queries from `of_keys`, both [tokens of the
// tile]. Over all keys a query's sum is 0 but for rounding; counted on both sides, that rounding
// cancels wherever gradients are later summed along the sequence. With `diagonal`, late keys have
// nothing from early queries (triangle.h) and their quarter is not read.
void add_potential_gradients(const BiasTile& tile, const float* dscores, bool diagonal,
                             double* of_queries, double* of_keys);

}  // namespace cairn
