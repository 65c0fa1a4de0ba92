// The element-wise halves of softmax attention on one tile. Scores are kept transposed,
// [key][query]: every statistic of a query then lives in its own vector lane, and no step needs a
// horizontal reduction.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cairn/attention/tile.h"

namespace cairn {

inline constexpr float kLog2E = 1.44269504F;
// How far, as a power of two, weights may exceed 1 before the running maximum follows.
inline constexpr float kSlack = 8.0F;

// Which keys the queries of a tile see: query q sees key j of the tile if
// first[q] <= key0 + j <= last[q]. Slots, see plan.h.
struct TileMask {
  const int32_t* first = nullptr;  // [kTile]
  const int32_t* last = nullptr;   // [kTile]
  int32_t key0 = 0;
  bool needed = false;  // false: all see all
};

// Running statistics of the queries of a tile.
struct OnlineSoftmax {
  float maximum[kTile];  // of the raw scores so far, up to the slack of softmax_step
  float sum[kTile];      // of 2^(factor * (score - maximum))
};

// One step of the online softmax (Milakov and Gimelshein 2018, arXiv:1805.02867).
struct SoftmaxStep {
  float* scores;   // [keys][kTile] raw products q k; overwritten with weights in f32
  size_t keys;     // even
  size_t columns;  // queries, a multiple of kWidth
  float factor;    // scale * log2(e): weights are 2^(factor * score - ...)
  TileMask mask;
  OnlineSoftmax* state;
  float* rescale;  // [kTile] what earlier outputs must be multiplied by
  void* weights;   // left operand [query, key]: word (q, k) at q + k * kTile; may be scores
};

// Weights and score gradients of one tile in backward:
//   p = 2^(factor * s - log2_sum),  ds = p * (dp - delta).
struct GradientStep {
  float* scores;    // [keys][kTile] raw products q k
  float* dweights;  // [keys][kTile] products dout v
  size_t keys;      // even
  size_t columns;   // a multiple of kWidth
  float factor;
  TileMask mask;
  const float* log2_sum;  // [kTile]
  const float* delta;     // [kTile] sum of dout * out
  // Left operands; in f32 these may be scores and dweights themselves.
  void* weights_by_key;    // word (key, q) at key * kTile / pair + q
  void* dscores_by_key;    // the same form
  void* dscores_by_query;  // word (q, key) at q + key * kTile
  // Whether dweights become score gradients in f32, for bias.h. In f32 they do anyway.
  bool keep_dscores;
};

struct SoftmaxSteps {
  // Returns whether any rescale factor differs from 1. The maximum follows only when it grows by
  // more than kSlack, so most steps rescale nothing.
  bool (*softmax)(const SoftmaxStep&);
  void (*gradient)(const GradientStep&);
};

const SoftmaxSteps& f32_softmax_steps();
const SoftmaxSteps& bf16_softmax_steps();  // only where bf16_tile_kernel() is not null

// 2^x for n values with the polynomial of the steps: for tests and for decoding.
void exp2_of(const float* x, size_t n, float* result);

}  // namespace cairn
