// Row kernels of the front end, through Highway. Internal to the room.
#pragma once

#include <cstddef>

namespace cairn {

// The rows of y that one token's convolution sees.
struct MapRow {
  const float* y = nullptr;  // of the token; earlier ones lie y_stride before
  size_t y_stride = 0;
  const float* taps = nullptr;  // [reach or more][channels], the token's own first; null: none
  size_t reach = 1;             // rows it sees, itself included
  size_t channels = 0, dim = 0;
};

// w = z / sqrt(|z|^2 + eps) with z = silu(conv(y)), for channels / dim directions.
void map_row(const MapRow& row, float* w);
// dw becomes the gradient of conv(y).
void map_row_backward(const MapRow& row, float* dw);
// to[c] = sum over `reach` rows r of taps[r][c] * from[c + r * stride]: a convolution against time.
void conv_row_backward(const float* from, size_t stride, const float* taps, size_t reach,
                       size_t channels, float* to);

}  // namespace cairn
