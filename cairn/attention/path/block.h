// What the maps of one tile of tokens do, as dense matrices: the UT transform of a product of
// Householder-like maps (PaTH, section 3.2), forward and backward. Internal to the room.
//
// A tile has kTile tokens and m = products * kTile rows of W, D = diag(beta). With G = W W^T and
// stril the strictly lower part:
//   L = (I + stril(D G))^-1       unit lower triangular, by forward substitution
//   Z = -L D,  U = Z W            Z is minus the factor N of the UT transform: all that follows
//   adds P = I + U^T W                 = H_first ... H_last C = mask(W K^T)               keeps
//   maps of tokens later than the key X = Z C,  Kt = K + X^T W      keys carried to the end of the
//   tile A = mask(Q W^T)               keeps maps of tokens not later than the query Qt = Q + A U
//   queries carried to the start of the tile S = tril(Q K^T) + A X         scores inside the tile
// Padding has w = 0, beta = 0 and k = q = 0, and leaves everything else alone.
#pragma once

#include "cairn/attention/arena.h"
#include "cairn/attention/path/core.h"
#include "cairn/attention/path/matrix.h"
#include "cairn/attention/plan.h"

namespace cairn {

struct BlockSize {
  size_t dim = 0, width = 0;  // of q, k and w; padded
  size_t products = 1;
  size_t maps = 0;  // m

  BlockSize(size_t dim_, size_t products_)
      : dim(dim_), width(padded_width(dim_)), products(products_), maps(kTile * products_) {}
};

// The matrices of a tile. Rows of K, W, U, Kt, P are `width` long, of G, L, Z `maps`, of the
// others kTile.
struct Block {
  float *k = nullptr, *k_columns = nullptr;           // [kTile][width], [dim][kTile]
  float *w = nullptr, *w_columns = nullptr;           // [m][width], [dim][m]
  float* beta = nullptr;                              // [m]
  float *gram = nullptr, *l = nullptr, *z = nullptr;  // [m][m]
  float* u = nullptr;                                 // [m][width]
  float *c = nullptr, *x = nullptr;                   // [m][kTile]
  float* carried = nullptr;                           // Kt [kTile][width]
  float* p = nullptr;                                 // [dim][width]
};
Block take_block(Arena& arena, const BlockSize& size);

// Loads a tile of a key head and computes everything in Block.
void make_block(const PathInputs& in, const BlockSize& size, const Tile& tile, size_t kv_head,
                const TileKernel& f32, const Block& block);
// P^T [dim][width].
void transposed_product(const BlockSize& size, const Block& block, float* result);

// A tile of queries against its own block.
struct BlockQueries {
  float *q = nullptr, *q_columns = nullptr;  // [kTile][width], [dim][kTile]
  float* a = nullptr;                        // A^T [m][kTile]
};
BlockQueries take_block_queries(Arena& arena, const BlockSize& size);
// Loads the queries and computes A^T. `rows` has queries from row `first` of the tile on.
void make_block_queries(const AnyView2& rows, size_t first, const BlockSize& size,
                        const TileKernel& f32, const Block& block, const BlockQueries& queries);
// Qt in the columns form [dim][kTile] and in rows [kTile][width].
void carried_query_columns(const BlockSize& size, const TileKernel& f32, const Block& block,
                           const BlockQueries& queries, float* columns);
void carried_query_rows(const BlockSize& size, const TileKernel& f32, const Block& block,
                        const BlockQueries& queries, float* rows);
// S transposed, [key][query]; what lies above the diagonal is undefined.
void block_scores(const BlockSize& size, const TileKernel& f32, const Block& block,
                  const BlockQueries& queries, float* scores);

// Gradients that reach a block from outside, and those of its inputs.
struct BlockGradients {
  const float* dp_transposed = nullptr;  // dP^T [dim][width]
  const float* dcarried = nullptr;       // of Kt [kTile][width]
  float* dk = nullptr;                   // [kTile][width]
  float* dw = nullptr;                   // [m][width]
  float* dbeta = nullptr;                // [m]
  float *du = nullptr, *dx = nullptr;    // summed over query heads: [m][width], [m][kTile]
};
struct BlockScratch {
  float* square = nullptr;      // [m][m], four of them
  float* dq_columns = nullptr;  // [dim][kTile]
  float* by_query = nullptr;    // [kTile][kTile]
  float* da = nullptr;          // [m][kTile]
  float* wide = nullptr;        // [max(dim, kTile)][max(width, kTile)]
};
BlockScratch take_block_scratch(Arena& arena, const BlockSize& size);

// In this order: begin; queries once for each query head; finish.
// begin: what P and Kt pass on. Overwrites dk, dw, du, dx.
void begin_block_gradients(const BlockSize& size, const TileKernel& f32, const Block& block,
                           const BlockGradients& gradients, const BlockScratch& scratch);
// dq holds dQt on entry and dQ on return [kTile][width]; dscores is dS [key][query], masked.
void add_query_gradients(const BlockSize& size, const TileKernel& f32, const Block& block,
                         const BlockQueries& queries, const float* dscores, float* dq,
                         const BlockGradients& gradients, const BlockScratch& scratch);
// Through C, N, L and G to w, beta and k.
void finish_block_gradients(const BlockSize& size, const TileKernel& f32, const Block& block,
                            const BlockGradients& gradients, const BlockScratch& scratch);

}  // namespace cairn
