// Decoding: plain loops over the fields of a block, which the compiler turns into vectors of each
// target. This file is compiled without contraction (cairn/CMakeLists.txt), or a * b - c would
// become one rounding where the format's reference has two.
#include <cstring>

#include "cairn/base/error.h"
#include "cairn/kernels/blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/kernels/block_decode.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Element e of 32: the low nibble of byte e, or the high one of byte e - 16.
void decode(const BlockQ4_0& b, float* y) {
  const float d = load_half(b.d);
  for (int i = 0; i < 16; ++i) {
    y[i] = d * static_cast<float>((b.qs[i] & 15) - 8);
    y[i + 16] = d * static_cast<float>((b.qs[i] >> 4) - 8);
  }
}

void decode(const BlockQ4_1& b, float* y) {
  const float d = load_half(b.d), m = load_half(b.m);
  for (int i = 0; i < 16; ++i) {
    y[i] = d * static_cast<float>(b.qs[i] & 15) + m;
    y[i + 16] = d * static_cast<float>(b.qs[i] >> 4) + m;
  }
}

uint32_t high_bits(const uint8_t (&qh)[4]) {
  uint32_t bits = 0;
  std::memcpy(&bits, qh, sizeof bits);
  return bits;
}

// Bit e of qh is the fifth bit of element e.
void decode(const BlockQ5_0& b, float* y) {
  const float d = load_half(b.d);
  const uint32_t high = high_bits(b.qh);
  for (int i = 0; i < 16; ++i) {
    const int low = static_cast<int>(high >> i << 4 & 16), up = static_cast<int>(high >> i >> 12);
    y[i] = d * static_cast<float>(((b.qs[i] & 15) | low) - 16);
    y[i + 16] = d * static_cast<float>(((b.qs[i] >> 4) | (up & 16)) - 16);
  }
}

void decode(const BlockQ5_1& b, float* y) {
  const float d = load_half(b.d), m = load_half(b.m);
  const uint32_t high = high_bits(b.qh);
  for (int i = 0; i < 16; ++i) {
    const int low = static_cast<int>(high >> i << 4 & 16), up = static_cast<int>(high >> i >> 12);
    y[i] = d * static_cast<float>((b.qs[i] & 15) | low) + m;
    y[i + 16] = d * static_cast<float>((b.qs[i] >> 4) | (up & 16)) + m;
  }
}

void decode(const BlockQ8_0& b, float* y) {
  const float d = load_half(b.d);
  for (int i = 0; i < 32; ++i) y[i] = d * static_cast<float>(static_cast<int8_t>(b.qs[i]));
}

// Each byte of qs holds four elements that lie 32 apart in a half block; two sub-blocks a row
// of 32.
void decode(const BlockQ2K& b, float* y) {
  const float d = load_half(b.d), dmin = load_half(b.dmin);
  for (int sub = 0; sub < 16; ++sub) {
    const float scale = d * static_cast<float>(b.scales[sub] & 15);
    const float offset = dmin * static_cast<float>(b.scales[sub] >> 4);
    const uint8_t* q = b.qs + 32 * (sub / 8) + 16 * (sub % 2);
    const int shift = 2 * (sub % 8 / 2);
    for (int i = 0; i < 16; ++i)
      y[16 * sub + i] = scale * static_cast<float>(q[i] >> shift & 3) - offset;
  }
}

// The 6-bit scale of a sub-block: low four bits in nibbles, high two bits four to a byte.
int scale_q3k(const BlockQ3K& b, int sub) {
  const int low = sub < 8 ? b.scales[sub] & 15 : b.scales[sub - 8] >> 4;
  return (low | (b.scales[8 + sub % 4] >> 2 * (sub / 4) & 3) << 4) - 32;
}

