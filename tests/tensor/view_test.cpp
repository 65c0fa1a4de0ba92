#include "cairn/tensor/view.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace cairn {
namespace {

std::vector<float> counted(size_t n) {
  std::vector<float> values(n);
  std::iota(values.begin(), values.end(), 0.0F);
  return values;
}

TEST(View1, SlicesAndIterates) {
  std::vector<float> values = counted(10);
  const View1<float> view(values.data(), 10);
  const View1<float> slice = view.slice(3, 4);
  EXPECT_EQ(slice.size, 4U);
  EXPECT_EQ(std::accumulate(slice.begin(), slice.end(), 0.0F), 3 + 4 + 5 + 6);
  slice[0] = 100;
  EXPECT_EQ(values[3], 100.0F);
  EXPECT_TRUE(View1<float>().empty());
  const View1<const float> constant = view;
  EXPECT_EQ(constant[9], 9.0F);
}

TEST(View2, WalksRowsByTheStride) {
  std::vector<float> values = counted(40);
  const View2<float> view(values.data(), 4, 3, 10);
  EXPECT_FALSE(view.contiguous());
  EXPECT_EQ(view[2][1], 21.0F);
  EXPECT_EQ(view.rows_slice(1, 2)[1][2], 22.0F);
  EXPECT_EQ(view.rows_slice(1, 2).rows, 2U);
  const View2<float> columns = view.cols_slice(1, 2);
  EXPECT_EQ(columns[3][0], 31.0F);
  EXPECT_EQ(columns.cols, 2U);
  EXPECT_EQ(columns.stride, 10U);
  const View2<const float> constant = columns;
  EXPECT_EQ(constant[3][1], 32.0F);
  EXPECT_TRUE(View2<float>(values.data(), 4, 10).contiguous());
  EXPECT_TRUE(View2<float>(values.data(), 0, 10).empty());
}

TEST(View3, WalksTokensAndHeadsByTheirStrides) {
  std::vector<float> values = counted(2 * 3 * 4);
  const View3<float> view(values.data(), 2, 3, 4);
  EXPECT_EQ(*view.at(1, 2), 20.0F);
  EXPECT_EQ(view.head(1)[1][3], 19.0F) << "token 1 of head 1";
  EXPECT_EQ(view.head(1).stride, 12U);
  EXPECT_EQ(*view.tokens_slice(1, 1).at(0, 0), 12.0F);
  // Heads before tokens, as a cache may store them.
  const View3<const float> turned(values.data(), 3, 2, 4, 4, 12);
  EXPECT_EQ(*turned.at(2, 1), 20.0F);
}

TEST(SplitHeads, SeesColumnsAsHeads) {
  std::vector<float> values = counted(2 * 16);
  // Six of sixteen columns, beginning at the fourth: two heads of three.
  const View2<float> columns = View2<float>(values.data(), 2, 16).cols_slice(4, 6);
  const View3<float> heads = split_heads(columns, 2);
  EXPECT_EQ(heads.dim, 3U);
  EXPECT_EQ(*heads.at(1, 1), 16.0F + 4 + 3);
  EXPECT_EQ(heads.token_stride, 16U);
}

TEST(AnyView, KeepsTypeShapeAndStrides) {
  std::vector<bf16> values(24);
  const View3<bf16> view(values.data(), 2, 3, 4);
  const AnyView3 any = view;
  EXPECT_EQ(any.dtype, DType::bf16);
  EXPECT_EQ(any.as<bf16>().at(1, 2), view.at(1, 2));
  const View3<const bf16> constant = view;
  EXPECT_EQ(AnyView3(constant).dtype, DType::bf16);
  std::vector<float> floats(20);
  const AnyView2 matrix = View2<float>(floats.data(), 4, 3, 5);
  EXPECT_EQ(matrix.dtype, DType::f32);
  EXPECT_EQ(&matrix.as<float>()[3][2], &floats[17]);
  EXPECT_EQ(AnyView2(floats.data(), DType::f32, 4, 3, 5).as<float>().stride, 5U);
}

}  // namespace
}  // namespace cairn
