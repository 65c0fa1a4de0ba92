// What the float64 definitions of the rooms (reference_forward() and its like) sum with, in the
// obvious order.
#pragma once

#include <cstddef>

namespace cairn {

inline double dot(const double* a, const double* b, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// to += factor * from
inline void add_scaled(double factor, const double* from, size_t n, double* to) {
  for (size_t i = 0; i < n; ++i) to[i] += factor * from[i];
}

}  // namespace cairn
