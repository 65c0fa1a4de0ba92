// The memory of the backward pass: what a batch of key heads keeps, and what a thread works in.
// Internal to the room.
#pragma once

#include "cairn/attention/path/block.h"
#include "cairn/attention/path/task.h"
#include "cairn/attention/softmax/schedule.h"
#include "cairn/attention/tile_gradients.h"

namespace cairn::path_backward {

// Of a batch of key heads, f32: [head][tile], [head][super-block] or [query head][tile].
struct Batch {
  float *kt = nullptr,
        *carried = nullptr;           // keys at the end of tile and super-block [kTile][width]
  float *p = nullptr, *pt = nullptr;  // P and P^T of tiles [dim][width]
  float* super_p = nullptr;           // of super-blocks
  float *products = nullptr, *dproducts = nullptr;  // between them
  float* dsuper_p = nullptr;
  float *qt = nullptr, *start = nullptr;  // queries at the start of tile and super-block
  float* dstart = nullptr;                // gradient of the latter
  float *dcarried = nullptr, *dv = nullptr;
  float* dgate = nullptr;  // dc by slot [query head][slots]
  BlockPair* pairs = nullptr;
};

// A tile of queries, packed.
struct PackedQueries {
  uint32_t *columns = nullptr, *paired_space = nullptr;
  const uint32_t* paired = nullptr;  // in f32 the queries as they are
  uint32_t *dout = nullptr, *paired_dout = nullptr;
  float *log2_sum = nullptr, *delta = nullptr;  // [kTile]
};
// The tiles of a super-block of keys, packed.
struct PackedKeys {
  uint32_t *rows = nullptr, *paired = nullptr, *values = nullptr;
};

struct Scratch {
  Block block;
  BlockQueries queries;
  BlockScratch local;
  BlockGradients gradients;
  PackedQueries packed_queries;
  PackedKeys packed_keys;
  float* own_values = nullptr;  // of one tile, packed for f32
  GradientPair pair;
  float* load = nullptr;                    // [kTile][larger width]
  float *keys = nullptr, *dkeys = nullptr;  // of a super-block, carried [tile][kTile][width]
  float* chain = nullptr;                   // four of [larger of dim, kTile][width]
  float* states = nullptr;                  // queries on their way [tile][kTile][width]
  float *dp = nullptr, *dkt = nullptr;      // of the tiles of a super-block, dP^T and dKt
  float* suffix = nullptr;                  // products of later tiles [tile][dim][width]
};

struct Sizes {
  size_t key, value, p;
  explicit Sizes(const PathTask& t)
      : key(kTile * t.size.width), value(kTile * t.value_width), p(t.size.dim * t.size.width) {}
  size_t chain() const { return std::max(p, key); }
};

Batch take_batch(Arena& arena, const PathTask& task, size_t tiles, size_t heads);
Scratch take_scratch(Arena& arena, const PathTask& task, size_t block_tiles);

}  // namespace cairn::path_backward
