// Models as GGUF files, for tests: every weight in one type.
#pragma once

#include <string>
#include <vector>

#include "cairn/kernels/blocks.h"
#include "cairn/model/gguf.h"

namespace cairn {

// Vectors are f32, whatever `type`. `metadata` holds what write_gguf_config does not set.
inline void write_gguf_model(const Model& model, const Path& path, BlockType type = BlockType::f32,
                             GgufMetadata metadata = {}) {
  write_gguf_config(model.config(), metadata);
  const std::vector<GgufName> names = gguf_names(model.config());
  std::vector<GgufEntry> entries;
  for (const GgufName& name : names)
    entries.push_back({name.gguf, name.shape.size() == 1 ? BlockType::f32 : type, name.shape});
  const size_t head_dim = model.config().head_dim;
  write_gguf(path, metadata, entries, [&](size_t index, ByteSink sink) {
    const View1<const float> values = model.values(model.parameters()[index]);
    const size_t cols = names[index].shape.back();
    std::vector<std::byte> row(block_row_bytes(entries[index].type, cols));
    for (size_t at = 0; at < values.size / cols; ++at) {
      const size_t from = names[index].rotary ? hf_row(at, head_dim) : at;
      encode_blocks(entries[index].type, values.slice(from * cols, cols), row);
      sink(row.data(), row.size());
    }
  });
}

}  // namespace cairn
