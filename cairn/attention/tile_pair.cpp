#include "cairn/attention/tile_pair.h"

#include "cairn/attention/triangle.h"

namespace cairn {

void multiply_scores(const TileKernel& kernel, const TilePair& pair, size_t dim, const void* keys,
                     const void* queries, bool accumulate, float* scores) {
  product_of_scores(kernel,
                    {.rows = pair.keys,
                     .columns = pair.columns(),
                     .depth = kernel.depth(dim),
                     .a = keys,
                     .a_row = kernel.row_words(dim),
                     .a_depth = 1,
                     .b = queries,
                     .b_depth = kTile,
                     .c = scores,
                     .c_row = kTile,
                     .accumulate = accumulate},
                    pair.diagonal);
}

void multiply_values(const TileKernel& kernel, const TilePair& pair, size_t dim,
                     const void* weights, const void* values, bool accumulate, float* out) {
  const size_t width = padded_width(dim);
  product_by_query(kernel,
                   {.rows = pair.queries,
                    .columns = width,
                    .depth = kernel.depth(pair.keys),
                    .a = weights,
                    .a_row = 1,
                    .a_depth = kTile,
                    .b = values,
                    .b_depth = width,
                    .c = out,
                    .c_row = width,
                    .accumulate = accumulate},
                   pair.diagonal);
}

void add_key_gradient(const TileKernel& kernel, const TilePair& pair, size_t dim,
                      const void* weights, const void* dout, float* gradient) {
  const size_t width = padded_width(dim);
  product_by_key(kernel,
                 {.rows = pair.keys,
                  .columns = width,
                  .depth = kernel.depth(pair.columns()),
                  .a = weights,
                  .a_row = kTile / kernel.pair,
                  .a_depth = 1,
                  .b = dout,
                  .b_depth = width,
                  .c = gradient,
                  .c_row = width,
                  .accumulate = true},
                 pair.diagonal);
}

}  // namespace cairn
