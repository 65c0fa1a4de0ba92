#include "cairn/model/model.h"

#include <algorithm>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/base/hash.h"
#include "cairn/base/random.h"
#include "cairn/base/suggest.h"

namespace cairn {
namespace {

constexpr size_t kFloatsPerLine = kAlignment / sizeof(float);

}  // namespace

// One after another, each at the start of a cache line.
std::vector<Parameter> layout_parameters(const ModelConfig& config, double init_std) {
  std::vector<Parameter> parameters;
  size_t next = 0;
  for (ParameterSpec& spec : parameter_specs(config, init_std)) {
    const size_t size = element_count(spec.shape);
    parameters.push_back({std::move(spec), next, size});
    next = align_up(next + size, kFloatsPerLine);
  }
  return parameters;
}

size_t block_bytes(const ModelConfig& config) {
  const std::vector<Parameter> parameters = layout_parameters(config);
  const Parameter& last = parameters.back();
  return align_up(last.offset + last.size, kFloatsPerLine) * sizeof(float);
}

Model::Model(ModelConfig config, double init_std)
    : config_(normalized(std::move(config))),
      parameters_(layout_parameters(config_, init_std)),
      buffer_(block_bytes(config_)) {}

std::span<const float> Model::weights() const {
  return {reinterpret_cast<const float*>(buffer_.data()), buffer_.size() / sizeof(float)};
}

View1<float> Model::values(const Parameter& parameter) {
  return {weights().data() + parameter.offset, parameter.size};
}

View1<const float> Model::values(const Parameter& parameter) const {
  return {weights().data() + parameter.offset, parameter.size};
}

const Parameter& Model::find(std::string_view name) const {
  for (const Parameter& parameter : parameters_)
    if (parameter.spec.name == name) return parameter;
  std::vector<std::string> names;
  for (const Parameter& parameter : parameters_) names.push_back(parameter.spec.name);
  throw Error({.kind = ErrorKind::usage,
               .doing = "looking for a weight",
               .subject = std::string(name),
               .found = "no such tensor in this model",
               .hint = did_you_mean(name, names)});
}

View2<float> Model::matrix(std::string_view name) {
  const Parameter& parameter = find(name);
  const Shape& shape = parameter.spec.shape;
  if (shape.size() != 2)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "looking for a weight",
                 .subject = parameter.spec.name,
                 .expected = "a matrix",
                 .found = to_string(shape)});
  return {values(parameter).data, shape[0], shape[1]};
}

View1<float> Model::vector(std::string_view name) {
  const Parameter& parameter = find(name);
  if (parameter.spec.shape.size() != 1)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "looking for a weight",
                 .subject = parameter.spec.name,
                 .expected = "a vector",
                 .found = to_string(parameter.spec.shape)});
  return values(parameter);
}

void Model::initialize(uint64_t seed) {
  for (const Parameter& parameter : parameters_) {
    const View1<float> target = values(parameter);
    const Initializer& start = parameter.spec.initializer;
    if (start.kind == Initializer::Kind::constant) {
      std::fill(target.begin(), target.end(), static_cast<float>(start.value));
      continue;
    }
    const RandomStream stream(seed, "init." + parameter.spec.name);
    for (size_t i = 0; i < target.size; ++i)
      target[i] = static_cast<float>(start.value * stream.normal(i));
  }
}

Model rebuild_model(const ModelConfig& config, const Model& source, uint64_t seed) {
  Model model(config);
  model.initialize(seed);
  for (const Parameter& old : source.parameters())
    for (const Parameter& parameter : model.parameters()) {
      if (parameter.spec.name != old.spec.name || parameter.spec.shape != old.spec.shape) continue;
      const View1<const float> values = source.values(old);
      std::copy(values.begin(), values.end(), model.values(parameter).begin());
    }
  return model;
}

uint64_t Model::weights_hash() const {
  Hasher hasher;
  for (const Parameter& parameter : parameters_) {
    const std::string label = parameter.spec.name + to_string(parameter.spec.shape);
    hasher.update(label.data(), label.size());
    hasher.update(values(parameter).data, parameter.size * sizeof(float));
  }
  return hasher.digest();
}

}  // namespace cairn
