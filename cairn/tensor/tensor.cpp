#include "cairn/tensor/tensor.h"

#include <cstring>
#include <string>
#include <utility>

#include "cairn/base/error.h"

namespace cairn {

size_t byte_count(DType dtype, const Shape& shape) {
  size_t bytes = element_count(shape);
  if (__builtin_mul_overflow(bytes, dtype_size(dtype), &bytes))
    throw Error({.kind = ErrorKind::data,
                 .doing = "counting the bytes of a tensor",
                 .expected = "fewer than 2^64",
                 .found = std::string(dtype_name(dtype)) + " " + to_string(shape)});
  return bytes;
}

void TensorView::check_dtype(DType expected) const {
  if (dtype == expected) return;
  throw Error({.kind = ErrorKind::usage,
               .doing = "reading a tensor of shape " + to_string(shape),
               .expected = std::string(dtype_name(expected)),
               .found = std::string(dtype_name(dtype))});
}

Tensor::Tensor(DType dtype, Shape shape)
    : dtype_(dtype), shape_(std::move(shape)), buffer_(byte_count(dtype, shape_)) {}

Tensor Tensor::copy_of(const TensorView& view) {
  Tensor result(view.dtype, view.shape);
  if (view.bytes() != 0) std::memcpy(result.data(), view.data, view.bytes());
  return result;
}

}  // namespace cairn
