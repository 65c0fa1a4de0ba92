// Models as GGUF files, for tests: every weight in one type.
#pragma once

#include <string>
#include <vector>

#include "cairn/kernels/blocks.h"
#include "cairn/model/architecture.h"
#include "cairn/model/gguf.h"

namespace cairn {

// The values of a Hugging Face tensor, whatever parameters hold its rows.
inline std::vector<float> hf_values(const Model& model, const std::string& name) {
  std::vector<float> values;
  for (const StoredRows& stored : stored_tensors(model.config())) {
    if (stored.name != name) continue;
    for (const std::string& part : stored.parts) {
      const View1<const float> rows = model.values(model.find(part));
      values.insert(values.end(), rows.begin(), rows.end());
    }
  }
  return values;
}

// Vectors are f32, whatever `type`. `metadata` holds what write_gguf_config does not set.
inline void write_gguf_model(const Model& model, const Path& path, BlockType type = BlockType::f32,
                             GgufMetadata metadata = {}) {
  write_gguf_config(model.config(), metadata);
  const std::vector<GgufName> names = gguf_names(model.config());
  const std::vector<GgufTable> tables = gguf_tables(model.config());
  std::vector<GgufEntry> entries;
  for (const GgufName& name : names)
    entries.push_back({name.gguf, name.shape.size() == 1 ? BlockType::f32 : type, name.shape});
  for (const GgufTable& table : tables)
    entries.push_back({table.name, BlockType::f32, {table.values.size()}});
  write_gguf(path, metadata, entries, [&](size_t index, ByteSink sink) {
    if (index >= names.size()) {
      const std::vector<float>& values = tables[index - names.size()].values;
      return sink(values.data(), values.size() * sizeof(float));
    }
    const GgufName& name = names[index];
    const size_t cols = name.cols();
    std::vector<float> values = hf_values(model, name.hf);
    for (float& value : values) value += static_cast<float>(name.offset);
    std::vector<std::byte> row(block_row_bytes(entries[index].type, cols));
    for (size_t at = 0; at < name.rows(); ++at) {
      const View1<const float> from(values.data() + name.order.hf_row(at) * cols, cols);
      encode_blocks(entries[index].type, from, row);
      sink(row.data(), row.size());
    }
  });
}

}  // namespace cairn
