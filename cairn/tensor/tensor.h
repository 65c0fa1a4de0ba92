// An owned tensor, and a borrowed one whose element type is known only at run time.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "cairn/base/memory.h"
#include "cairn/tensor/dtype.h"
#include "cairn/tensor/shape.h"
#include "cairn/tensor/view.h"

namespace cairn {

// Bytes of a contiguous tensor; throws Error (data) when they do not fit 64 bits.
size_t byte_count(DType dtype, const Shape& shape);

// A borrowed, contiguous, row-major array whose type is data. `as<T>` checks the type.
struct TensorView {
  std::byte* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;

  size_t elements() const { return element_count(shape); }
  size_t bytes() const { return byte_count(dtype, shape); }
  // Throws Error (usage) when T is not the element type.
  template <class T>
  T* as() const {
    check_dtype(dtype_of<T>);
    return reinterpret_cast<T*>(data);
  }

 private:
  void check_dtype(DType expected) const;
};

// Contiguous, row-major, 64-byte aligned, zeroed when made. Movable; copies are explicit.
class Tensor {
 public:
  Tensor() = default;
  // Throws Error: data when the size overflows, failed when there is not enough memory.
  Tensor(DType dtype, Shape shape);
  static Tensor copy_of(const TensorView& view);

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  size_t elements() const { return element_count(shape_); }
  size_t bytes() const { return byte_count(dtype_, shape_); }
  std::byte* data() { return buffer_.data(); }
  const std::byte* data() const { return buffer_.data(); }
  TensorView view() { return {buffer_.data(), dtype_, shape_}; }

  // All elements as T. Throws Error (usage) when T is not the element type.
  template <class T>
  std::span<T> span() {
    return {view().template as<T>(), elements()};
  }
  template <class T>
  std::span<const T> span() const {
    return {const_cast<Tensor*>(this)->view().template as<T>(), elements()};
  }
  // As a matrix: the last dimension by all others.
  template <class T>
  View2<T> matrix() {
    const size_t cols = shape_.empty() ? 1 : shape_.back();
    return {view().template as<T>(), cols == 0 ? 0 : elements() / cols, cols};
  }

 private:
  DType dtype_ = DType::f32;
  Shape shape_;
  AlignedBuffer buffer_;
};

}  // namespace cairn
