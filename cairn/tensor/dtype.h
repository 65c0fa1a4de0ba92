// Element types, and bfloat16 as a value.
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
