#include "cairn/train/checkpoint.h"

#include <array>
#include <cstring>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/io/safetensors.h"

namespace cairn {
namespace {

constexpr const char* kOptimizerFile = "optim.safetensors";
constexpr const char* kStateFile = "trainer.json";

// The suffixes that PyTorch's AdamW gives the two moments.
constexpr std::array<const char*, 2> kMoments = {".exp_avg", ".exp_avg_sq"};

void save_optimizer(const Path& path, const CheckpointParts& parts) {
  std::vector<TensorEntry> entries;
  std::vector<const float*> sources;
  const std::array<std::span<const float>, 2> moments = {parts.first_moments, parts.second_moments};
  for (size_t moment = 0; moment < moments.size(); ++moment)
    for (const Parameter& p : parts.model.parameters()) {
      entries.push_back({p.spec.name + kMoments[moment], DType::f32, p.spec.shape});
      sources.push_back(moments[moment].data() + p.offset);
    }
  write_safetensors(path, entries,
                    [&](size_t index, ByteSink sink) {
                      sink(sources[index], element_count(entries[index].shape) * sizeof(float));
                    },
                    {{"steps", std::to_string(parts.state.updates())}});
}

// Bytes of tensor `name`, which must be f32 of `shape`.
void read_tensor(const TensorArchive& archive, const std::string& name, const Shape& shape,
                 float* to) {
  const StoredTensor& tensor = archive.find(name);
  if (tensor.type != DType::f32 || tensor.shape != shape)
    throw Error({.kind = ErrorKind::checkpoint,
                 .doing = "loading " + archive.path().string(),
                 .subject = "tensor " + name,
                 .expected = "F32 " + to_string(shape),
                 .found = tensor.dtype + " " + to_string(tensor.shape)});
  std::memcpy(to, tensor.bytes.data(), tensor.bytes.size());
}

}  // namespace

void copy_durably(const Path& from, const Path& to) {
  const MappedFile source(from);
  FileWriter writer(to);
  writer.write(source.bytes().data(), source.size());
  writer.sync();
  writer.close();
}

uint64_t checkpoint_bytes(const Model& model) {
  uint64_t elements = 0;
  for (const Parameter& p : model.parameters()) elements += p.size;
  return elements * 3 * sizeof(float) + (uint64_t{16} << 20);
}

Path save_checkpoint(CheckpointStore& store, const CheckpointParts& parts,
                     const CheckpointFacts& facts, const std::vector<Path>& companions) {
  return store.write(parts.state.step, checkpoint_bytes(parts.model), [&](const Path& folder) {
    save_model(parts.model, folder, DType::f32);
    save_optimizer(folder / kOptimizerFile, parts);
    for (const Path& file : companions) copy_durably(file, folder / file.filename());
    write_file_atomically(folder / kStateFile, write_json(state_to_json(parts.state, facts)));
  });
}

void restore_checkpoint(const Path& folder, TrainedParts parts, CheckpointFacts& facts) {
  const TensorArchive weights(folder);
  const TensorArchive optimizer(folder / kOptimizerFile);
  const std::array<std::span<float>, 2> moments = {parts.optimizer.first_moments(),
                                                   parts.optimizer.second_moments()};
  for (const Parameter& p : parts.model.parameters()) {
    read_tensor(weights, p.spec.name, p.spec.shape, parts.model.values(p).data);
    for (size_t moment = 0; moment < moments.size(); ++moment)
      read_tensor(optimizer, p.spec.name + kMoments[moment], p.spec.shape,
                  moments[moment].data() + p.offset);
  }
  const Path state = folder / kStateFile;
  parts.state = state_from_json(read_json(state), state.string(), facts);
  parts.optimizer.set_steps(parts.state.updates());
}

}  // namespace cairn
