#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "cairn/base/error.h"
#include "cairn/kernels/tile_kernels.h"
#include "cairn/tensor/shape.h"

namespace cairn {
namespace {

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

// Inputs [k, k + 32) scaled and weighted; zeros beyond the row.
void load_inputs(const StoreCall& call, size_t k, float* values) {
  const size_t count = std::min(kTileInputs, call.cols - k);
  for (size_t i = 0; i < count; ++i) values[i] = call.x[k + i] * call.scale;
  if (call.weight != nullptr)
    for (size_t i = 0; i < count; ++i) values[i] *= call.weight[k + i];
  std::fill(values + count, values + kTileInputs, 0.0F);
}

void store_bytes(const float* x, float largest, ByteRecord& record) {
  std::memset(&record, 0, sizeof record);
  if (largest < kSmallestActivation) return;
  const float inverse = 127.0F / largest;
  int32_t low = 0, high = 0;
  for (int k = 0; k < 32; ++k) {
    const auto q = static_cast<int32_t>(std::nearbyint(x[k] * inverse));
    record.q[k] = static_cast<int8_t>(q);
    (k < 16 ? low : high) += q;
  }
  set_scale_and_sums(largest, low, high, record);
}

using Store = bool (*)(const StoreCall&);

Store store_of(Isa isa) {
  if (isa >= Isa::avx512_bf16) return store_avx512;
  return isa >= Isa::avx2 ? store_avx2 : store_portable;
}

}  // namespace

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

bool store_activations(const ActivationSource& from, size_t first, const Activations& to, Isa isa) {
  check(from, first, to);
  const Store store = store_of(isa);
  bool finite = true;
  for (size_t t = 0; t < to.tokens; ++t) {
    const size_t at = activation_record_at(to, t, first / kTileInputs);
    const size_t together = std::min(kTileTokens, to.tokens - t / kTileTokens * kTileTokens);
    const bool good = store({.kind = to.kind,
                             .x = from.x[t].data,
                             .cols = from.x.cols,
                             .scale = from.token_scale.empty() ? 1.0F : from.token_scale[t],
                             .weight = from.weight.data,
                             .records = to.data + at,
                             .stride = together * activation_record_bytes(to.kind)});
    finite = finite && good;
  }
  return finite;
}

bool store_portable(const StoreCall& call) {
  bool finite = true;
  float values[kTileInputs];
  std::byte* record = call.records;
  for (size_t k = 0; k < call.cols; k += kTileInputs, record += call.stride) {
    load_inputs(call, k, values);
    float largest = 0;
    for (const float value : values) {
      finite = finite && std::isfinite(value);
      largest = std::max(largest, std::fabs(value));
    }
    if (!finite) continue;
    if (call.kind == ActivationKind::int8)
      store_bytes(values, largest, *reinterpret_cast<ByteRecord*>(record));
    else if (call.kind == ActivationKind::f32)
      std::memcpy(record, values, sizeof values);
    else
      for (size_t i = 0; i < kTileInputs; ++i)
        reinterpret_cast<bf16*>(record)[i] = bf16::from_float(values[i]);
  }
  return finite;
}

}  // namespace cairn
