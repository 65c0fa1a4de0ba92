#include "cairn/attention/triangle.h"

namespace cairn {
namespace {

constexpr size_t kHalf = kTile / 2;

// The rows of `p` from kHalf on.
TileProduct late_rows(const TileProduct& p) {
  TileProduct late = p;
  late.rows = p.rows - kHalf;
  late.a = static_cast<const uint32_t*>(p.a) + kHalf * p.a_row;
  late.c = p.c + kHalf * p.c_row;
  return late;
}

TileProduct early_rows(const TileProduct& p) {
  TileProduct early = p;
  early.rows = kHalf;
  return early;
}

}  // namespace

void product_of_scores(const TileKernel& kernel, const TileProduct& product, bool diagonal) {
  if (!diagonal || product.rows <= kHalf) return kernel.product(product);
  kernel.product(early_rows(product));
  TileProduct late = late_rows(product);
  late.columns -= kHalf;
  late.b = static_cast<const uint32_t*>(product.b) + kHalf;
  late.c += kHalf;
  kernel.product(late);
}

void product_by_query(const TileKernel& kernel, const TileProduct& product, bool diagonal) {
  if (!diagonal || product.rows <= kHalf) return kernel.product(product);
  TileProduct early = early_rows(product);
  early.depth = kernel.depth(kHalf);
  kernel.product(early);
  kernel.product(late_rows(product));
}

void product_by_key(const TileKernel& kernel, const TileProduct& product, bool diagonal) {
  if (!diagonal || product.rows <= kHalf) return kernel.product(product);
  kernel.product(early_rows(product));
  TileProduct late = late_rows(product);
  const size_t skipped = kernel.depth(kHalf);
  late.depth -= skipped;
  late.a = static_cast<const uint32_t*>(late.a) + skipped * product.a_depth;
  late.b = static_cast<const uint32_t*>(product.b) + skipped * product.b_depth;
  kernel.product(late);
}

}  // namespace cairn
