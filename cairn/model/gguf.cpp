// The weights of a GGUF file.
#include "cairn/model/gguf.h"

#include <set>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/io/json.h"
#include "cairn/kernels/blocks.h"
#include "cairn/model/architecture.h"

namespace cairn {
namespace {

[[noreturn]] void refuse(const GgufArchive& archive, const std::string& subject,
                         const std::string& expected, const std::string& found,
                         const std::string& hint = "") {
  throw Error({.kind = ErrorKind::data,
               .doing = "loading " + archive.path().string(),
               .subject = subject,
               .expected = expected,
               .found = found,
               .hint = hint});
}

// The parameters that hold the rows of one Hugging Face tensor, one after another.
class Target {
 public:
  Target(const StoredRows& stored, Model& model) {
    for (const std::string& part : stored.parts) parts_.push_back(model.values(model.find(part)));
  }
  View1<float> row(size_t row, size_t cols) const {
    size_t at = row * cols;
    auto part = parts_.begin();
    while (at >= part->size) at -= (part++)->size;
    return part->slice(at, cols);
  }

 private:
  std::vector<View1<float>> parts_;
};

void decode_tensor(const GgufTensor& tensor, const GgufName& name, const Target& target) {
  const size_t cols = name.cols(), row_bytes = block_row_bytes(tensor.type, cols);
  for (size_t row = 0; row < name.rows(); ++row) {
    const View1<float> values = target.row(name.order.hf_row(row), cols);
    decode_blocks(tensor.type, tensor.bytes.subspan(row * row_bytes, row_bytes), values);
    if (name.offset == 0) continue;
    for (float& value : values) value -= static_cast<float>(name.offset);
  }
}

}  // namespace

void check_gguf_tensors(const GgufArchive& archive, const ModelConfig& config) {
  std::set<std::string, std::less<>> known;
  for (const GgufName& name : gguf_names(config)) {
    const GgufTensor tensor = archive.tensor(name.gguf);
    const std::string label = "tensor " + in_quotes(name.gguf);
    if (tensor.shape != name.shape)
      refuse(archive, label, to_string(name.shape) + " (by the file's metadata)",
             to_string(tensor.shape));
    if (!can_decode(tensor.type))
      refuse(archive, label, "a type that can be decoded",
             std::string(block_type_name(tensor.type)));
    if (name.cols() != name.shape.back() && block_type_info(tensor.type).quantized)
      refuse(archive, label, "a vector of floats", std::string(block_type_name(tensor.type)));
    known.insert(name.gguf);
  }
  // Read with the configuration; the last one, of some old T5 files, by nobody.
  for (const char* table : {"rope_freqs.weight", "rope_factors_long.weight",
                            "rope_factors_short.weight", "dec.blk.0.cross_attn_rel_b.weight"})
    known.insert(table);
  for (size_t i = 0; i < archive.tensor_count(); ++i) {
    const GgufTensor tensor = archive.tensor(i);
    if (known.count(tensor.name) == 0)
      refuse(archive, "tensor " + in_quotes(tensor.name), "only tensors of this architecture",
             to_string(tensor.shape), "a feature that is not supported");
  }
}

Model load_gguf_model(const Path& path) {
  const GgufArchive archive(path);
  ModelConfig config = read_gguf_config(archive);
  check_gguf_tensors(archive, config);
  const std::vector<GgufName> names = gguf_names(config);
  Model model(std::move(config));
  auto name = names.begin();
  for (const StoredRows& stored : stored_tensors(model.config())) {
    const Target target(stored, model);
    for (; name != names.end() && name->hf == stored.name; ++name)
      decode_tensor(archive.tensor(name->gguf), *name, target);
  }
  return model;
}

}  // namespace cairn