void decode(const BlockQ3K& b, float* y) {
  const float d = load_half(b.d);
  for (int sub = 0; sub < 16; ++sub) {
    const float scale = d * static_cast<float>(scale_q3k(b, sub));
    const uint8_t* q = b.qs + 32 * (sub / 8) + 16 * (sub % 2);
    const uint8_t* high = b.hmask + 16 * (sub % 2);
    const int shift = 2 * (sub % 8 / 2), bit = sub / 2;
    for (int i = 0; i < 16; ++i)
      y[16 * sub + i] =
          scale * static_cast<float>((q[i] >> shift & 3) + (high[i] >> bit << 2 & 4) - 4);
  }
}

struct ScaleMin {
  float scale, min;
};

// The 6-bit scale and minimum of one of eight sub-blocks in 12 bytes.
ScaleMin scale_min_k4(const uint8_t (&s)[12], int sub) {
  if (sub < 4) return {static_cast<float>(s[sub] & 63), static_cast<float>(s[sub + 4] & 63)};
  return {static_cast<float>((s[sub + 4] & 15) | (s[sub - 4] >> 6 << 4)),
          static_cast<float>((s[sub + 4] >> 4) | (s[sub] >> 6 << 4))};
}

void decode(const BlockQ4K& b, float* y) {
  const float d = load_half(b.d), dmin = load_half(b.dmin);
  for (int sub = 0; sub < 8; ++sub) {
    const ScaleMin part = scale_min_k4(b.scales, sub);
    const float scale = d * part.scale, offset = dmin * part.min;
    const uint8_t* q = b.qs + 32 * (sub / 2);
    const int shift = 4 * (sub % 2);
    for (int i = 0; i < 32; ++i)
      y[32 * sub + i] = scale * static_cast<float>(q[i] >> shift & 15) - offset;
  }
}

void decode(const BlockQ5K& b, float* y) {
  const float d = load_half(b.d), dmin = load_half(b.dmin);
  for (int sub = 0; sub < 8; ++sub) {
    const ScaleMin part = scale_min_k4(b.scales, sub);
    const float scale = d * part.scale, offset = dmin * part.min;
    const uint8_t* q = b.qs + 32 * (sub / 2);
    const int shift = 4 * (sub % 2);
    for (int i = 0; i < 32; ++i)
      y[32 * sub + i] =
          scale * static_cast<float>((q[i] >> shift & 15) | (b.qh[i] >> sub << 4 & 16)) - offset;
  }
}

// A half block has 64 bytes of low nibbles, for its first and its second 64 elements, and 32 bytes
// of high bits, two for each of four elements that lie 32 apart.
void decode(const BlockQ6K& b, float* y) {
  const float d = load_half(b.d);
  for (int sub = 0; sub < 16; ++sub) {
    const float scale = d * static_cast<float>(static_cast<int8_t>(b.scales[sub]));
    const int half = sub / 8, group = sub % 8 / 2, at = 16 * (sub % 2);
    const uint8_t* low = b.ql + 64 * half + 32 * (group % 2) + at;
    const uint8_t* high = b.qh + 32 * half + at;
    const int shift = 4 * (group / 2);
    for (int i = 0; i < 16; ++i)
      y[16 * sub + i] =
          scale *
          static_cast<float>(((low[i] >> shift & 15) | (high[i] >> 2 * group & 3) << 4) - 32);
  }
}

void decode(const BlockIQ4NL& b, float* y) {
  const float d = load_half(b.d);
  for (int i = 0; i < 16; ++i) {
    y[i] = d * static_cast<float>(kIQ4Values[b.qs[i] & 15]);
    y[i + 16] = d * static_cast<float>(kIQ4Values[b.qs[i] >> 4]);
  }
}

