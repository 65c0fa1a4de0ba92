#include "cairn/kernels/tile_products.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cairn/base/error.h"
#include "cairn/kernels/tile_kernels.h"
#include "cairn/tensor/shape.h"

namespace cairn {
namespace {

std::string_view name_of(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::int8:
      return "int8";
    case ActivationKind::bf16:
      return "bf16";
    default:
      return "f32";
  }
}

void check(const ActivationSource& from, size_t first, const Activations& to) {
  const size_t cols = from.x.cols;
  check_shape("store_activations", "x", {to.tokens, cols}, {from.x.rows, cols});
  if (!from.token_scale.empty())
    check_shape("store_activations", "token_scale", {to.tokens}, {from.token_scale.size});
  if (!from.weight.empty()) check_shape("store_activations", "weight", {cols}, {from.weight.size});
  const size_t end = first + cols;
  if (first % kTileInputs != 0 || end > to.cols || (end % kTileInputs != 0 && end != to.cols))
    throw Error({.kind = ErrorKind::usage,
                 .doing = "store_activations",
                 .expected = "columns in whole blocks of 32 of " + std::to_string(to.cols),
                 .found = std::to_string(first) + " to " + std::to_string(end)});
}

void check(const TileRows& w, const Activations& x, View2<float> y) {
  check_shape("multiply_tiles", "x", {x.tokens, w.cols}, {x.tokens, x.cols});
  check_shape("multiply_tiles", "y", {x.tokens, w.rows}, {y.rows, y.cols});
  if (x.kind != activation_kind_of(w.kind))
    throw Error({.kind = ErrorKind::usage,
                 .doing = "multiplying tiles of " + std::string(tile_kind_name(w.kind)),
                 .expected = std::string(name_of(activation_kind_of(w.kind))) + " activations",
                 .found = std::string(name_of(x.kind))});
}

// The 32 values of one block of one token: scaled, weighted, filled up with zeros.
void load_block(const ActivationSource& from, size_t t, size_t begin, float* values) {
  const size_t count = std::min(kTileInputs, from.x.cols - begin);
  const float* x = from.x[t].data + begin;
  const float scale = from.token_scale.empty() ? 1.0F : from.token_scale[t];
  for (size_t k = 0; k < count; ++k) values[k] = x[k] * scale;
  if (!from.weight.empty())
    for (size_t k = 0; k < count; ++k) values[k] *= from.weight[begin + k];
  std::fill(values + count, values + kTileInputs, 0.0F);
}

bool store_block(const float* values, ActivationKind kind, std::byte* record) {
  if (kind == ActivationKind::int8)
    return store_bytes_portable(values, *reinterpret_cast<ByteRecord*>(record));
  float worst = 0;  // turns NaN when a value is not finite
  for (size_t k = 0; k < kTileInputs; ++k) worst += values[k] * 0.0F;
  if (kind == ActivationKind::f32)
    std::memcpy(record, values, kTileInputs * sizeof(float));
  else
    for (size_t k = 0; k < kTileInputs; ++k)
      reinterpret_cast<bf16*>(record)[k] = bf16::from_float(values[k]);
  return worst == 0;
}

}  // namespace

ActivationKind activation_kind_of(TileKind kind) {
  switch (kind) {
    case TileKind::tb16:
      return ActivationKind::bf16;
    case TileKind::tf16:
    case TileKind::tf32:
      return ActivationKind::f32;
    default:
      return ActivationKind::int8;
  }
}

size_t activation_bytes(ActivationKind kind, size_t tokens, size_t cols) {
  const size_t blocks = cols / kTileInputs + (cols % kTileInputs != 0 ? 1 : 0);
  size_t bytes = 0;
  if (__builtin_mul_overflow(blocks, tokens, &bytes) ||
      __builtin_mul_overflow(bytes, activation_record_bytes(kind), &bytes))
    throw Error({.kind = ErrorKind::data,
                 .doing = "laying out activations",
                 .expected = "fewer than 2^64 bytes",
                 .found = std::to_string(tokens) + " tokens of " + std::to_string(cols)});
  return bytes;
}

bool store_activations(const ActivationSource& from, size_t first, const Activations& to,
                       Isa /*isa*/) {
  check(from, first, to);
  bool finite = true;
  float values[kTileInputs];
  for (size_t t = 0; t < to.tokens; ++t)
    for (size_t begin = 0; begin < from.x.cols; begin += kTileInputs) {
      load_block(from, t, begin, values);
      std::byte* record = to.data + activation_record_at(to, t, (first + begin) / kTileInputs);
      finite = store_block(values, to.kind, record) && finite;
    }
  return finite;
}

void multiply_tiles(const TileRows& w, const Activations& x, View2<float> y, const NextStream&,
                    Isa /*isa*/) {
  check(w, x, y);
  for (size_t t = 0; t < x.tokens; t += kTileTokens)
    multiply_portable(
        {.kind = w.kind,
         .rows = w.rows,
         .cols = w.cols,
         .tiles = reinterpret_cast<const uint8_t*>(w.tiles),
         .records = reinterpret_cast<const uint8_t*>(x.data + activation_record_at(x, t, 0)),
         .tokens = std::min(kTileTokens, x.tokens - t),
         .y = y[t].data,
         .y_stride = y.stride});
}

}  // namespace cairn
