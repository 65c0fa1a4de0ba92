// Encoders of plain types and of those with one scale for 32 elements.
#include "cairn/kernels/block_encode.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "cairn/base/error.h"
#include "cairn/kernels/blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/kernels/block_encode.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include "cairn/kernels/block_search-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

constexpr size_t kBlock = 32;

struct Range {
  float low, high;
};

Range range_of(const float* x) {
  const hn::CappedTag<float, kBlock> d;
  auto low = hn::LoadU(d, x), high = low;
  for (size_t i = hn::Lanes(d); i < kBlock; i += hn::Lanes(d)) {
    low = hn::Min(low, hn::LoadU(d, x + i));
    high = hn::Max(high, hn::LoadU(d, x + i));
  }
  return {hn::GetLane(hn::MinOfLanes(d, low)), hn::GetLane(hn::MaxOfLanes(d, high))};
}

// The element of largest magnitude, with its sign; the first among equals.
float signed_max_of(const float* x) {
  const Range range = range_of(x);
  if (range.high != -range.low) return range.high > -range.low ? range.high : range.low;
  for (size_t i = 0; i < kBlock; ++i)
    if (std::abs(x[i]) == range.high) return range.high == 0 ? 0 : x[i];
  return 0;
}

// trunc((x - low) * factor + half), at most `most`; the halves come from the callers, whose
// formats differ in whether zero is a level.
void truncated_levels(const float* x, float low, float factor, float half, int most, uint8_t* q) {
  const hn::CappedTag<float, kBlock> d;
  const hn::RebindToSigned<decltype(d)> di;
  alignas(64) int32_t levels[kBlock];
  for (size_t i = 0; i < kBlock; i += hn::Lanes(d)) {
    const auto scaled = hn::Mul(hn::Sub(hn::LoadU(d, x + i), hn::Set(d, low)), hn::Set(d, factor));
    const auto level = hn::ConvertTo(di, hn::Add(scaled, hn::Set(d, half)));
    hn::Store(hn::Max(hn::Min(level, hn::Set(di, most)), hn::Zero(di)), di, levels + i);
  }
  for (size_t i = 0; i < kBlock; ++i) q[i] = static_cast<uint8_t>(levels[i]);
}

float inverse(float d) {
  return d != 0 ? 1 / d : 0;
}

void pack(const uint8_t* q, uint8_t (&qs)[16]) {
  for (int i = 0; i < 16; ++i) qs[i] = static_cast<uint8_t>((q[i] & 15) | (q[i + 16] & 15) << 4);
}

void pack_fifth_bits(const uint8_t* q, uint8_t (&qh)[4]) {
  uint32_t bits = 0;
  for (int i = 0; i < 32; ++i) bits |= uint32_t{q[i]} >> 4 << i;
  std::memcpy(qh, &bits, sizeof bits);
}

void encode(const float* x, BlockQ8_0& b) {
  const Range range = range_of(x);
  const float scale = std::max(std::abs(range.low), std::abs(range.high)) / 127;
  store_half(scale, b.d);
  const hn::CappedTag<float, kBlock> d;
  const hn::RebindToSigned<decltype(d)> di;
  alignas(64) int32_t levels[kBlock];
  const auto factor = hn::Set(d, inverse(scale)), half = hn::Set(d, 0.5F);
  for (size_t i = 0; i < kBlock; i += hn::Lanes(d)) {
    const auto value = hn::Mul(hn::LoadU(d, x + i), factor);
    // Halves go away from zero; adding a half first would round numbers just below one up, too.
    const auto whole = hn::Trunc(value);
    const auto away = hn::CopySign(hn::Set(d, 1.0F), value);
    const auto up = hn::Ge(hn::Abs(hn::Sub(value, whole)), half);
    hn::Store(hn::ConvertTo(di, hn::Add(whole, hn::IfThenElseZero(up, away))), di, levels + i);
  }
  for (size_t i = 0; i < kBlock; ++i) b.qs[i] = static_cast<uint8_t>(levels[i]);
}

void encode(const float* x, BlockQ4_0& b) {
  uint8_t q[kBlock];
  const float d = signed_max_of(x) / -8;
  store_half(d, b.d);
  truncated_levels(x, 0, inverse(d), 8.5F, 15, q);
  pack(q, b.qs);
}

void encode(const float* x, BlockQ5_0& b) {
  uint8_t q[kBlock];
  const float d = signed_max_of(x) / -16;
  store_half(d, b.d);
  truncated_levels(x, 0, inverse(d), 16.5F, 31, q);
  pack(q, b.qs);
  pack_fifth_bits(q, b.qh);
}

