// Encoders of K types: sub-blocks are searched side by side, their scales (and offsets) become
// small integers under one half each, and the levels are chosen anew for the scales as stored.
#include "cairn/kernels/block_encode.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/kernels/block_encode_k.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include "cairn/kernels/block_refine-inl.h"
#include "cairn/kernels/block_search-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

constexpr size_t kBlock = 256;

float mean_square(const float* x, size_t n) {
  float sum = 0;
  for (size_t i = 0; i < n; ++i) sum += x[i] * x[i];
  return sum / static_cast<float>(n);
}

// Weights of errors: the importance of a column times how large the element is beside its block.
template <size_t kRuns, size_t kCount>
void weigh_by_importance(const float* x, const float* importance, float mean,
                         Runs<kRuns, kCount>& w) {
  for (size_t r = 0; r < kRuns; ++r)
    for (size_t i = 0; i < kCount; ++i) {
      const float value = x[r * kCount + i];
      w.at[i * kRuns + r] = importance[r * kCount + i] * std::sqrt(mean + value * value);
    }
}

float nearest(float value, float low, float high) {
  return std::clamp(std::nearbyint(value), low, high);
}

float rounded_half(float value) {
  return f16::from_float(value).to_float();
}

template <size_t kRuns>
float largest_of(const float (&values)[kRuns]) {
  float largest = 0;
  for (const float value : values) largest = std::max(largest, value);
  return largest;
}

// Integers from 0 to `most`, so that the largest scale and the largest minimum are `most`.
template <size_t kRuns>
Integers<kRuns> share_scale_min(const Found<kRuns>& found, float most) {
  const float scale = largest_of(found.scale), min = largest_of(found.min);
  const float by_scale = scale > 0 ? most / scale : 0, by_min = min > 0 ? most / min : 0;
  Integers<kRuns> integers;
  integers.d = rounded_half(scale / most);
  integers.dmin = rounded_half(min / most);
  for (size_t r = 0; r < kRuns; ++r) {
    integers.scale[r] = nearest(by_scale * found.scale[r], 0, most);
    integers.min[r] = nearest(by_min * found.min[r], 0, most);
  }
  return integers;
}

// Levels for the integers as they are, or, by importance, for better ones.
template <size_t kRuns, size_t kCount>
void finish_levels(const Runs<kRuns, kCount>& x, const Runs<kRuns, kCount>& w, IntegerLimits limits,
                   bool by_importance, Integers<kRuns>& integers, Runs<kRuns, kCount>& levels) {
  if (by_importance) return refine(x, w, limits, integers, levels);
  Found<kRuns> stored;
  spread(integers, stored);
  choose_levels(x, stored, limits.low_level, limits.high_level, levels);
}

// Q2_K: four elements a byte, 32 apart.
void pack_two_bits(const uint8_t* levels, uint8_t (&qs)[64]) {
  for (int half = 0; half < 2; ++half)
    for (int i = 0; i < 32; ++i) {
      const uint8_t* l = levels + 128 * half + i;
      qs[32 * half + i] =
          static_cast<uint8_t>((l[0] & 3) | (l[32] & 3) << 2 | (l[64] & 3) << 4 | (l[96] & 3) << 6);
    }
}

void encode(const float* x, const float* importance, BlockQ2K& b) {
  Runs<16, 16> runs, weights, levels;
  Found<16> found;
  uint8_t q[kBlock];
  runs.load(x);
  if (importance != nullptr) {
    weigh_by_importance(x, importance, mean_square(x, kBlock), weights);
    search_offset<16, 16, 3, false>(runs, weights, {-0.9F, 0.05F, 36}, levels, found);
  } else {
    for (size_t i = 0; i < kBlock; ++i) weights.at[i] = std::abs(runs.at[i]);
    search_offset<16, 16, 3, true>(runs, weights, {-0.5F, 0.1F, 15}, levels, found);
  }
  Integers<16> integers = share_scale_min(found, 15);
  finish_levels(runs, weights, {0, 15, 15, 0, 3}, importance != nullptr, integers, levels);
  store_half(integers.d, b.d);
  store_half(integers.dmin, b.dmin);
  for (int r = 0; r < 16; ++r)
    b.scales[r] = static_cast<uint8_t>(static_cast<int>(integers.scale[r]) |
                                       static_cast<int>(integers.min[r]) << 4);
  levels.store(q);
  pack_two_bits(q, b.qs);
}

