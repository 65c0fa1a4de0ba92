#include "cairn/tensor/tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cairn/base/error.h"
#include "cairn/tensor/shape.h"

namespace cairn {
namespace {

using testing::HasSubstr;

template <class Action>
Error error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error";
  return Error({.doing = "nothing"});
}

TEST(Shape, CountsItsElements) {
  EXPECT_EQ(element_count({}), 1U) << "a scalar";
  EXPECT_EQ(element_count({7}), 7U);
  EXPECT_EQ(element_count({2, 3, 4}), 24U);
  EXPECT_EQ(element_count({2, 0, 4}), 0U);
  EXPECT_EQ(element_count({size_t{1} << 32, (size_t{1} << 32) - 1}), SIZE_MAX - (SIZE_MAX >> 32));
}

TEST(Shape, OverflowIsADataErrorThatShowsTheShape) {
  const Error error = error_of([] { element_count({size_t{1} << 32, size_t{1} << 32}); });
  EXPECT_EQ(error.kind(), ErrorKind::data);
  EXPECT_THAT(error.what(), HasSubstr("[4294967296, 4294967296]"));
}

TEST(Shape, HasATextForm) {
  EXPECT_EQ(to_string(Shape{}), "[]");
  EXPECT_EQ(to_string(Shape{512}), "[512]");
  EXPECT_EQ(to_string(Shape{512, 2048}), "[512, 2048]");
}

TEST(Shape, ChecksNameOperationArgumentAndBothShapes) {
  EXPECT_NO_THROW(check_shape("rms_norm", "weight", {512}, {512}));
  const Error error = error_of([] { check_shape("rms_norm", "weight", {512}, {512, 1}); });
  EXPECT_EQ(error.kind(), ErrorKind::usage);
  EXPECT_STREQ(error.what(), "rms_norm: weight\n  expected [512], found [512, 1]");
}

TEST(Tensor, StartsZeroedAlignedAndContiguous) {
  Tensor tensor(DType::f32, {3, 5});
  EXPECT_EQ(tensor.elements(), 15U);
  EXPECT_EQ(tensor.bytes(), 60U);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.data()) % kAlignment, 0U);
  for (const float value : tensor.span<float>()) EXPECT_EQ(value, 0.0F);
}

TEST(Tensor, IsAMatrixOfItsLastDimensionByTheOthers) {
  Tensor tensor(DType::f32, {2, 3, 4});
  const View2<float> matrix = tensor.matrix<float>();
  EXPECT_EQ(matrix.rows, 6U);
  EXPECT_EQ(matrix.cols, 4U);
  matrix[5][3] = 9;
  EXPECT_EQ(tensor.span<float>()[23], 9.0F);
  EXPECT_EQ(Tensor(DType::f32, {}).matrix<float>().rows, 1U);
  EXPECT_TRUE(Tensor(DType::f32, {4, 0}).matrix<float>().empty());
}

TEST(Tensor, ReadingAsAnotherTypeIsWrongUse) {
  Tensor tensor(DType::bf16, {4});
  EXPECT_NO_THROW(tensor.span<bf16>());
  const Error error = error_of([&] { tensor.span<float>(); });
  EXPECT_EQ(error.kind(), ErrorKind::usage);
  EXPECT_THAT(error.what(), HasSubstr("expected f32, found bf16"));
  const Tensor& constant = tensor;
  EXPECT_EQ(error_of([&] { constant.span<float>(); }).kind(), ErrorKind::usage);
  EXPECT_EQ(error_of([&] { tensor.matrix<double>(); }).kind(), ErrorKind::usage);
}

TEST(Tensor, CopiesAreDeepAndExplicit) {
  Tensor tensor(DType::i32, {2, 2});
  tensor.span<int32_t>()[3] = 42;
  Tensor copy = Tensor::copy_of(tensor.view());
  tensor.span<int32_t>()[3] = 0;
  EXPECT_EQ(copy.span<int32_t>()[3], 42);
  EXPECT_EQ(copy.shape(), (Shape{2, 2}));
  EXPECT_EQ(Tensor::copy_of(Tensor(DType::f32, {0}).view()).elements(), 0U);
  const Tensor moved = std::move(copy);
  EXPECT_EQ(moved.span<int32_t>()[3], 42);
}

// The element count fits 64 bits and the byte count does not: without the check the tensor would
// own nothing and claim 2^62 elements.
TEST(Tensor, AByteCountThatOverflowsIsADataError) {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    const Error error = error_of([&] { Tensor(dtype, {size_t{1} << 31, size_t{1} << 32}); });
    EXPECT_EQ(error.kind(), ErrorKind::data);
    EXPECT_THAT(error.what(), HasSubstr("[2147483648, 4294967296]"));
  }
  TensorView view;
  view.shape = {size_t{1} << 62};
  EXPECT_EQ(error_of([&] { static_cast<void>(view.bytes()); }).kind(), ErrorKind::data);
}

TEST(Tensor, MoreThanTheMemoryIsAnError) {
  EXPECT_EQ(error_of([] { Tensor(DType::f32, {size_t{1} << 56}); }).kind(), ErrorKind::failed);
}

}  // namespace
}  // namespace cairn
