// The attention phase of a decode program.
#include <algorithm>
#include <array>
#include <cmath>

#include "cairn/attention/rotary.h"
#include "cairn/infer/attention_step.h"
#include "cairn/infer/decode_walk.h"
#include "cairn/infer/residual_step.h"

namespace cairn {
namespace {

constexpr float kLog2E = 1.44269504F;
// Queries of one key head that are given to attend_chunk together.
constexpr size_t kMostQueries = 64;

}  // namespace

size_t DecodeProgram::Walk::first_key(const Layer& layer, size_t position) const {
  const size_t window = layer.plain->window;
  return window == 0 || position < window ? 0 : position + 1 - window;
}

CachedChunk DecodeProgram::Walk::chunk_at(const Layer& layer, size_t kv_head, size_t chunk) const {
  const PagedCache& cache = *pass_.cache;
  const size_t position = chunk * kAttentionChunk, slot = position % PagedCache::kPage;
  const size_t size = dtype_size(cache.shape().dtype);
  return {cache.shape().dtype,
          cache.keys(layer.cache_layer, kv_head, position) + slot * geometry_.head_dim * size,
          cache.values(layer.cache_layer, kv_head, position) + slot * geometry_.value_dim * size,
          geometry_.head_dim, geometry_.value_dim};
}

void DecodeProgram::Walk::normalize_head(const std::vector<float>& gain, float eps,
                                         View1<float> head) {
  const float mean = sum_of_squares(head.data, head.size) / static_cast<float>(head.size);
  scale_by(head.data, 1.0F / std::sqrt(mean + eps), gain.data(), head.size, head.data);
}

// Rows token * group + head of own_.queries: normed, rotated, scaled.
void DecodeProgram::Walk::prepare_queries(const Layer& layer, size_t kv_head, size_t first,
                                          size_t count) {
  const PlainSoftmax& plain = *layer.plain;
  const size_t dim = geometry_.head_dim;
  for (size_t t = 0; t < count; ++t)
    for (size_t g = 0; g < group_; ++g) {
      const View1<float> row = own_.queries[t * group_ + g];
      const float* from = buffers_.qkv[first + t].data + (kv_head * group_ + g) * dim;
      std::copy_n(from, dim, row.data);
      if (plain.qk_norm) normalize_head(layer.q_gain, plain.norm_eps, row);
      if (plain.rotary != nullptr)
        rotate_head(buffers_.turns[layer.turns][first + t].data, plain.rotary->dim(), row.data);
      for (float& value : row) value *= plain.scale * kLog2E;
    }
}

void DecodeProgram::Walk::append_token(const Layer& layer, size_t kv_head, size_t token) {
  const PlainSoftmax& plain = *layer.plain;
  const size_t dim = geometry_.head_dim, position = pass_.position + token;
  const size_t slot = position % PagedCache::kPage;
  const float* keys = buffers_.qkv[token].data + geometry_.heads * dim;
  const float* values = keys + geometry_.kv_heads * dim;
  const View1<float> row = own_.row.slice(0, dim);
  std::copy_n(keys + kv_head * dim, dim, row.data);
  if (plain.qk_norm) normalize_head(layer.k_gain, plain.norm_eps, row);
  if (plain.rotary != nullptr)
    rotate_head(buffers_.turns[layer.turns][token].data, plain.rotary->dim(), row.data);
  const DType dtype = pass_.cache->shape().dtype;
  store_key(row.data, dim, slot, dtype, pass_.cache->keys(layer.cache_layer, kv_head, position));
  store_value(values + kv_head * geometry_.value_dim, geometry_.value_dim, slot, dtype,
              pass_.cache->values(layer.cache_layer, kv_head, position));
}

void DecodeProgram::Walk::attend(const Layer& layer) {
  if (few()) return attend_few(layer);
  attend_many(layer);
}

// The keys of all heads, one after another, are cut into as many shares as there are threads; a
// chunk goes to the share that holds its middle. Whoever takes the chunk with a new position stores
// it: nobody else reads that chunk of that head in this pass.
void DecodeProgram::Walk::attend_few(const Layer& layer) {
  const size_t begin = first_key(layer, pass_.position), end = pass_.position + tokens_;
  const size_t span = end - begin, all = span * geometry_.kv_heads;
  for (size_t head = 0; head < geometry_.kv_heads; ++head) {
    bool ready = false;
    for (size_t c = begin / kAttentionChunk; c * kAttentionChunk < end; ++c) {
      const size_t low = c * kAttentionChunk;
      const size_t from = std::max(low, begin), to = std::min(low + kAttentionChunk, end);
      if ((head * span + (from + to) / 2 - begin) * threads_ / all != thread_) continue;
      if (!ready) prepare_queries(layer, head, 0, tokens_);
      ready = true;
      for (size_t p = std::max(from, pass_.position); p < to; ++p)
        append_token(layer, head, p - pass_.position);
      std::array<ChunkQuery, kMostQueries> queries;
      size_t count = 0;
      const CachedChunk chunk = chunk_at(layer, head, c);
      for (size_t row = 0; row < tokens_ * group_; ++row) {
        const size_t position = pass_.position + row / group_;
        const size_t first = std::max(from, first_key(layer, position));
        if (position < low || first >= to) continue;
        const size_t query = (row / group_) * geometry_.heads + head * group_ + row % group_;
        queries[count++] = {own_.queries[row].data, first - low, std::min(position + 1, to) - low,
                            buffers_.parts[query * buffers_.chunks + c].data};
        if (count < kMostQueries) continue;
        attend_chunk(chunk, queries.data(), count);
        count = 0;
      }
      attend_chunk(chunk, queries.data(), count);
    }
  }
}

void DecodeProgram::Walk::combine_few(const Layer& layer) {
  const size_t dim = geometry_.value_dim;
  for (size_t t = 0; t < tokens_; ++t) {
    const size_t position = pass_.position + t;
    const size_t begin = first_key(layer, position) / kAttentionChunk;
    for (size_t head = 0; head < geometry_.heads; ++head) {
      const View2<float> parts = buffers_.parts.rows_slice(
          (t * geometry_.heads + head) * buffers_.chunks, buffers_.chunks);
      float* sum = own_.row.data;
      std::copy_n(parts[begin].data, dim + 2, sum);
      for (size_t c = begin + 1; c <= position / kAttentionChunk; ++c)
        merge_part(parts[c].data, dim, sum);
      finish_part(sum, dim, own_.attended[t].data + head * dim);
    }
  }
}

void DecodeProgram::Walk::attend_many(const Layer& layer) {
  constexpr size_t kStep = PassBuffers::kQueryTokens;
  const size_t steps = (tokens_ + kStep - 1) / kStep, units = steps * geometry_.kv_heads;
  for (size_t unit = thread_; unit < units; unit += threads_)
    for (size_t t = unit / geometry_.kv_heads * kStep, end = std::min(t + kStep, tokens_); t < end;
         ++t)
      append_token(layer, unit % geometry_.kv_heads, t);
  meet();
  for (size_t unit = thread_; unit < units; unit += threads_) {
    const size_t first = unit / geometry_.kv_heads * kStep;
    attend_queries(layer, unit % geometry_.kv_heads, first, std::min(kStep, tokens_ - first));
  }
}

void DecodeProgram::Walk::attend_queries(const Layer& layer, size_t kv_head, size_t first,
                                         size_t count) {
  prepare_queries(layer, kv_head, first, count);
  const size_t dim = geometry_.value_dim, rows = count * group_;
  const size_t begin = first_key(layer, pass_.position + first);
  const size_t end = pass_.position + first + count;
  for (size_t c = begin / kAttentionChunk; c * kAttentionChunk < end; ++c) {
    const size_t low = c * kAttentionChunk;
    const CachedChunk chunk = chunk_at(layer, kv_head, c);
    std::array<ChunkQuery, kMostQueries> queries;
    std::array<size_t, kMostQueries> merged;
    size_t waiting = 0;
    const auto flush = [&] {
      attend_chunk(chunk, queries.data(), waiting);
      for (size_t i = 0; i < waiting; ++i)
        if (queries[i].part == own_.parts[merged[i]].data)
          merge_part(queries[i].part, dim, own_.sums[merged[i]].data);
      waiting = 0;
    };
    for (size_t row = 0; row < rows; ++row) {
      const size_t position = pass_.position + first + row / group_;
      const size_t first_visible = first_key(layer, position);
      if (position < low || first_visible >= low + kAttentionChunk) continue;
      const bool starts = first_visible / kAttentionChunk == c;
      merged[waiting] = row;
      queries[waiting++] = {own_.queries[row].data, std::max(low, first_visible) - low,
                            std::min(position + 1 - low, kAttentionChunk),
                            (starts ? own_.sums : own_.parts)[row].data};
      if (waiting == kMostQueries) flush();
    }
    flush();
  }
  for (size_t row = 0; row < rows; ++row)
    finish_part(
        own_.sums[row].data, dim,
        buffers_.attended[first + row / group_].data + (kv_head * group_ + row % group_) * dim);
}

}  // namespace cairn
