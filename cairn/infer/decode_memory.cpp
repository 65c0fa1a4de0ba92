#include "cairn/infer/decode_memory.h"

#include <algorithm>
#include <map>

#include "cairn/base/error.h"
#include "cairn/infer/paged_cache.h"
#include "cairn/kernels/tiles.h"
#include "cairn/model/architecture.h"
#include "cairn/model/decoder_layout.h"

namespace cairn {
namespace {

constexpr size_t kCacheSample = 256;  // tokens; enough that rounding in a cache does not show

uint64_t bytes_as_tiles(const std::string& name, BlockType type, const Shape& shape) {
  const auto kind = tile_kind_of(type);
  if (!kind)
    throw Error({.kind = ErrorKind::data,
                 .doing = "estimating memory",
                 .subject = "tensor " + name,
                 .expected = "a type that can be decoded with",
                 .found = std::string(block_type_name(type))});
  const size_t cols = shape.back(), rows = shape[shape.size() - 2];
  return element_count(shape) / (rows * cols) * tile_bytes(*kind, rows, cols);
}

uint64_t cache_bytes(const AttentionMechanism& attention, size_t context) {
  const AttentionGeometry& g = attention.geometry();
  if (const auto plain = attention.plain_softmax())
    return std::min(context, PagedCache::most_pages(plain->window, context) * PagedCache::kPage) *
           g.kv_heads * (g.head_dim + g.value_dim) * dtype_size(DType::f16);
  const auto cache = attention.make_cache(kCacheSample, DType::f32);
  return cache->bytes() * context / kCacheSample;
}

}  // namespace

DecodeMemory decode_memory(const ModelConfig& config, size_t context,
                           FunctionRef<BlockType(const std::string&)> type_of) {
  std::map<std::string, Shape> shapes;
  for (const ParameterSpec& spec : parameter_specs(config)) shapes.emplace(spec.name, spec.shape);
  const std::string embedding = outer_names(config).embedding;
  DecodeMemory memory;
  for (const StoredRows& stored : stored_tensors(config)) {
    if (stored.shape.size() < 2) continue;
    const BlockType type = type_of(stored.name);
    for (const std::string& part : stored.parts) {
      if (part == embedding) memory.embedding = block_bytes(type, stored.shape);
      if (part == embedding && !config.tie_embeddings) continue;
      memory.weights += bytes_as_tiles(stored.name, type, shapes.at(part));
    }
  }
  const LayerAttention attention(config, context);
  for (size_t i = 0; i < config.layers; ++i) memory.cache += cache_bytes(attention[i], context);
  if (config.has_encoder()) memory.cache += config.layers * cache_bytes(attention.cross(), context);
  return memory;
}

}  // namespace cairn
