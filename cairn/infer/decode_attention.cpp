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
  return first_visible(layer.plain->window, position);
}

CachedChunk DecodeProgram::Walk::chunk_at(const Layer& layer, size_t kv_head, size_t chunk) const {
  const PagedCache& cache = *pass_.cache;
  const size_t position = chunk * kAttentionChunk, slot = position % PagedCache::kPage;
  return {cache.shape().type,
          cache.keys(layer.cache_layer, kv_head, position) + slot * cache.key_bytes(),
          cache.values(layer.cache_layer, kv_head, position) + slot * cache.value_bytes(),
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
  const BlockType type = pass_.cache->shape().type;
  store_key(row.data, dim, slot, type, pass_.cache->keys(layer.cache_layer, kv_head, position));
  store_value(values + kv_head * geometry_.value_dim, geometry_.value_dim, slot, type,
              pass_.cache->values(layer.cache_layer, kv_head, position));
}

void DecodeProgram::Walk::attend(const Layer& layer) {
  if (!few()) return attend_many(layer);
  if (apart_) append_apart(layer);
  attend_few(layer);
}

bool DecodeProgram::Walk::by_spans(const Layer& layer) const {
  const size_t keys = pass_.position + tokens_ - first_key(layer, pass_.position);
  return keys > kSpanChunks * kAttentionChunk;
}

// The keys of all heads, one after another, are cut into as many shares as there are threads; a
// chunk, or a span of a long text, goes to the share that holds its middle. Whoever takes the chunk
// with a new position stores it: nobody else reads that chunk of that head in this pass.
void DecodeProgram::Walk::attend_few(const Layer& layer) {
  const size_t begin = first_key(layer, pass_.position), end = pass_.position + tokens_;
  const size_t keys = end - begin, all = keys * geometry_.kv_heads;
  const bool spans = by_spans(layer);
  const size_t step = spans ? kSpanChunks : 1, unit = step * kAttentionChunk;
  for (size_t head = 0; head < geometry_.kv_heads; ++head) {
    bool ready = false;
    for (size_t u = begin / unit; u * unit < end; ++u) {
      const size_t from = std::max(u * unit, begin), to = std::min((u + 1) * unit, end);
      if ((head * keys + (from + to) / 2 - begin) * threads_ / all != thread_) continue;
      if (!ready) prepare_queries(layer, head, 0, tokens_);
      ready = true;
      for (size_t p = std::max(from, pass_.position); p < to && !apart_; ++p)
        append_token(layer, head, p - pass_.position);
      attend_unit(layer, head, u * step, step, spans);
    }
  }
}

// Chunks [first, first + count) of a key head; what they leave of each query goes to the pass's
// parts, one by one or, `merged`, all to the place of the first.
void DecodeProgram::Walk::attend_unit(const Layer& layer, size_t kv_head, size_t first,
                                      size_t count, bool merged) {
  const size_t begin = first_key(layer, pass_.position), end = pass_.position + tokens_;
  const size_t rows = tokens_ * group_, size = attention_part_size(geometry_.value_dim);
  const auto place = [&](size_t row, size_t c) {
    const size_t query = row / group_ * geometry_.heads + kv_head * group_ + row % group_;
    return buffers_.parts[query * buffers_.chunks + c].data;
  };
  for (size_t c = std::max(first, begin / kAttentionChunk);
       c < first + count && c * kAttentionChunk < end; ++c) {
    attend_rows(layer, kv_head, 0, rows, c);
    for (size_t row = 0; row < rows; ++row) {
      const size_t position = pass_.position + row / group_;
      const size_t starts = first_key(layer, position) / kAttentionChunk;
      if (c < starts || c * kAttentionChunk > position) continue;
      float* to = place(row, merged ? first : c);
      if (!merged || c == std::max(first, starts))
        std::copy_n(own_.parts[row].data, size, to);
      else
        merge_part(own_.parts[row].data, geometry_.value_dim, to);
    }
  }
}

// Rows of own_.queries, those of tokens from `first` on, against chunk c: their parts in
// own_.parts.
void DecodeProgram::Walk::attend_rows(const Layer& layer, size_t kv_head, size_t first, size_t rows,
                                      size_t c) {
  const size_t low = c * kAttentionChunk, end = pass_.position + tokens_;
  CachedChunk chunk = chunk_at(layer, kv_head, c);
  if (few() && low + kAttentionChunk < end) {
    const CachedChunk next = chunk_at(layer, kv_head, c + 1);
    chunk.next_keys = next.keys;
    chunk.next_values = next.values;
  }
  std::array<ChunkQuery, kMostQueries> queries;
  size_t waiting = 0;
  for (size_t row = 0; row < rows; ++row) {
    const size_t position = pass_.position + first + row / group_;
    const size_t visible = first_key(layer, position);
    if (position < low || visible >= low + kAttentionChunk) continue;
    queries[waiting++] = {own_.queries[row].data, std::max(low, visible) - low,
                          std::min(position + 1 - low, kAttentionChunk), own_.parts[row].data};
    if (waiting < kMostQueries) continue;
    attend_chunk(chunk, queries.data(), waiting);
    waiting = 0;
  }
  attend_chunk(chunk, queries.data(), waiting);
}

// Parts of a query in the order of its chunks: within spans, then the spans.
void DecodeProgram::Walk::combine_few(const Layer& layer) {
  const size_t dim = geometry_.value_dim, size = attention_part_size(dim);
  const bool merged = by_spans(layer);
  for (size_t t = 0; t < tokens_; ++t) {
    const size_t begin = first_key(layer, pass_.position + t) / kAttentionChunk;
    const size_t end = (pass_.position + t) / kAttentionChunk + 1;
    for (size_t head = 0; head < geometry_.heads; ++head) {
      if (apart_ && head % threads_ != thread_) continue;
      const View2<float> parts = buffers_.parts.rows_slice(
          (t * geometry_.heads + head) * buffers_.chunks, buffers_.chunks);
      float *span = own_.spans[0].data, *sum = own_.sums[0].data;
      for (size_t c = begin; c < end;) {
        const size_t first = c / kSpanChunks * kSpanChunks;
        const size_t next = std::min(first + kSpanChunks, end);
        float* to = c == begin ? sum : span;
        std::copy_n(parts[merged ? first : c].data, size, to);
        for (++c; c < next; ++c)
          if (!merged) merge_part(parts[c].data, dim, to);
        if (to == span) merge_part(span, dim, sum);
      }
      finish_part(sum, dim, attended_few()[t].data + head * dim);
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
  const size_t dim = geometry_.value_dim, size = attention_part_size(dim), rows = count * group_;
  const size_t begin = first_key(layer, pass_.position + first) / kAttentionChunk;
  const size_t end = (pass_.position + first + count - 1) / kAttentionChunk + 1;
  for (size_t c = begin; c < end; ++c) {
    attend_rows(layer, kv_head, first, rows, c);
    for (size_t row = 0; row < rows; ++row) {
      const size_t position = pass_.position + first + row / group_;
      const size_t starts = first_key(layer, position) / kAttentionChunk;
      const size_t last = position / kAttentionChunk;
      if (c < starts || c > last) continue;
      const bool in_first_span = c / kSpanChunks == starts / kSpanChunks;
      float* to = (in_first_span ? own_.sums : own_.spans)[row].data;
      if (c == starts || (!in_first_span && c % kSpanChunks == 0))
        std::copy_n(own_.parts[row].data, size, to);
      else
        merge_part(own_.parts[row].data, dim, to);
      const bool ends_span = c % kSpanChunks == kSpanChunks - 1 || c == last;
      if (!in_first_span && ends_span) merge_part(to, dim, own_.sums[row].data);
    }
  }
  for (size_t row = 0; row < rows; ++row)
    finish_part(
        own_.sums[row].data, dim,
        buffers_.attended[first + row / group_].data + (kv_head * group_ + row % group_) * dim);
}

}  // namespace cairn
