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

// The two moments with the suffixes that PyTorch's AdamW gives them.
struct Moment {
  const char* suffix;
  std::span<float> values;
};

std::array<Moment, 2> moments(Optimizer& optimizer) {
  return {{{".exp_avg", optimizer.first_moments()}, {".exp_avg_sq", optimizer.second_moments()}}};
}

void save_optimizer(const Path& path, std::span<const Parameter> parameters, Optimizer& optimizer) {
  std::vector<TensorEntry> entries;
  std::vector<const float*> sources;
  for (const Moment& moment : moments(optimizer))
    for (const Parameter& p : parameters) {
      entries.push_back({p.spec.name + moment.suffix, DType::f32, p.spec.shape});
      sources.push_back(moment.values.data() + p.offset);
    }
  write_safetensors(path, entries,
                    [&](size_t index, ByteSink sink) {
                      sink(sources[index], element_count(entries[index].shape) * sizeof(float));
                    },
                    {{"steps", std::to_string(optimizer.steps())}});
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

Path save_checkpoint(CheckpointStore& store, TrainedParts parts, const CheckpointFacts& facts,
                     const std::vector<Path>& companions) {
  return store.write(parts.state.step, checkpoint_bytes(parts.model), [&](const Path& folder) {
    save_model(parts.model, folder, DType::f32);
    save_optimizer(folder / kOptimizerFile, parts.model.parameters(), parts.optimizer);
    for (const Path& file : companions) copy_durably(file, folder / file.filename());
    write_file_atomically(folder / kStateFile, write_json(state_to_json(parts.state, facts)));
  });
}

void restore_checkpoint(const Path& folder, TrainedParts parts, CheckpointFacts& facts) {
  const TensorArchive weights(folder);
  const TensorArchive optimizer(folder / kOptimizerFile);
  for (const Parameter& p : parts.model.parameters()) {
    read_tensor(weights, p.spec.name, p.spec.shape, parts.model.values(p).data);
    for (const Moment& moment : moments(parts.optimizer))
      read_tensor(optimizer, p.spec.name + moment.suffix, p.spec.shape,
                  moment.values.data() + p.offset);
  }
  const Path state = folder / kStateFile;
  parts.state = state_from_json(read_json(state), state.string(), facts);
  parts.optimizer.set_steps(parts.state.step);
}

}  // namespace cairn
