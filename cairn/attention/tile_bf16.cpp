#include "cairn/attention/tile.h"

namespace cairn {
const TileKernel* bf16_tile_kernel() {
  return nullptr;
}
}  // namespace cairn
