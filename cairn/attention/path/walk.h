// A query on its way over the newest tokens of a cache, map by map. Internal to the room.
#pragma once

#include <cstddef>

namespace cairn {

// Rows of one key head, oldest first.
struct PendingTokens {
  const float* k = nullptr;  // [tokens, dim]
  size_t k_stride = 0;
  const float* w = nullptr;  // [tokens * products, dim]
  size_t w_stride = 0;
  const float* beta = nullptr;  // [tokens * products]
  size_t beta_stride = 0;
  size_t tokens = 0, products = 1, dim = 0;
};

// The queries of that key head, side by side: each waits for sums that do not concern the others.
struct WalkingQueries {
  float* x = nullptr;  // [count] rows of dim
  size_t x_stride = 0;
  float* scores = nullptr;  // [count] rows of tokens
  size_t scores_stride = 0;
  size_t count = 0;
};

// From the newest token to the oldest: scores[j] = k_j x, then x -= beta (w x) w for the maps of
// token j, the last first. x is left where the oldest token's maps have acted.
void walk_pending(const PendingTokens& tokens, const WalkingQueries& queries);

}  // namespace cairn