void encode(const float* x, const float* importance, BlockQ3K& b) {
  Runs<16, 16> runs, weights, levels;
  Found<16> found;
  uint8_t q[kBlock];
  runs.load(x);
  if (importance != nullptr) {
    weigh_by_importance(x, importance, 2 * mean_square(x, kBlock), weights);
    search_symmetric<16, 16, 4>(runs, weights, levels, found);
  } else {
    for (size_t i = 0; i < kBlock; ++i) weights.at[i] = runs.at[i] * runs.at[i];
    search_descent<16, 16, 4>(runs, weights, levels, found);
  }
  float largest = 0;  // in magnitude, with its sign
  for (const float scale : found.scale)
    if (std::abs(scale) > std::abs(largest)) largest = scale;
  const float factor = largest != 0 ? -32 / largest : 0;
  Integers<16> integers;
  integers.d = rounded_half(largest != 0 ? 1 / factor : 0);
  for (int r = 0; r < 16; ++r) {
    integers.scale[r] = largest != 0 ? nearest(factor * found.scale[r], -32, 31) : -32;
    integers.min[r] = 0;
  }
  finish_levels(runs, weights, {-32, 31, 0, -4, 3}, importance != nullptr, integers, levels);
  store_half(integers.d, b.d);
  std::memset(b.scales, 0, sizeof b.scales);
  for (int r = 0; r < 16; ++r) {
    const int bits = static_cast<int>(integers.scale[r]) + 32;
    b.scales[r % 8] = static_cast<uint8_t>(b.scales[r % 8] | (bits & 15) << 4 * (r / 8));
    b.scales[8 + r % 4] = static_cast<uint8_t>(b.scales[8 + r % 4] | bits >> 4 << 2 * (r / 4));
  }
  levels.store(q);
  std::memset(b.hmask, 0, sizeof b.hmask);
  for (size_t i = 0; i < kBlock; ++i)
    b.hmask[i % 32] = static_cast<uint8_t>(b.hmask[i % 32] | (q[i] >> 2) << i / 32);
  pack_two_bits(q, b.qs);
}

// The 6-bit scales and minima of eight sub-blocks in 12 bytes.
void pack_scale_min(int run, int scale, int min, uint8_t (&s)[12]) {
  if (run < 4) {
    s[run] = static_cast<uint8_t>(scale);
    s[run + 4] = static_cast<uint8_t>(min);
    return;
  }
  s[run + 4] = static_cast<uint8_t>((scale & 15) | (min & 15) << 4);
  s[run - 4] = static_cast<uint8_t>(s[run - 4] | scale >> 4 << 6);
  s[run] = static_cast<uint8_t>(s[run] | min >> 4 << 6);
}

// Of Q4_K and Q5_K: scales, minima and levels of 256 elements.
template <int kMost, class Block>
void encode_scale_min(const float* x, const float* importance, SearchSteps plain,
                      SearchSteps weighted, Block& b, uint8_t* q) {
  Runs<8, 32> runs, weights, levels;
  Found<8> found;
  runs.load(x);
  if (importance != nullptr) {
    weigh_by_importance(x, importance, 2 * mean_square(x, kBlock), weights);
  } else {
    for (size_t r = 0; r < 8; ++r) {
      const float typical = std::sqrt(mean_square(x + 32 * r, 32));
      for (size_t i = 0; i < 32; ++i)
        weights.at[i * 8 + r] = typical + std::abs(runs.at[i * 8 + r]);
    }
  }
  search_offset<8, 32, kMost, false>(runs, weights, importance != nullptr ? weighted : plain,
                                     levels, found);
  Integers<8> integers = share_scale_min(found, 63);
  finish_levels(runs, weights, {0, 63, 63, 0, kMost}, importance != nullptr, integers, levels);
  store_half(integers.d, b.d);
  store_half(integers.dmin, b.dmin);
  for (int r = 0; r < 8; ++r)
    pack_scale_min(r, static_cast<int>(integers.scale[r]), static_cast<int>(integers.min[r]),
                   b.scales);
  levels.store(q);
}

// Two elements a byte, 32 apart: low nibbles of the first 32, high ones of the next.
void pack_nibbles(const uint8_t* q, uint8_t (&qs)[128]) {
  for (int quarter = 0; quarter < 4; ++quarter)
    for (int i = 0; i < 32; ++i)
      qs[32 * quarter + i] =
          static_cast<uint8_t>((q[64 * quarter + i] & 15) | (q[64 * quarter + 32 + i] & 15) << 4);
}

