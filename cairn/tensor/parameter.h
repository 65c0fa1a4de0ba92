// What a trainable tensor is: its name, its shape, how it starts and how it is optimised. Rooms and
// architectures list these; the model owns the memory.
#pragma once

#include <string>

#include "cairn/tensor/shape.h"

namespace cairn {

struct Initializer {
  enum class Kind { normal, constant };
  Kind kind = Kind::normal;
  double value = 0.02;  // standard deviation of the normal (mean 0), or the constant
  bool operator==(const Initializer&) const = default;
};

// Which rules of the optimiser a tensor follows.
enum class ParameterGroup {
  matrix,     // decayed
  embedding,  // decayed
  vector,     // norm gains and biases: not decayed
};

struct ParameterSpec {
  std::string name;  // Hugging Face name, e.g. "model.layers.3.mlp.up_proj.weight"
  Shape shape;       // row-major; a matrix is [out, in]
  Initializer initializer;
  ParameterGroup group = ParameterGroup::matrix;
  bool operator==(const ParameterSpec&) const = default;
};

}  // namespace cairn
