// The element-wise halves of stick-breaking attention on one tile. Logits are kept transposed,
// [key][query], so that the walk over keys runs from row to row, every query in its own vector
// lane. Internal to the room.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cairn/attention/tile.h"

namespace cairn {

// From raw products q k of a tile to gates beta = sigmoid(z).
struct GateRule {
  float factor;     // -scale * log2(e)
  float offset;     // -logit_bias * log2(e); 2^(factor * product + offset) = e^-z
  float floor;      // gates below are 0
  int32_t shift;    // query q sees key j of the tile if j <= q + shift
  bool restricted;  // false: all see all and the floor is 0
};

// A tile of queries takes its shares, newest key first.
struct StickStep {
  float* scores;   // [keys][kTile] raw products q k; overwritten with weights in f32
  size_t keys;     // even
  size_t columns;  // queries, a multiple of kWidth
  GateRule gate;
  const float* stick;  // [kTile] what newer tiles left
  float* consumed;     // [kTile] share of it that the keys of this tile take together
  float* product;      // [kTile] of their 1 - beta: the share left
  void* weights;       // left operand [query, key]: word (q, k) at q + k * kTile; may be scores
};

// Weights A and logit gradients dz of the tile, from oldest to newest key (core.h).
struct StickGradientStep {
  float* scores;    // [keys][kTile] raw products q k
  float* dweights;  // [keys][kTile] products dout v
  size_t keys;      // even
  size_t columns;   // a multiple of kWidth
  GateRule gate;
  const float* stick;  // [kTile] what newer tiles left
  const float* worth;  // [kTile] U at the oldest key
  float* dworth;       // [kTile] U after the newest key, less that
  float* dlogit;       // [kTile] sum of dz over the keys
  // Left operands; in f32 these may be scores and dweights themselves.
  void* weights_by_key;  // word (key, q) at key * kTile / pair + q
  void* dz_by_key;       // the same form
  void* dz_by_query;     // word (q, key) at q + key * kTile
};

struct StickSteps {
  void (*attend)(const StickStep&);
  void (*gradient)(const StickGradientStep&);
};

const StickSteps& f32_stick_steps();
const StickSteps& bf16_stick_steps();  // only where bf16_tile_kernel() is not null

// beta = 1 / (1 + 2^x) for n values: for decoding. x = factor * product + offset of a GateRule.
void gates_of(const float* x, size_t n, float* beta);

// The share of the stick that a tile leaves. The product absorbs tiny gates, the difference cancels
// where little is left: at 1/16 they are equally good.
inline double share_left(float consumed, float product) {
  return consumed < 0.9375F ? 1.0 - static_cast<double>(consumed) : static_cast<double>(product);
}

inline constexpr float kLogitToExponent = -1.44269504F;  // -log2(e)

}  // namespace cairn
