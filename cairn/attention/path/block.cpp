#include "cairn/attention/path/block.h"

#include <cstring>

namespace cairn {
namespace {

constexpr Parts kEarlyDepth{.depth = Part::early}, kLateDepth{.depth = Part::late};
constexpr Parts kEarlyColumns{.columns = Part::early}, kLateColumns{.columns = Part::late};
constexpr Parts kEarly{Part::early, Part::early}, kLate{Part::late, Part::late};
constexpr Parts kLateDepthEarlyColumns{Part::late, Part::early};
constexpr Parts kEarlyDepthLateColumns{Part::early, Part::late};

// Zeroes what the mask of C and A^T leaves out. Row f belongs to token f / products: C keeps keys
// before that token, A^T queries from it on.
void keep_earlier(const BlockSize& size, float* c) {
  for (size_t f = 0; f < size.maps; ++f) {
    float* row = c + f * kTile;
    std::fill(row + f / size.products, row + kTile, 0.0F);
  }
}
void keep_later(const BlockSize& size, float* a) {
  for (size_t f = 0; f < size.maps; ++f) std::fill_n(a + f * kTile, f / size.products, 0.0F);
}
// Zeroes above the diagonal.
void keep_lower(float* square, size_t n) {
  for (size_t i = 0; i < n; ++i) std::fill(square + i * n + i + 1, square + (i + 1) * n, 0.0F);
}

void load_maps(const PathInputs& in, const BlockSize& size, const Tile& tile, size_t kv_head,
               const Block& block) {
  const size_t first = tile.token * size.products, count = tile.tokens * size.products;
  const AnyView3 w = View3<const float>(in.w);
  for (size_t row = 0; row < size.maps; row += kTile) {
    const size_t rows = row < count ? std::min(kTile, count - row) : 0;
    load_tile(tile_rows(w, first + row, rows, kv_head), {}, block.w + row * size.width);
  }
  for (size_t f = 0; f < size.maps; ++f)
    block.beta[f] = f < count ? in.beta.data[(first + f) * in.beta.stride + kv_head] : 0.0F;
  transpose_matrix({block.w, size.width}, size.maps, size.dim, {block.w_columns, size.maps});
}

// Row a of L is e_a - beta_a sum_{b < a} G_ab L_b: forward substitution, kWidth rows at a time so
// that most of it is a product.
void invert(const BlockSize& size, const TileKernel& f32, const Block& block) {
  const size_t m = size.maps;
  float* scaled = block.z;  // -D G, until L is known
  for (size_t a = 0; a < m; ++a)
    for (size_t b = 0; b < a; ++b) scaled[a * m + b] = -block.beta[a] * block.gram[a * m + b];
  std::memset(block.l, 0, m * m * sizeof(float));
  for (size_t first = 0; first < m; first += kWidth) {
    float* rows = block.l + first * m;
    if (first != 0)
      multiply(f32, {kWidth, first, first}, plain(scaled + first * m, m), {block.l, m}, {rows, m});
    for (size_t i = 0; i < kWidth; ++i) {
      rows[i * m + first + i] = 1;
      if (i != 0)
        multiply_add(f32, {1, first + kWidth, i}, plain(scaled + (first + i) * m + first, m),
                     {rows, m}, {rows + i * m, m});
    }
  }
  for (size_t a = 0; a < m; ++a)
    for (size_t b = 0; b < m; ++b) block.z[a * m + b] = -block.l[a * m + b] * block.beta[b];
}

void carry_keys(const BlockSize& size, const TileKernel& f32, const Block& block) {
  const size_t m = size.maps;
  multiply_parts(f32, {m, kTile, size.dim}, kEarlyColumns, plain(block.w, size.width),
                 {block.k_columns, kTile}, {block.c, kTile});
  keep_earlier(size, block.c);
  multiply_parts(f32, {m, kTile, m}, kEarly, plain(block.z, m), {block.c, kTile}, {block.x, kTile});
  keep_earlier(size, block.x);
  std::memcpy(block.carried, block.k, kTile * size.width * sizeof(float));
  multiply_add_parts(f32, {kTile, size.width, m}, kLateDepth, transposed(block.x, kTile),
                     {block.w, size.width}, {block.carried, size.width});
}

}  // namespace

Block take_block(Arena& arena, const BlockSize& n) {
  Block b;
  b.k = arena.take<float>(kTile * n.width);
  b.k_columns = arena.take<float>(n.dim * kTile);
  b.w = arena.take<float>(n.maps * n.width);
  b.w_columns = arena.take<float>(n.dim * n.maps);
  b.beta = arena.take<float>(n.maps);
  b.gram = arena.take<float>(n.maps * n.maps);
  b.l = arena.take<float>(n.maps * n.maps);
  b.z = arena.take<float>(n.maps * n.maps);
  b.u = arena.take<float>(n.maps * n.width);
  b.c = arena.take<float>(n.maps * kTile);
  b.x = arena.take<float>(n.maps * kTile);
  b.carried = arena.take<float>(kTile * n.width);
  b.p = arena.take<float>(n.dim * n.width);
  return b;
}

void make_block(const PathInputs& in, const BlockSize& size, const Tile& tile, size_t kv_head,
                const TileKernel& f32, const Block& block) {
  const size_t m = size.maps, width = size.width;
  load_tile(tile_rows(in.k, tile.token, tile.tokens, kv_head), {}, block.k);
  transpose_matrix({block.k, size.width}, kTile, size.dim, {block.k_columns, kTile});
  load_maps(in, size, tile, kv_head, block);
  multiply_parts(f32, {m, m, size.dim}, kEarlyColumns, plain(block.w, width), {block.w_columns, m},
                 {block.gram, m});
  invert(size, f32, block);
  multiply_parts(f32, {m, width, m}, kEarlyDepth, plain(block.z, m), {block.w, width},
                 {block.u, width});
  carry_keys(size, f32, block);
  multiply(f32, {size.dim, width, m}, transposed(block.u, width), {block.w, width},
           {block.p, width});
  add_identity({block.p, width}, size.dim);
}

void transposed_product(const BlockSize& size, const Block& block, float* result) {
  std::fill_n(result, size.dim * size.width, 0.0F);
  transpose_matrix({block.p, size.width}, size.dim, size.dim, {result, size.width});
}

BlockQueries take_block_queries(Arena& arena, const BlockSize& n) {
  BlockQueries queries;
  queries.q = arena.take<float>(kTile * n.width);
  queries.q_columns = arena.take<float>(n.dim * kTile);
  queries.a = arena.take<float>(n.maps * kTile);
  return queries;
}

void make_block_queries(const AnyView2& rows, size_t first, const BlockSize& size,
                        const TileKernel& f32, const Block& block, const BlockQueries& queries) {
  load_tile(rows, {}, queries.q);
  if (first != 0) {  // a tile begun earlier: its first queries are gone
    std::memmove(queries.q + first * size.width, queries.q, rows.rows * size.width * sizeof(float));
    std::fill_n(queries.q, first * size.width, 0.0F);
  }
  transpose_matrix({queries.q, size.width}, kTile, size.dim, {queries.q_columns, kTile});
  multiply_parts(f32, {size.maps, kTile, size.dim}, kLateColumns, plain(block.w, size.width),
                 {queries.q_columns, kTile}, {queries.a, kTile});
  keep_later(size, queries.a);
}

void carried_query_columns(const BlockSize& size, const TileKernel& f32, const Block& block,
                           const BlockQueries& queries, float* columns) {
  std::memcpy(columns, queries.q_columns, size.dim * kTile * sizeof(float));
  // The first half of the queries meets no map of the second.
  constexpr size_t kHalf = kTile / 2;
  multiply_add(f32, {size.dim, kHalf, size.maps / 2}, transposed(block.u, size.width),
               {queries.a, kTile}, {columns, kTile});
  multiply_add(f32, {size.dim, kHalf, size.maps}, transposed(block.u, size.width),
               {queries.a + kHalf, kTile}, {columns + kHalf, kTile});
}

void carried_query_rows(const BlockSize& size, const TileKernel& f32, const Block& block,
                        const BlockQueries& queries, float* rows) {
  std::memcpy(rows, queries.q, kTile * size.width * sizeof(float));
  multiply_add_parts(f32, {kTile, size.width, size.maps}, kEarlyDepth, transposed(queries.a, kTile),
                     {block.u, size.width}, {rows, size.width});
}

void block_scores(const BlockSize& size, const TileKernel& f32, const Block& block,
                  const BlockQueries& queries, float* scores) {
  multiply_parts(f32, {kTile, kTile, size.dim}, kLateColumns, plain(block.k, size.width),
                 {queries.q_columns, kTile}, {scores, kTile});
  multiply_add_parts(f32, {kTile, kTile, size.maps}, kLate, transposed(block.x, kTile),
                     {queries.a, kTile}, {scores, kTile});
}

BlockScratch take_block_scratch(Arena& arena, const BlockSize& n) {
  BlockScratch s;
  s.square = arena.take<float>(4 * n.maps * n.maps);
  s.dq_columns = arena.take<float>(n.dim * kTile);
  s.by_query = arena.take<float>(kTile * kTile);
  s.da = arena.take<float>(n.maps * kTile);
  s.wide = arena.take<float>(std::max(n.dim, kTile) * std::max(n.width, kTile));
  return s;
}

void begin_block_gradients(const BlockSize& size, const TileKernel& f32, const Block& block,
                           const BlockGradients& g, const BlockScratch& scratch) {
  const size_t m = size.maps, width = size.width;
  // P = I + U^T W
  multiply(f32, {m, width, size.dim}, plain(block.w, width), {g.dp_transposed, width},
           {g.du, width});
  float* dp = scratch.wide;  // [dim][width]
  std::fill_n(dp, size.dim * width, 0.0F);
  transpose_matrix({g.dp_transposed, width}, size.dim, size.dim, {dp, width});
  multiply(f32, {m, width, size.dim}, plain(block.u, width), {dp, width}, {g.dw, width});
  // Kt = K + X^T W
  multiply_add_parts(f32, {m, width, kTile}, kEarlyDepth, plain(block.x, kTile),
                     {g.dcarried, width}, {g.dw, width});
  float* columns = scratch.wide;  // dKt^T [dim][kTile]
  transpose_matrix({g.dcarried, width}, kTile, size.dim, {columns, kTile});
  multiply_parts(f32, {m, kTile, size.dim}, kEarlyColumns, plain(block.w, width), {columns, kTile},
                 {g.dx, kTile});
  std::memcpy(g.dk, g.dcarried, kTile * width * sizeof(float));
}

void add_query_gradients(const BlockSize& size, const TileKernel& f32, const Block& block,
                         const BlockQueries& queries, const float* dscores, float* dq,
                         const BlockGradients& g, const BlockScratch& scratch) {
  const size_t m = size.maps, width = size.width;
  transpose_matrix({dq, width}, kTile, size.dim, {scratch.dq_columns, kTile});
  transpose_matrix({dscores, kTile}, kTile, kTile, {scratch.by_query, kTile});
  // Qt = Q + A U and S = tril(Q K^T) + A X
  multiply_add_parts(f32, {m, width, kTile}, kLateDepth, plain(queries.a, kTile), {dq, width},
                     {g.du, width});
  multiply_add_parts(f32, {m, kTile, kTile}, kLateDepthEarlyColumns, plain(queries.a, kTile),
                     {scratch.by_query, kTile}, {g.dx, kTile});
  multiply_parts(f32, {m, kTile, size.dim}, kLateColumns, plain(block.u, width),
                 {scratch.dq_columns, kTile}, {scratch.da, kTile});
  multiply_add_parts(f32, {m, kTile, kTile}, kEarlyDepthLateColumns, plain(block.x, kTile),
                     {dscores, kTile}, {scratch.da, kTile});
  keep_later(size, scratch.da);
  multiply_add_parts(f32, {kTile, width, kTile}, kEarlyDepth, transposed(dscores, kTile),
                     {block.k, width}, {dq, width});
  multiply_add_parts(f32, {kTile, width, kTile}, kLateDepth, plain(dscores, kTile),
                     {queries.q, width}, {g.dk, width});
  // A = mask(Q W^T)
  multiply_add_parts(f32, {kTile, width, m}, kEarlyDepth, transposed(scratch.da, kTile),
                     {block.w, width}, {dq, width});
  multiply_add_parts(f32, {m, width, kTile}, kLateDepth, plain(scratch.da, kTile),
                     {queries.q, width}, {g.dw, width});
}

namespace {

// From dZ to dbeta and dG: with L = (I + M)^-1 and M = stril(D G), dM = -stril(L^T dL L^T) where
// Z = -L D. Leaves D dM + (D dM)^T in `y`.
void invert_gradients(const BlockSize& size, const TileKernel& f32, const Block& block, float* dz,
                      float* y, float* work, float* dbeta) {
  const size_t m = size.maps;
  std::fill_n(dbeta, m, 0.0F);
  for (size_t a = 0; a < m; ++a)
    for (size_t b = 0; b <= a; ++b) {
      dbeta[b] -= dz[a * m + b] * block.l[a * m + b];
      dz[a * m + b] *= block.beta[b];
    }
  multiply_parts(f32, {m, m, m}, kLateDepthEarlyColumns, transposed(block.l, m), {dz, m},
                 {work, m});
  transpose_matrix({block.l, m}, m, m, {y, m});
  multiply_parts(f32, {m, m, m}, kEarly, plain(work, m), {y, m}, {dz, m});
  for (size_t a = 0; a < m; ++a) {
    float sum = 0;
    for (size_t b = 0; b < a; ++b) {
      sum += dz[a * m + b] * block.gram[a * m + b];
      y[a * m + b] = y[b * m + a] = block.beta[a] * dz[a * m + b];
    }
    dbeta[a] += sum;
    y[a * m + a] = 0;
  }
}

}  // namespace

void finish_block_gradients(const BlockSize& size, const TileKernel& f32, const Block& block,
                            const BlockGradients& g, const BlockScratch& scratch) {
  const size_t m = size.maps, width = size.width;
  float* dz = scratch.square;
  float* c_rows = dz + m * m;  // C^T [kTile][m]
  transpose_matrix({block.c, kTile}, m, kTile, {c_rows, m});
  // U = Z W and X = Z C
  multiply_parts(f32, {m, m, size.dim}, kEarlyColumns, plain(g.du, width), {block.w_columns, m},
                 {dz, m});
  multiply_add_parts(f32, {m, m, kTile}, kEarly, plain(g.dx, kTile), {c_rows, m}, {dz, m});
  keep_lower(dz, m);
  multiply_add_parts(f32, {m, width, m}, kLateDepth, transposed(block.z, m), {g.du, width},
                     {g.dw, width});
  // C = mask(W K^T)
  float* dc = scratch.da;
  multiply_parts(f32, {m, kTile, m}, kLateDepthEarlyColumns, transposed(block.z, m), {g.dx, kTile},
                 {dc, kTile});
  keep_earlier(size, dc);
  multiply_add_parts(f32, {m, width, kTile}, kEarlyDepth, plain(dc, kTile), {block.k, width},
                     {g.dw, width});
  multiply_add_parts(f32, {kTile, width, m}, kLateDepth, transposed(dc, kTile), {block.w, width},
                     {g.dk, width});
  // Z = -L D, G = W W^T
  float* y = dz + m * m;
  invert_gradients(size, f32, block, dz, y, dz + 2 * m * m, g.dbeta);
  multiply_add(f32, {m, width, m}, plain(y, m), {block.w, width}, {g.dw, width});
}

}  // namespace cairn
