// Softmax attention as the compiled decode program takes it: a few queries against chunks of cached
// keys (infer/paged_cache.h). Chunks are cut at multiples of 64 positions whatever the text's
// length, the number of queries or of threads, and combined in rising order, so each query's result
// has the same bits in any company (flash decoding: Dao et al. 2023; the merge by logarithms of
// sums: Milakov and Gimelshein 2018, arXiv:1805.02867).
//
//   s[j] = q . k[j],   out = sum_j 2^(s[j] - max s) v[j] / sum_j 2^(s[j] - max s)
//
// Queries come multiplied by scale * log2(e). Sums are f32 for every type of cache. Plain
// functions: they borrow all memory, allocate nothing and may run on any thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cairn/tensor/block_type.h"

namespace cairn {

inline constexpr size_t kAttentionChunk = 64;  // positions; a multiple of a page's tiles
// Chunks of a span. Parts are merged within spans first, then the spans: a long text has few spans
// that threads must read of one another, a short one enough chunks for all threads.
inline constexpr size_t kSpanChunks = 8;

// Floats of what one query has of one chunk: the unnormalised output [value_dim], then the maximum
// and the sum of its weights.
constexpr size_t attention_part_size(size_t value_dim) {
  return (value_dim + 2 + 15) / 16 * 16;
}

// One query against one chunk.
struct ChunkQuery {
  const float* query = nullptr;  // [head_dim]
  size_t begin = 0, end = 0;     // visible slots of the chunk, begin < end <= 64
  float* part = nullptr;         // attention_part_size(value_dim), written
};

// The keys and values of one key head in one chunk.
struct CachedChunk {
  BlockType type = BlockType::f16;
  const void* keys = nullptr;    // [4][head_dim][16]
  const void* values = nullptr;  // [64][value_dim]; both in blocks for q8_0
  size_t head_dim = 0;
  size_t value_dim = 0;
  // Those of the chunk that will be read next, asked for meanwhile: tiles are too short for the
  // processor to see where the memory goes on. Null: nothing is asked for.
  const void* next_keys = nullptr;
  const void* next_values = nullptr;
};

void attend_chunk(const CachedChunk& chunk, const ChunkQuery* queries, size_t count);

// Adds the part of the next chunk to `sum`, which begins as a copy of the first chunk's.
void merge_part(const float* part, size_t value_dim, float* sum);
// The attended value of merged parts: out [value_dim].
void finish_part(const float* sum, size_t value_dim, float* out);

// Turns x [dim] by the angles of a position: cosines [dim / 2], then sines [dim / 2] (half-split
// order, attention/rotary.h).
void rotate_head(const float* turn, size_t dim, float* x);
// The cosines and sines of a position from those of two angles that add to it.
void add_angles(const float* coarse, const float* fine, size_t dim, float* turn);

// Stores a key [head_dim] at position slot < 256 of a page's tiles, a value [value_dim] likewise.
// As q8_0 every 32 dimensions become d * q, where d is max |x| / 127 as a half and q the nearest
// integer to x / d; what is not finite makes them NaN.
void store_key(const float* key, size_t head_dim, size_t slot, BlockType type, void* keys);
void store_value(const float* value, size_t value_dim, size_t slot, BlockType type, void* values);

// Asks for `bytes` of a chunk that comes next (null: none) from byte `at` on, into the second-level
// cache: the first has too few places for lines under way (24 in Zen 4: 10 GB/s at 150 ns).
[[gnu::always_inline]] inline void fetch(const void* data, size_t at, size_t bytes) {
  if (data == nullptr) return;
  const auto* from = static_cast<const char*>(data) + at;
  for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(from + line, 0, 2);
}

}  // namespace cairn