void encode(const float* x, const float* importance, BlockQ4K& b) {
  uint8_t q[kBlock];
  encode_scale_min<15>(x, importance, {-1.0F, 0.1F, 20}, {-0.9F, 0.05F, 36}, b, q);
  pack_nibbles(q, b.qs);
}

void encode(const float* x, const float* importance, BlockQ5K& b) {
  uint8_t q[kBlock];
  encode_scale_min<31>(x, importance, {-0.5F, 0.1F, 15}, {-0.9F, 0.05F, 36}, b, q);
  pack_nibbles(q, b.qs);
  std::memset(b.qh, 0, sizeof b.qh);
  for (size_t i = 0; i < kBlock; ++i)
    b.qh[i % 32] = static_cast<uint8_t>(b.qh[i % 32] | (q[i] >> 4) << i / 32);
}

void encode(const float* x, const float* importance, BlockQ6K& b) {
  Runs<16, 16> runs, weights, levels;
  Found<16> found;
  uint8_t q[kBlock];
  runs.load(x);
  if (importance != nullptr) {
    weights.load(importance);
  } else {
    for (size_t i = 0; i < kBlock; ++i) weights.at[i] = runs.at[i] * runs.at[i];
  }
  search_symmetric<16, 16, 32>(runs, weights, levels, found);
  float largest = 0;  // in magnitude, with its sign
  for (const float scale : found.scale)
    if (std::abs(scale) > std::abs(largest)) largest = scale;
  if (std::abs(largest) < kAllZero) {
    std::memset(&b, 0, sizeof b);
    return;
  }
  const float factor = -128 / largest;
  Integers<16> integers;
  integers.d = rounded_half(1 / factor);
  for (int r = 0; r < 16; ++r) {
    integers.scale[r] = nearest(factor * found.scale[r], -128, 127);
    integers.min[r] = 0;
  }
  finish_levels(runs, weights, {-128, 127, 0, -32, 31}, importance != nullptr, integers, levels);
  store_half(integers.d, b.d);
  for (int r = 0; r < 16; ++r)
    b.scales[r] = static_cast<uint8_t>(static_cast<int>(integers.scale[r]));
  levels.store(q);
  for (int half = 0; half < 2; ++half)
    for (int i = 0; i < 32; ++i) {
      const uint8_t* l = q + 128 * half + i;
      b.ql[64 * half + i] = static_cast<uint8_t>((l[0] & 15) | (l[64] & 15) << 4);
      b.ql[64 * half + 32 + i] = static_cast<uint8_t>((l[32] & 15) | (l[96] & 15) << 4);
      b.qh[32 * half + i] =
          static_cast<uint8_t>(l[0] >> 4 | l[32] >> 4 << 2 | l[64] >> 4 << 4 | l[96] >> 4 << 6);
    }
}

template <class Block>
void encode_all(const float* x, const float* importance, size_t elements, std::byte* to) {
  for (size_t at = 0; at < elements; at += kBlock, to += sizeof(Block))
    encode(x + at, importance == nullptr ? nullptr : importance + at,
           *reinterpret_cast<Block*>(to));  // bytes alone: any address will do
}

bool encode_k_row(BlockType type, const float* x, const float* importance, size_t elements,
                  std::byte* to) {
  switch (type) {
    case BlockType::q2_k:
      return encode_all<BlockQ2K>(x, importance, elements, to), true;
    case BlockType::q3_k:
      return encode_all<BlockQ3K>(x, importance, elements, to), true;
    case BlockType::q4_k:
      return encode_all<BlockQ4K>(x, importance, elements, to), true;
    case BlockType::q5_k:
      return encode_all<BlockQ5K>(x, importance, elements, to), true;
    case BlockType::q6_k:
      return encode_all<BlockQ6K>(x, importance, elements, to), true;
    default:
      return false;
  }
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
HWY_EXPORT(encode_k_row);

bool encode_k_blocks(BlockType type, const float* x, const float* importance, size_t elements,
                     std::byte* to) {
  return HWY_DYNAMIC_DISPATCH(encode_k_row)(type, x, importance, elements, to);
}

}  // namespace cairn
#endif
