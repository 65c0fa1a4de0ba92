// The products in plain C++: what the instruction sets are held to, and what runs where there is
// none of them.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "cairn/kernels/tile_kernels.h"
#include "cairn/kernels/tile_unit.h"

namespace cairn {
namespace {

float half_of(uint16_t bits) {
  return f16{bits}.to_float();
}

struct ByteSums {
  int32_t low, high;  // sums of code * byte over the first and the last 16 inputs
};

ByteSums sum_bytes(const uint8_t* codes, const ByteRecord& x, int32_t zero) {
  ByteSums sums{zero * x.minus_low, zero * x.minus_high};
  for (int k = 0; k < 16; ++k) {
    sums.low += codes[k] * x.q[k];
    sums.high += codes[k + 16] * x.q[k + 16];
  }
  return sums;
}

// Adds block b of a unit to the sum of one row and one token. Every instruction set rounds at
// exactly these places.
float add_block(TileKind kind, const TileUnit& unit, size_t b, const ByteRecord& x, float sum) {
  const ByteSums sums =
      sum_bytes(unit.codes + kTileInputs * b, x, static_cast<int32_t>(tile_layout(kind).zero));
  const auto both = static_cast<float>(sums.low + sums.high);
  const auto low = static_cast<float>(sums.low), high = static_cast<float>(sums.high);
  const float d = half_of(unit.scale), offset = half_of(unit.offset);
  const uint8_t* fine = unit.scales + 2 * b;
  switch (kind) {
    case TileKind::t4a:
    case TileKind::t5a:
      return std::fma(offset, x.scaled_sum, std::fma(both, d * x.scale, sum));
    case TileKind::t4k:
    case TileKind::t5k:
      sum = std::fma(both, d * static_cast<float>(fine[0]) * x.scale, sum);
      return std::fma(-(offset * static_cast<float>(fine[1])), x.scaled_sum, sum);
    case TileKind::t3k:
    case TileKind::t6k: {
      const float first = d * static_cast<float>(static_cast<int8_t>(fine[0]));
      const float second = d * static_cast<float>(static_cast<int8_t>(fine[1]));
      return std::fma(std::fma(high, second, low * first), x.scale, sum);
    }
    case TileKind::t2k: {
      const float first = d * static_cast<float>(fine[0] & 15);
      const float second = d * static_cast<float>(fine[1] & 15);
      sum = std::fma(std::fma(high, second, low * first), x.scale, sum);
      sum = std::fma(-(offset * static_cast<float>(fine[0] >> 4)), x.scaled_low, sum);
      return std::fma(-(offset * static_cast<float>(fine[1] >> 4)), x.scaled_high, sum);
    }
    default:
      return std::fma(both, d * x.scale, sum);
  }
}

// One row with all tokens: sums [tokens].
void dot_bytes(const TileCall& call, const uint8_t* group, size_t r, float* sums) {
  const TileLayout layout = tile_layout(call.kind);
  const auto* records = reinterpret_cast<const ByteRecord*>(call.records);
  const size_t blocks = layout.unit_inputs / kTileInputs;
  TileUnit unit;
  for (size_t u = 0; u < call.cols / layout.unit_inputs; ++u) {
    gather_unit(layout, group, u, r, unit);
    for (size_t b = 0; b < blocks; ++b)
      for (size_t t = 0; t < call.tokens; ++t)
        sums[t] =
            add_block(call.kind, unit, b, records[(u * blocks + b) * call.tokens + t], sums[t]);
  }
}

float plain_weight(TileKind kind, const uint8_t* group, size_t r, size_t k) {
  const uint8_t* at = group + plain_weight_at(kind, r, k);
  float wide = 0;
  uint16_t half = 0;
  std::memcpy(&half, at, 2);
  if (kind == TileKind::tf16) return half_of(half);
  if (kind == TileKind::tb16) return bf16{half}.to_float();
  std::memcpy(&wide, at, 4);
  return wide;
}

float plain_activation(const TileCall& call, size_t t, size_t k) {
  const size_t record = k / kTileInputs * call.tokens + t, at = k % kTileInputs;
  if (call.kind == TileKind::tb16)
    return reinterpret_cast<const bf16*>(call.records)[record * kTileInputs + at].to_float();
  return reinterpret_cast<const float*>(call.records)[record * kTileInputs + at];
}

void dot_plain(const TileCall& call, const uint8_t* group, size_t r, float* sums) {
  for (size_t k = 0; k < call.cols; ++k) {
    const float weight = plain_weight(call.kind, group, r, k);
    for (size_t t = 0; t < call.tokens; ++t) sums[t] += weight * plain_activation(call, t, k);
  }
}

}  // namespace

void multiply_portable(const TileCall& call) {
  const bool plain = tile_layout(call.kind).header_bytes == 0;
  const size_t group_bytes = tile_group_bytes(call.kind, call.cols);
  for (size_t row = 0; row < call.rows; ++row) {
    const uint8_t* group = call.tiles + row / kTileRows * group_bytes;
    float sums[kTileTokens] = {};
    plain ? dot_plain(call, group, row % kTileRows, sums)
          : dot_bytes(call, group, row % kTileRows, sums);
    for (size_t t = 0; t < call.tokens; ++t) call.y[t * call.y_stride + row] = sums[t];
  }
}

}  // namespace cairn
