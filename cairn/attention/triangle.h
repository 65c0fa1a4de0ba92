// Products on the tile in which queries meet the keys of their own tokens. Half of it is masked; of
// its four quarters one is empty, and these leave that one out. With `diagonal` false they are the
// plain product. Of the scores [key][query] the quarter of late keys and early queries is neither
// written nor read.
#pragma once

#include "cairn/attention/tile.h"

namespace cairn {

// C [key, query], summed over a dim: scores and weight gradients.
void product_of_scores(const TileKernel& kernel, const TileProduct& product, bool diagonal);
// C [query, dim], summed over keys: outputs and query gradients.
void product_by_query(const TileKernel& kernel, const TileProduct& product, bool diagonal);
// C [key, dim], summed over queries: key and value gradients.
void product_by_key(const TileKernel& kernel, const TileProduct& product, bool diagonal);

}  // namespace cairn
