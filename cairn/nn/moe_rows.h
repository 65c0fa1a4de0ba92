// Rows of a mixture of experts in scratch memory, in blocks of one expert's tokens.
#pragma once

#include <cstddef>
#include <span>

#include "cairn/tensor/view.h"

namespace cairn::moe {

inline constexpr size_t kBlock = 64;        // rows of one expert that are multiplied at a time
inline constexpr size_t kTokenGrain = 128;  // tokens that one chunk of the team routes or combines

inline float widened(float value) {
  return value;
}
inline float widened(bf16 value) {
  return value.to_float();
}

// Memory of a scratch as rows.
inline AnyView2 rows_of(std::span<std::byte> memory, DType dtype, size_t cols) {
  return {memory.data(), dtype, memory.size() / (cols * dtype_size(dtype)), cols, cols};
}

inline std::byte* at(const AnyView2& view, size_t row, size_t col) {
  return static_cast<std::byte*>(view.data) + (row * view.stride + col) * dtype_size(view.dtype);
}

inline AnyView2 slice(const AnyView2& view, size_t begin, size_t count) {
  return {at(view, begin, 0), view.dtype, count, view.cols, view.stride};
}

inline AnyView2 block_of(const AnyView2& all, size_t block) {
  return slice(all, block * kBlock, kBlock);
}

}  // namespace cairn::moe
