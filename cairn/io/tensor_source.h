// How writers of tensor files get their bytes: piece by piece, so that no tensor is ever whole in
// memory unless its owner holds it so.
#pragma once

#include <cstddef>

#include "cairn/base/function_ref.h"

namespace cairn {

using ByteSink = FunctionRef<void(const void* data, size_t bytes)>;
// Gives the bytes of entries[index] to `sink`, in order, in as many pieces as it likes.
using TensorSource = FunctionRef<void(size_t index, ByteSink sink)>;

}  // namespace cairn