void decode(const BlockMXFP4& b, float* y) {
  constexpr float kTwice[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
  // 2^(e - 128): half of the exponent's power, as the values above are doubled to be integers.
  const uint32_t bits = b.e < 2 ? 0x00200000U << b.e : (b.e - 1U) << 23;
  float d = 0;
  std::memcpy(&d, &bits, sizeof d);
  for (int i = 0; i < 16; ++i) {
    y[i] = d * kTwice[b.qs[i] & 15];
    y[i + 16] = d * kTwice[b.qs[i] >> 4];
  }
}

template <class Block>
void decode_all(const std::byte* from, size_t elements, size_t block_size, float* y) {
  const auto* blocks = reinterpret_cast<const Block*>(from);  // bytes alone: any address will do
  for (size_t i = 0; i < elements / block_size; ++i) decode(blocks[i], y + i * block_size);
}

// The processor's own conversion where it has one: exact, subnormals included.
void decode_f16(const std::byte* from, size_t elements, float* y) {
  const hn::ScalableTag<float> d;
  const hn::Rebind<hwy::float16_t, decltype(d)> half;
  const size_t whole = elements - elements % hn::Lanes(d);
  for (size_t i = 0; i < whole; i += hn::Lanes(d)) {
    const auto* at = reinterpret_cast<const hwy::float16_t*>(from + 2 * i);  // at any address
    hn::StoreU(hn::PromoteTo(d, hn::LoadU(half, at)), d, y + i);
  }
  for (size_t i = whole; i < elements; ++i) {
    f16 value;
    std::memcpy(&value.bits, from + 2 * i, 2);
    y[i] = value.to_float();
  }
}

void decode_bf16(const std::byte* from, size_t elements, float* y) {
  for (size_t i = 0; i < elements; ++i) {
    bf16 value;
    std::memcpy(&value.bits, from + 2 * i, 2);
    y[i] = value.to_float();
  }
}

// False for a type without a decoder.
bool decode_row(BlockType type, const std::byte* from, size_t elements, float* y) {
  switch (type) {
    case BlockType::f32:
      if (elements != 0) std::memcpy(y, from, elements * sizeof(float));
      return true;
    case BlockType::f16:
      return decode_f16(from, elements, y), true;
    case BlockType::bf16:
      return decode_bf16(from, elements, y), true;
    case BlockType::q4_0:
      return decode_all<BlockQ4_0>(from, elements, 32, y), true;
    case BlockType::q4_1:
      return decode_all<BlockQ4_1>(from, elements, 32, y), true;
    case BlockType::q5_0:
      return decode_all<BlockQ5_0>(from, elements, 32, y), true;
    case BlockType::q5_1:
      return decode_all<BlockQ5_1>(from, elements, 32, y), true;
    case BlockType::q8_0:
      return decode_all<BlockQ8_0>(from, elements, 32, y), true;
    case BlockType::q2_k:
      return decode_all<BlockQ2K>(from, elements, 256, y), true;
    case BlockType::q3_k:
      return decode_all<BlockQ3K>(from, elements, 256, y), true;
    case BlockType::q4_k:
      return decode_all<BlockQ4K>(from, elements, 256, y), true;
    case BlockType::q5_k:
      return decode_all<BlockQ5K>(from, elements, 256, y), true;
    case BlockType::q6_k:
      return decode_all<BlockQ6K>(from, elements, 256, y), true;
    case BlockType::iq4_nl:
      return decode_all<BlockIQ4NL>(from, elements, 32, y), true;
    case BlockType::mxfp4:
      return decode_all<BlockMXFP4>(from, elements, 32, y), true;
    default:
      return false;
  }
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
HWY_EXPORT(decode_row);

bool can_decode(BlockType type) {
  return HWY_DYNAMIC_DISPATCH(decode_row)(type, nullptr, 0, nullptr);
}

void decode_blocks(BlockType type, std::span<const std::byte> blocks, View1<float> y) {
  const size_t bytes = block_row_bytes(type, y.size);
  if (blocks.size() != bytes)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "decoding " + std::string(block_type_name(type)),
                 .expected = std::to_string(bytes) + " bytes of blocks",
                 .found = std::to_string(blocks.size())});
  if (!HWY_DYNAMIC_DISPATCH(decode_row)(type, blocks.data(), y.size, y.data))
    throw Error({.kind = ErrorKind::data,
                 .doing = "decoding weights",
                 .subject = "type " + std::string(block_type_name(type)),
                 .expected = "f32, f16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q2_k to q6_k, iq4_nl "
                             "or mxfp4"});
}

}  // namespace cairn
#endif