void encode(const float* x, BlockQ4_1& b) {
  uint8_t q[kBlock];
  const Range range = range_of(x);
  const float d = (range.high - range.low) / 15;
  store_half(d, b.d);
  store_half(range.low, b.m);
  truncated_levels(x, range.low, inverse(d), 0.5F, 15, q);
  pack(q, b.qs);
}

void encode(const float* x, BlockQ5_1& b) {
  uint8_t q[kBlock];
  const Range range = range_of(x);
  const float d = (range.high - range.low) / 31;
  store_half(d, b.d);
  store_half(range.low, b.m);
  truncated_levels(x, range.low, inverse(d), 0.5F, 31, q);
  pack(q, b.qs);
  pack_fifth_bits(q, b.qh);
}

// The same types by importance: eight blocks are searched side by side.
constexpr size_t kGroup = 8;
using GroupRuns = Runs<kGroup, kBlock>;

void finish(float scale, float /*min*/, const uint8_t* q, BlockQ4_0& b) {
  store_half(scale, b.d);
  pack(q, b.qs);
}
void finish(float scale, float /*min*/, const uint8_t* q, BlockQ5_0& b) {
  store_half(scale, b.d);
  pack(q, b.qs);
  pack_fifth_bits(q, b.qh);
}
void finish(float scale, float min, const uint8_t* q, BlockQ4_1& b) {
  store_half(scale, b.d);
  store_half(-min, b.m);
  pack(q, b.qs);
}
void finish(float scale, float min, const uint8_t* q, BlockQ5_1& b) {
  store_half(scale, b.d);
  store_half(-min, b.m);
  pack(q, b.qs);
  pack_fifth_bits(q, b.qh);
}

template <class Block>
void search_group(const GroupRuns& runs, const GroupRuns& weights, GroupRuns& levels,
                  Found<kGroup>& found) {
  constexpr SearchSteps kSteps{-0.9F, 0.05F, 36};
  if constexpr (std::is_same_v<Block, BlockQ4_0>)
    search_symmetric<kGroup, kBlock, 8>(runs, weights, levels, found);
  else if constexpr (std::is_same_v<Block, BlockQ5_0>)
    search_symmetric<kGroup, kBlock, 16>(runs, weights, levels, found);
  else if constexpr (std::is_same_v<Block, BlockQ4_1>)
    search_offset<kGroup, kBlock, 15, false>(runs, weights, kSteps, levels, found);
  else
    search_offset<kGroup, kBlock, 31, false>(runs, weights, kSteps, levels, found);
}

// `row` is a whole row: how large its elements are beside its mean square enters the weights.
template <class Block>
void encode_by_importance(const float* row, const float* importance, size_t elements,
                          std::byte* to) {
  float sum = 0;
  for (size_t i = 0; i < elements; ++i) sum += row[i] * row[i];
  const float mean = sum / static_cast<float>(elements);
  for (size_t at = 0; at < elements; at += kGroup * kBlock) {
    const size_t count = std::min(kGroup * kBlock, elements - at);
    float x[kGroup * kBlock] = {}, w[kGroup * kBlock] = {};
    for (size_t i = 0; i < count; ++i) {
      x[i] = row[at + i];
      w[i] = importance[at + i] * std::sqrt(mean + x[i] * x[i]);
    }
    GroupRuns runs, weights, levels;
    Found<kGroup> found;
    uint8_t q[kGroup * kBlock];
    runs.load(x);
    weights.load(w);
    search_group<Block>(runs, weights, levels, found);
    levels.store(q);
    for (size_t g = 0; g < count / kBlock; ++g, to += sizeof(Block))
      finish(found.scale[g], found.min[g], q + g * kBlock, *reinterpret_cast<Block*>(to));
  }
}

template <class Block>
void encode_all(const float* x, const float* importance, size_t elements, std::byte* to) {
  if constexpr (!std::is_same_v<Block, BlockQ8_0>)
    if (importance != nullptr) return encode_by_importance<Block>(x, importance, elements, to);
  for (size_t at = 0; at < elements; at += kBlock, to += sizeof(Block))
    encode(x + at, *reinterpret_cast<Block*>(to));  // bytes alone: any address will do
}

template <class Half>
void encode_halves(const float* x, size_t elements, std::byte* to) {
  for (size_t i = 0; i < elements; ++i) {
    const Half value = Half::from_float(x[i]);
    std::memcpy(to + 2 * i, &value.bits, 2);
  }
}

