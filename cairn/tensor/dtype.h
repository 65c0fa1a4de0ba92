// Element types, and the two 16-bit floats as values.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace cairn {

enum class DType : uint8_t { f32, bf16, f16, f64, i8, i16, i32, i64, u8, u16, u32, u64, boolean };

size_t dtype_size(DType dtype);
// "f32", "bf16", ...; "bool".
std::string_view dtype_name(DType dtype);

// The upper half of an f32. Conversion rounds to nearest even and keeps NaN quiet, bit for bit what
// VCVTNEPS2BF16 does for normal numbers.
struct bf16 {
  uint16_t bits = 0;

  static constexpr bf16 from_float(float value) {
    const uint32_t word = std::bit_cast<uint32_t>(value);
    if ((word & 0x7fffffffU) > 0x7f800000U) return {static_cast<uint16_t>((word >> 16) | 0x0040U)};
    return {static_cast<uint16_t>((word + 0x7fffU + ((word >> 16) & 1U)) >> 16)};
  }
  constexpr float to_float() const { return std::bit_cast<float>(uint32_t{bits} << 16); }
};

// IEEE 754 half precision. Conversion rounds to nearest even, overflows to infinity from 65520 on
// and keeps NaN quiet with the upper bits of its payload: bit for bit what VCVTPS2PH does.
struct f16 {
  uint16_t bits = 0;

  static constexpr f16 from_float(float value) {
    const uint32_t word = std::bit_cast<uint32_t>(value), magnitude = word & 0x7fffffffU;
    const uint32_t sign = word >> 16 & 0x8000U;
    if (magnitude > 0x7f800000U)
      return {static_cast<uint16_t>(sign | 0x7e00U | (magnitude >> 13 & 0x3ffU))};
    if (magnitude >= 0x477ff000U) return {static_cast<uint16_t>(sign | 0x7c00U)};
    if (magnitude < 0x38800000U) {
      // Below 2^-14 halves are multiples of 2^-24, as are floats from 0.5 on: adding rounds.
      const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
      return {static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000U))};
    }
    const uint32_t rounded = magnitude + 0xfffU + (magnitude >> 13 & 1U);
    return {static_cast<uint16_t>(sign | (rounded - 0x38000000U) >> 13)};
  }

  constexpr float to_float() const {  // exact
    const uint32_t sign = uint32_t{bits & 0x8000U} << 16;
    const uint32_t exponent = bits >> 10 & 0x1fU, fraction = bits & 0x3ffU;
    if (exponent == 0) {  // zero and subnormals: fraction * 2^-24
      const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
      return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
    }
    const uint32_t wide = exponent == 31 ? 255 : exponent + 112;
    return std::bit_cast<float>(sign | wide << 23 | fraction << 13);
  }
};

template <class T>
inline constexpr DType dtype_of = [] {
  static_assert(sizeof(T) == 0, "no DType for this type");
  return DType::f32;
}();
template <>
inline constexpr DType dtype_of<float> = DType::f32;
template <>
inline constexpr DType dtype_of<bf16> = DType::bf16;
template <>
inline constexpr DType dtype_of<double> = DType::f64;
template <>
inline constexpr DType dtype_of<int32_t> = DType::i32;

// One float from either compute type; for code that is not in a hurry.
constexpr float as_float(float value) {
  return value;
}
constexpr float as_float(bf16 value) {
  return value.to_float();
}

}  // namespace cairn
