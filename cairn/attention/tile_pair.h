// A tile of queries against a tile of keys, and the products of attention between them. Rooms with
// weights of their own for such a pair (softmax, stick-breaking, PaTH) share these; what they do
// between the products, scores to weights and back, is theirs.
#pragma once

#include "cairn/attention/tile.h"
#include "cairn/base/memory.h"

namespace cairn {

struct TilePair {
  size_t head = 0;  // of the queries
  size_t query_tile = 0, key_tile = 0;
  size_t queries = 0;     // real ones
  size_t keys = 0;        // in sight, made even
  bool diagonal = false;  // causal, and the keys are the queries' own (triangle.h)

  size_t columns() const { return align_up(queries, kWidth); }
};

// scores [key][query] = keys (rows form) times queries (columns form), summed over `dim`; or added
// to what stands there. Rows of kTile.
void multiply_scores(const TileKernel& kernel, const TilePair& pair, size_t dim, const void* keys,
                     const void* queries, bool accumulate, float* scores);
// out [query][dim] = weights [key][query] transposed, times values (paired form); or added. With
// gradients of scores and keys in their places: the gradient of queries.
void multiply_values(const TileKernel& kernel, const TilePair& pair, size_t dim,
                     const void* weights, const void* values, bool accumulate, float* out);
// gradient [key][dim] += weights (a left operand that is summed over queries) times dout (paired
// form): of values; or with gradients of scores and queries in their places: of keys.
void add_key_gradient(const TileKernel& kernel, const TilePair& pair, size_t dim,
                      const void* weights, const void* dout, float* gradient);

}  // namespace cairn