// False for another type.
bool encode_row(BlockType type, const float* x, const float* importance, size_t elements,
                std::byte* to) {
  switch (type) {
    case BlockType::f32:
      if (elements != 0) std::memcpy(to, x, elements * sizeof(float));
      return true;
    case BlockType::f16:
      return encode_halves<f16>(x, elements, to), true;
    case BlockType::bf16:
      return encode_halves<bf16>(x, elements, to), true;
    case BlockType::q8_0:
      return encode_all<BlockQ8_0>(x, importance, elements, to), true;
    case BlockType::q4_0:
      return encode_all<BlockQ4_0>(x, importance, elements, to), true;
    case BlockType::q4_1:
      return encode_all<BlockQ4_1>(x, importance, elements, to), true;
    case BlockType::q5_0:
      return encode_all<BlockQ5_0>(x, importance, elements, to), true;
    case BlockType::q5_1:
      return encode_all<BlockQ5_1>(x, importance, elements, to), true;
    default:
      return false;
  }
}

bool all_within(const float* x, size_t n, float limit) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d), whole = n - n % lanes;
  bool within = true;
  for (size_t i = 0; i < whole; i += lanes)
    within = within && hn::AllTrue(d, hn::Le(hn::Abs(hn::LoadU(d, x + i)), hn::Set(d, limit)));
  for (size_t i = whole; i < n; ++i) within = within && std::abs(x[i]) <= limit;
  return within;
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
HWY_EXPORT(encode_row);
HWY_EXPORT(all_within);

namespace {

constexpr float kLargestHalf = 65504;

// Several rows of one importance, and at least this many elements, are one unit of work.
constexpr size_t kChunkElements = size_t{1} << 15;

bool is_float(BlockType type) {
  return type == BlockType::f32 || type == BlockType::bf16;
}

}  // namespace

bool can_encode(BlockType type) {
  return HWY_DYNAMIC_DISPATCH(encode_row)(type, nullptr, nullptr, 0, nullptr) ||
         encode_k_blocks(type, nullptr, nullptr, 0, nullptr);
}

void encode_blocks(BlockType type, View1<const float> x, std::span<std::byte> blocks,
                   View1<const float> importance) {
  const std::string doing = "encoding " + std::string(block_type_name(type));
  const size_t bytes = block_row_bytes(type, x.size);
  if (blocks.size() != bytes)
    throw Error({.kind = ErrorKind::usage,
                 .doing = doing,
                 .expected = std::to_string(bytes) + " bytes for the blocks",
                 .found = std::to_string(blocks.size())});
  if (!importance.empty() && importance.size != x.size)
    throw Error({.kind = ErrorKind::usage,
                 .doing = doing,
                 .expected = "an importance for each of " + std::to_string(x.size) + " columns",
                 .found = std::to_string(importance.size)});
  if (!HWY_DYNAMIC_DISPATCH(all_within)(x.data, x.size, is_float(type) ? FLT_MAX : kLargestHalf))
    throw Error({.kind = ErrorKind::data,
                 .doing = doing,
                 .expected = is_float(type) ? "finite weights"
                                            : "weights from -65504 to 65504 (the type's scales "
                                              "are half precision)",
                 .found = "one that is not",
                 .hint = "a diverged training run, or weights that need bf16?"});
  const float* weights = importance.empty() ? nullptr : importance.data;
  if (HWY_DYNAMIC_DISPATCH(encode_row)(type, x.data, weights, x.size, blocks.data())) return;
  if (encode_k_blocks(type, x.data, weights, x.size, blocks.data())) return;
  throw Error({.kind = ErrorKind::usage,
               .doing = doing,
               .expected = "f32, f16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, or q2_k to q6_k"});
}

void encode_rows(BlockType type, View2<const float> x, std::span<std::byte> blocks,
                 View1<const float> importance, ThreadTeam& team) {
  const size_t row_bytes = block_row_bytes(type, x.cols);
  if (x.empty()) return;
  if (blocks.size() / row_bytes != x.rows || blocks.size() % row_bytes != 0)
    throw Error(
        {.kind = ErrorKind::usage,
         .doing = "encoding " + std::string(block_type_name(type)),
         .expected = std::to_string(x.rows) + " rows of " + std::to_string(row_bytes) + " bytes",
         .found = std::to_string(blocks.size()) + " bytes"});
  const size_t grain = std::max<size_t>(1, kChunkElements / x.cols);
  team.run(chunk_count(x.rows, grain), [&](size_t chunk, int /*thread*/) {
    const size_t end = std::min(x.rows, (chunk + 1) * grain);
    for (size_t row = chunk * grain; row < end; ++row)
      encode_blocks(type, x[row], blocks.subspan(row * row_bytes, row_bytes), importance);
  });
}

}  // namespace cairn
#endif
