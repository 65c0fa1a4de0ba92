#include "cairn/tensor/shape.h"

#include <algorithm>

#include "cairn/base/error.h"

namespace cairn {

size_t element_count(const Shape& shape) {
  size_t count = 1;
  for (const size_t size : shape) {
    if (__builtin_mul_overflow(count, size, &count))
      throw Error({.kind = ErrorKind::data,
                   .doing = "counting the elements of a tensor",
                   .expected = "fewer than 2^64",
                   .found = to_string(shape)});
  }
  return count;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i != 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

void check_shape(std::string_view operation, std::string_view argument, const Shape& expected,
                 const Shape& found) {
  if (expected == found) return;
  throw Error({.kind = ErrorKind::usage,
               .doing = std::string(operation),
               .subject = std::string(argument),
               .expected = to_string(expected),
               .found = to_string(found)});
}

void check_shape(std::string_view operation, std::string_view argument,
                 std::initializer_list<size_t> expected, std::initializer_list<size_t> found) {
  if (std::equal(expected.begin(), expected.end(), found.begin(), found.end())) return;
  check_shape(operation, argument, Shape(expected), Shape(found));
}

}  // namespace cairn
