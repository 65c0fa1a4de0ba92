#include "cairn/tensor/tensor.h"

#include <cstring>
#include <string>
#include <utility>

#include "cairn/base/error.h"

namespace cairn {

void TensorView::check_dtype(DType expected) const {
  if (dtype == expected) return;
  throw Error({.kind = ErrorKind::usage,
               .doing = "reading a tensor of shape " + to_string(shape),
               .expected = std::string(dtype_name(expected)),
               .found = std::string(dtype_name(dtype))});
}

Tensor::Tensor(DType dtype, Shape shape)
    : dtype_(dtype), shape_(std::move(shape)), buffer_(element_count(shape_) * dtype_size(dtype)) {}

Tensor Tensor::copy_of(const TensorView& view) {
  Tensor result(view.dtype, view.shape);
  if (view.bytes() != 0) std::memcpy(result.data(), view.data, view.bytes());
  return result;
}

}  // namespace cairn
