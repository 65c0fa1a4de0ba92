#include "cairn/attention/stick_breaking/rows.h"

#include <algorithm>
#include <cmath>

#include "cairn/attention/stick_breaking/reference.h"

namespace cairn {
namespace {

struct Moments {
  float mean, inverse;  // 1 / sqrt(variance + epsilon)
};

Moments moments_of(const float* row, size_t n) {
  double sum = 0, squares = 0;
  for (size_t i = 0; i < n; ++i) sum += row[i];
  const double mean = sum / static_cast<double>(n);
  for (size_t i = 0; i < n; ++i) squares += (row[i] - mean) * (row[i] - mean);
  const double variance = squares / static_cast<double>(n);
  return {static_cast<float>(mean), static_cast<float>(1 / std::sqrt(variance + kHeadNormEpsilon))};
}

}  // namespace

RowEnd::Vectors RowEnd::vectors_of(size_t token, size_t rows, size_t head, float* scratch) const {
  const AttentionGeometry& g = attention.geometry;
  switch (attention.options.remainder) {
    case StickRemainder::none:
      return {};
    case StickRemainder::head_bias:
      return {vectors.remainder.data + head * g.value_dim, 0};
    case StickRemainder::value:
      load_tile(tile_rows(v, token, rows, head / (g.heads / g.kv_heads)), {}, scratch);
      return {scratch, padded_width(g.value_dim)};
  }
  return {};
}

void RowEnd::add_remainder(size_t token, size_t rows, size_t head, const float* remainder,
                           float* tile, float* scratch) const {
  const size_t n = attention.geometry.value_dim, width = padded_width(n);
  const Vectors w = vectors_of(token, rows, head, scratch);
  if (w.first == nullptr) return;
  for (size_t row = 0; row < rows; ++row)
    for (size_t i = 0; i < n; ++i)
      tile[row * width + i] += remainder[row] * w.first[row * w.stride + i];
}

void RowEnd::normalize(size_t rows, size_t head, float* tile, float* unnormed) const {
  if (!attention.options.head_norm) return;
  const size_t n = attention.geometry.value_dim, width = padded_width(n);
  const float* weight = vectors.norm_weight.data + head * n;
  const float* bias = vectors.norm_bias.data + head * n;
  for (size_t row = 0; row < rows; ++row) {
    float* y = tile + row * width;
    if (unnormed != nullptr) std::copy_n(y, n, unnormed + row * n);
    const Moments m = moments_of(y, n);
    for (size_t i = 0; i < n; ++i) y[i] = (y[i] - m.mean) * m.inverse * weight[i] + bias[i];
  }
}

void RowEnd::normalize_backward(size_t rows, size_t head, const float* unnormed, float* tile,
                                double* dweight, double* dbias) const {
  if (!attention.options.head_norm) return;
  const size_t n = attention.geometry.value_dim, width = padded_width(n);
  const float* weight = vectors.norm_weight.data + head * n;
  for (size_t row = 0; row < rows; ++row) {
    const float* y = unnormed + row * n;
    float* dy = tile + row * width;
    const Moments m = moments_of(y, n);
    double mean = 0, along = 0;  // of dy * weight, and of its product with the normed row
    for (size_t i = 0; i < n; ++i) {
      const float normed = (y[i] - m.mean) * m.inverse;
      if (dweight != nullptr) {
        dweight[i] += static_cast<double>(dy[i]) * normed;
        dbias[i] += dy[i];
      }
      dy[i] *= weight[i];
      mean += dy[i];
      along += static_cast<double>(dy[i]) * normed;
    }
    mean /= static_cast<double>(n);
    along /= static_cast<double>(n);
    for (size_t i = 0; i < n; ++i) {
      const double normed = (y[i] - m.mean) * m.inverse;
      dy[i] = static_cast<float>(m.inverse * (dy[i] - mean - normed * along));
    }
  }
}

void RowEnd::remainder_backward(size_t token, size_t rows, size_t head, const float* tile,
                                double* dremainder, float* scratch) const {
  const size_t n = attention.geometry.value_dim, width = padded_width(n);
  const Vectors w = vectors_of(token, rows, head, scratch);
  if (w.first == nullptr) return;
  for (size_t row = 0; row < rows; ++row) {
    double sum = 0;
    for (size_t i = 0; i < n; ++i)
      sum += static_cast<double>(tile[row * width + i]) * w.first[row * w.stride + i];
    dremainder[row] += sum;
  }
}

}  // namespace cairn
