#include "cairn/tensor/block_type.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "cairn/base/error.h"

namespace cairn {
namespace {

TEST(BlockType, IsFoundByIdAndByNameInEitherCase) {
  EXPECT_EQ(find_block_type(12U)->name, "q4_k");
  EXPECT_EQ(find_block_type("Q4_K")->type, BlockType::q4_k);
  EXPECT_EQ(find_block_type("bf16")->type, BlockType::bf16);
  EXPECT_EQ(find_block_type("q4"), nullptr);
  EXPECT_EQ(find_block_type(""), nullptr);
  std::set<std::string_view> names;
  for (uint32_t id = 0; id < 100; ++id)
    if (const BlockTypeInfo* info = find_block_type(id)) {
      EXPECT_EQ(static_cast<uint32_t>(info->type), id);
      EXPECT_EQ(find_block_type(info->name), info);
      EXPECT_TRUE(names.insert(info->name).second);
    }
  EXPECT_EQ(names.size(), 35U);
}

TEST(BlockType, RetiredAndForeignIdsHaveNoLayoutButAName) {
  for (const uint32_t id : {4U, 5U, 31U, 32U, 33U, 36U, 37U, 38U}) {
    EXPECT_EQ(find_block_type(id), nullptr);
    EXPECT_NE(describe_unknown_block_type(id).find("retired"), std::string::npos);
  }
  EXPECT_NE(describe_unknown_block_type(31).find("Q4_0_4_4"), std::string::npos);
  EXPECT_NE(describe_unknown_block_type(137).find("ik_llama.cpp"), std::string::npos);
  EXPECT_EQ(describe_unknown_block_type(4000000000U), "type 4000000000");
}

TEST(BlockType, LaysOutRowsAndTensors) {
  EXPECT_EQ(block_row_bytes(BlockType::q4_1, 576), 360U);
  EXPECT_EQ(block_bytes(BlockType::q4_1, {1536, 576}), 552960U);
  EXPECT_EQ(block_bytes(BlockType::q6_k, {4, 512}), 4U * 2 * 210);
  EXPECT_EQ(block_bytes(BlockType::f32, {}), 4U);
  EXPECT_EQ(block_bytes(BlockType::bf16, {3, 5}), 30U);
  EXPECT_THROW(block_row_bytes(BlockType::q4_k, 576), Error);
  EXPECT_THROW(block_bytes(BlockType::f64, {size_t{1} << 62, 4}), Error);
}

TEST(BlockType, PlainTypesAreDTypesAndTheOthersAreNot) {
  EXPECT_EQ(block_type_of(DType::bf16), BlockType::bf16);
  EXPECT_EQ(block_type_of(DType::i32), BlockType::i32);
  EXPECT_FALSE(block_type_of(DType::u8));
  EXPECT_EQ(block_type_info(BlockType::f16).dtype, DType::f16);
  EXPECT_FALSE(block_type_info(BlockType::q8_0).dtype);
  EXPECT_TRUE(block_type_info(BlockType::q8_0).quantized);
  EXPECT_FALSE(block_type_info(BlockType::f16).quantized);
}

TEST(F16, EveryValueSurvivesTheWayThroughFloat) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const float wide = f16{static_cast<uint16_t>(bits)}.to_float();
    const uint16_t back = f16::from_float(wide).bits;
    if (std::isnan(wide)) {
      EXPECT_EQ(back, bits | 0x0200U) << "quiet, sign and payload kept";
    } else {
      EXPECT_EQ(back, bits);
      const double fraction = bits & 0x3ffU, exponent = bits >> 10 & 0x1fU;
      const double expected = exponent == 0    ? std::ldexp(fraction, -24)
                              : exponent == 31 ? INFINITY
                                               : std::ldexp(1024 + fraction, int(exponent) - 25);
      EXPECT_EQ(std::abs(double{wide}), expected) << bits;
    }
  }
}

// Between any two neighbours: the middle goes to the even one, its neighbours to the nearer one.
TEST(F16, RoundsToNearestEven) {
  for (uint16_t low = 0; low < 0x7bff; ++low) {
    const auto high = static_cast<uint16_t>(low + 1);
    const float middle = (f16{low}.to_float() + f16{high}.to_float()) / 2;  // exact in f32
    EXPECT_EQ(f16::from_float(middle).bits, low % 2 == 0 ? low : high) << low;
    EXPECT_EQ(f16::from_float(std::nextafter(middle, 0.0F)).bits, low) << low;
    EXPECT_EQ(f16::from_float(std::nextafter(middle, 1e9F)).bits, high) << low;
    EXPECT_EQ(f16::from_float(-middle).bits, 0x8000 | (low % 2 == 0 ? low : high)) << low;
  }
  EXPECT_EQ(f16::from_float(65519.996F).bits, 0x7bff);
  EXPECT_EQ(f16::from_float(65520.0F).bits, 0x7c00);
  EXPECT_EQ(f16::from_float(3e38F).bits, 0x7c00);
  EXPECT_EQ(f16::from_float(-INFINITY).bits, 0xfc00);
}

}  // namespace
}  // namespace cairn
