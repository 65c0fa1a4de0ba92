#include "cairn/tensor/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

namespace cairn {
namespace {

// Nearest bfloat16 by definition: of the two neighbours, the nearer one; of two equally near, the
// one with an even last bit. In double, where all differences are exact.
uint16_t nearest_by_definition(float value) {
  uint32_t word = 0;
  std::memcpy(&word, &value, sizeof word);
  const auto lower = static_cast<uint16_t>(word >> 16);  // towards zero
  if ((word & 0xffffU) == 0) return lower;
  const auto upper = static_cast<uint16_t>(lower + 1);  // away from zero
  const double x = std::abs(double{value});
  const double below = std::abs(double{bf16{lower}.to_float()});
  // The neighbour after the largest finite number counts as the next power of two.
  double above = std::abs(double{bf16{upper}.to_float()});
  if (std::isinf(above)) above = 0x1p128;
  if (x - below != above - x) return x - below < above - x ? lower : upper;
  return (lower & 1U) == 0 ? lower : upper;
}

TEST(Bf16, EveryValueSurvivesTheWayThroughFloat) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const bf16 value{static_cast<uint16_t>(bits)};
    const float wide = value.to_float();
    const uint16_t back = bf16::from_float(wide).bits;
    if (std::isnan(wide)) {
      EXPECT_EQ(back, bits | 0x0040U) << "quiet, sign and payload kept";
    } else {
      EXPECT_EQ(back, bits);
    }
  }
}

// All upper halves, with the lower halves where rounding turns.
TEST(Bf16, RoundsToNearestEvenByDefinition) {
  for (uint32_t upper = 0; upper <= 0xffff; ++upper) {
    for (const uint32_t lower :
         {0x0000U, 0x0001U, 0x1234U, 0x7fffU, 0x8000U, 0x8001U, 0xc000U, 0xffffU}) {
      const uint32_t word = upper << 16 | lower;
      float value = 0;
      std::memcpy(&value, &word, sizeof value);
      if (std::isnan(value)) {
        ASSERT_TRUE(std::isnan(bf16::from_float(value).to_float())) << std::hex << word;
      } else {
        ASSERT_EQ(bf16::from_float(value).bits, nearest_by_definition(value)) << std::hex << word;
      }
    }
  }
}

// Every lower half of a few upper halves: zero, a denormal, one, odd and even, the largest.
TEST(Bf16, RoundsEveryLowerHalf) {
  for (const uint32_t upper : {0x0000U, 0x0001U, 0x007fU, 0x3f80U, 0x3f81U, 0x7f7fU, 0xbf80U}) {
    for (uint32_t lower = 0; lower <= 0xffff; ++lower) {
      const uint32_t word = upper << 16 | lower;
      float value = 0;
      std::memcpy(&value, &word, sizeof value);
      ASSERT_EQ(bf16::from_float(value).bits, nearest_by_definition(value)) << std::hex << word;
    }
  }
}

TEST(Bf16, KnownValues) {
  EXPECT_EQ(bf16::from_float(1.0F).bits, 0x3f80);
  EXPECT_EQ(bf16::from_float(-2.0F).bits, 0xc000);
  EXPECT_EQ(bf16::from_float(0.1F).bits, 0x3dcd);
  EXPECT_EQ(bf16::from_float(-0.0F).bits, 0x8000);
  EXPECT_EQ(bf16::from_float(std::numeric_limits<float>::max()).bits, 0x7f80) << "infinity";
  EXPECT_EQ(bf16::from_float(std::numeric_limits<float>::infinity()).bits, 0x7f80);
  static_assert(bf16::from_float(1.5F).to_float() == 1.5F, "also at compile time");
}

TEST(DType, SizesAndNamesBelongTogether) {
  const std::vector<std::pair<DType, std::pair<size_t, std::string>>> table = {
      {DType::f32, {4, "f32"}},     {DType::bf16, {2, "bf16"}}, {DType::f16, {2, "f16"}},
      {DType::f64, {8, "f64"}},     {DType::i8, {1, "i8"}},     {DType::i16, {2, "i16"}},
      {DType::i32, {4, "i32"}},     {DType::i64, {8, "i64"}},   {DType::u8, {1, "u8"}},
      {DType::u16, {2, "u16"}},     {DType::u32, {4, "u32"}},   {DType::u64, {8, "u64"}},
      {DType::boolean, {1, "bool"}}};
  for (const auto& [dtype, expected] : table) {
    EXPECT_EQ(dtype_size(dtype), expected.first) << expected.second;
    EXPECT_EQ(dtype_name(dtype), expected.second);
  }
  EXPECT_EQ(dtype_of<float>, DType::f32);
  EXPECT_EQ(dtype_of<bf16>, DType::bf16);
  EXPECT_EQ(dtype_of<double>, DType::f64);
  EXPECT_EQ(dtype_of<int32_t>, DType::i32);
}

TEST(AsFloat, ReadsBothComputeTypes) {
  EXPECT_EQ(as_float(2.5F), 2.5F);
  EXPECT_EQ(as_float(bf16::from_float(2.5F)), 2.5F);
}

}  // namespace
}  // namespace cairn
