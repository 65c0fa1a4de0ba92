#include "cairn/kernels/tile_products.h"

#include <algorithm>
#include <string>

#include "cairn/base/error.h"
#include "cairn/kernels/tile_kernels.h"
#include "cairn/tensor/shape.h"

namespace cairn {
namespace {

// How far ahead weights are asked for: anything from 1 to 8 KiB reads memory equally fast.
constexpr size_t kFetchAhead = 4096;
// Weights that every group of tokens goes through before the next ones: they and the activations of
// one group stay in the second-level cache.
constexpr size_t kChunkBytes = 98304;

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

void check(const TileRows& w, const Activations& x, View2<float> y) {
  check_shape("multiply_tiles", "x", {x.tokens, w.cols}, {x.tokens, x.cols});
  check_shape("multiply_tiles", "y", {x.tokens, w.rows}, {y.rows, y.cols});
  if (x.kind != activation_kind_of(w.kind))
    throw Error({.kind = ErrorKind::usage,
                 .doing = "multiplying tiles of " + std::string(tile_kind_name(w.kind)),
                 .expected = std::string(name_of(activation_kind_of(w.kind))) + " activations",
                 .found = std::string(name_of(x.kind))});
}

using Multiply = void (*)(const TileCall&);

Multiply multiply_of(Isa isa) {
  if (isa >= Isa::avx512_bf16) return multiply_avx512;
  return isa >= Isa::avx2 ? multiply_avx2 : multiply_portable;
}

FetchCursor fetch_cursor(const uint8_t* tiles, size_t bytes, const NextStream& next) {
  const auto* then = reinterpret_cast<const uint8_t*>(next.data);
  const uint8_t* end = tiles + bytes;
  FetchCursor fetch{tiles + kFetchAhead, end, then, then + std::min(next.bytes, kFetchAhead)};
  if (then == nullptr) fetch.end = end + kFetchAhead, fetch.next = end, fetch.next_end = fetch.end;
  if (fetch.at >= fetch.end) fetch.at = fetch.next, fetch.end = fetch.next_end;
  return fetch;
}

}  // namespace

bool has_constant_cols(TileKind kind, size_t cols, Isa isa) {
  return isa >= Isa::avx512_bf16 && has_constant_cols_avx512(kind, cols);
}

ActivationKind activation_kind_of(TileKind kind) {
  return tile_activation(kind);
}

void multiply_tiles(const TileRows& w, const Activations& x, View2<float> y, const NextStream& next,
                    Isa isa) {
  check(w, x, y);
  const Multiply multiply = multiply_of(isa);
  const size_t group_bytes = std::max<size_t>(1, tile_group_bytes(w.kind, w.cols));
  const size_t all = std::max<size_t>(1, tile_groups(w.rows));
  const size_t groups =
      x.tokens <= kTileTokens ? all : std::clamp<size_t>(kChunkBytes / group_bytes, 1, all);
  for (size_t row = 0; row < w.rows; row += groups * kTileRows) {
    TileCall call{
        .kind = w.kind, .rows = std::min(groups * kTileRows, w.rows - row), .cols = w.cols};
    call.tiles = reinterpret_cast<const uint8_t*>(w.tiles) + row / kTileRows * group_bytes;
    call.y_stride = y.stride;
    call.constant_cols = w.constant_cols;
    for (size_t t = 0; t < x.tokens; t += kTileTokens) {
      call.records = reinterpret_cast<const uint8_t*>(x.data) + activation_record_at(x, t, 0);
      call.tokens = std::min(kTileTokens, x.tokens - t);
      call.y = y[t].data + row;
      call.fetch = fetch_cursor(call.tiles, tile_groups(call.rows) * group_bytes, next);
      multiply(call);
    }
  }
}

}  // namespace cairn
