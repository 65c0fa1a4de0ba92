#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "cairn/base/error.h"
#include "cairn/base/file.h"
#include "cairn/kernels/blocks.h"
#include "tests/support/golden.h"
#include "tests/support/numbers.h"
#include "tests/support/targets.h"

namespace cairn {
namespace {

using Bytes = std::vector<std::byte>;

// tests/golden/blocks/encode.bin: rows, and what the ggml library makes of them.
struct Golden {
  struct Encoded {
    BlockType type = BlockType::f32;
    Bytes plain, weighted;
  };
  size_t rows = 0, cols = 0;
  std::vector<float> x, importance;
  std::vector<Encoded> types;

  View2<const float> matrix() const { return {x.data(), rows, cols}; }
  View1<const float> weights() const { return {importance.data(), cols}; }
};

Golden read_golden() {
  const std::string content = read_file(golden_folder() / "blocks" / "encode.bin");
  size_t at = 0;
  const auto take = [&](void* to, size_t bytes) {
    ASSERT_LE(at + bytes, content.size());
    std::memcpy(to, content.data() + at, bytes);
    at += bytes;
  };
  uint32_t sizes[2];
  take(sizes, sizeof sizes);
  Golden golden;
  golden.rows = sizes[0];
  golden.cols = sizes[1];
  golden.x.resize(golden.rows * golden.cols);
  golden.importance.resize(golden.cols);
  take(golden.x.data(), 4 * golden.x.size());
  take(golden.importance.data(), 4 * golden.cols);
  while (at < content.size()) {
    uint32_t id = 0;
    take(&id, 4);
    Golden::Encoded encoded{static_cast<BlockType>(id), {}, {}};
    const size_t bytes = golden.rows * block_row_bytes(encoded.type, golden.cols);
    encoded.plain.resize(bytes);
    encoded.weighted.resize(bytes);
    take(encoded.plain.data(), bytes);
    take(encoded.weighted.data(), bytes);
    golden.types.push_back(std::move(encoded));
  }
  return golden;
}

Bytes encode(BlockType type, View2<const float> x, View1<const float> importance = {},
             int threads = 1) {
  ThreadTeam team(threads, true);
  Bytes blocks(x.rows * block_row_bytes(type, x.cols));
  encode_rows(type, x, blocks, importance, team);
  return blocks;
}

std::vector<float> decode(BlockType type, const Bytes& blocks, size_t elements) {
  std::vector<float> y(elements);
  decode_blocks(type, blocks, {y.data(), y.size()});
  return y;
}

// Sum of squared errors, each weighted by the importance of its column.
double error_of(const Golden& golden, BlockType type, const Bytes& blocks, bool weighted) {
  const std::vector<float> y = decode(type, blocks, golden.x.size());
  double sum = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    const double off = static_cast<double>(y[i]) - static_cast<double>(golden.x[i]);
    sum += off * off * (weighted ? static_cast<double>(golden.importance[i % golden.cols]) : 1.0);
  }
  return sum;
}

TEST(BlockEncode, GivesTheReferencesBytesOnEveryTarget) {
  const Golden golden = read_golden();
  ASSERT_EQ(golden.types.size(), 10U);
  for_each_target([&](auto target) {
    for (const Golden::Encoded& expected : golden.types) {
      const Bytes found = encode(expected.type, golden.matrix());
      size_t different = 0;
      for (size_t i = 0; i < found.size(); ++i) different += found[i] != expected.plain[i];
      EXPECT_EQ(different, 0U) << target << ", " << block_type_name(expected.type) << " of "
                               << found.size() << " bytes";
    }
  });
}

TEST(BlockEncode, ByImportanceTheWeightedErrorIsAtMostTheReferences) {
  const Golden golden = read_golden();
  for (const Golden::Encoded& reference : golden.types) {
    const Bytes found = encode(reference.type, golden.matrix(), golden.weights());
    EXPECT_LE(error_of(golden, reference.type, found, true),
              error_of(golden, reference.type, reference.weighted, true) * 1.0001)
        << block_type_name(reference.type);
  }
}

TEST(BlockEncode, ImportanceLowersTheWeightedError) {
  const Golden golden = read_golden();
  for (const Golden::Encoded& reference : golden.types) {
    if (reference.type == BlockType::q8_0) continue;  // it does not look at importance
    const Bytes found = encode(reference.type, golden.matrix(), golden.weights());
    EXPECT_LT(error_of(golden, reference.type, found, true),
              error_of(golden, reference.type, reference.plain, true))
        << block_type_name(reference.type);
  }
}

TEST(BlockEncode, GivesTheSameBytesForAnyNumberOfThreads) {
  const std::vector<float> x = random_floats(150 * 512, "threads");
  const View2<const float> matrix(x.data(), 150, 512);
  for (const BlockType type : {BlockType::q4_0, BlockType::q4_k, BlockType::bf16})
    EXPECT_EQ(encode(type, matrix), encode(type, matrix, {}, 3)) << block_type_name(type);
}

TEST(BlockEncode, RowsMayHaveAnOddNumberOfBlocksAndBeStrided) {
  const std::vector<float> x = random_floats(3 * 480, "odd");
  std::vector<float> importance(352, 1.0F);
  const View2<const float> matrix(x.data(), 3, 352, 480);
  for (const BlockType type :
       {BlockType::q4_0, BlockType::q4_1, BlockType::q5_0, BlockType::q5_1, BlockType::q8_0}) {
    const Bytes all = encode(type, matrix, {importance.data(), 352});
    Bytes row(block_row_bytes(type, 352));
    encode_blocks(type, matrix[2], row, {importance.data(), 352});
    EXPECT_TRUE(std::equal(row.begin(), row.end(), all.end() - static_cast<long>(row.size())))
        << block_type_name(type);
  }
}

TEST(BlockEncode, PlainTypesComeBackRoundedToNearest) {
  const std::vector<float> x = random_floats(77, "plain");
  const View2<const float> row(x.data(), 1, 77);
  EXPECT_EQ(decode(BlockType::f32, encode(BlockType::f32, row), 77), x);
  const std::vector<float> half = decode(BlockType::f16, encode(BlockType::f16, row), 77);
  const std::vector<float> brain = decode(BlockType::bf16, encode(BlockType::bf16, row), 77);
  for (size_t i = 0; i < 77; ++i) {
    EXPECT_EQ(half[i], f16::from_float(x[i]).to_float());
    EXPECT_EQ(brain[i], bf16::from_float(x[i]).to_float());
  }
}

// What decodes exactly is found again: encoding is idempotent where scales are powers of two.
TEST(BlockEncode, ErrorsStayWithinTheStep) {
  const std::vector<float> x = random_floats(4096, "step");
  const View2<const float> row(x.data(), 1, 4096);
  const std::vector<float> y = decode(BlockType::q8_0, encode(BlockType::q8_0, row), 4096);
  for (size_t begin = 0; begin < 4096; begin += 32) {
    float most = 0;
    for (size_t i = begin; i < begin + 32; ++i) most = std::max(most, std::abs(x[i]));
    const float step = most / 127;
    // Half a step, and the half precision's rounding of the scale.
    for (size_t i = begin; i < begin + 32; ++i)
      EXPECT_LE(std::abs(y[i] - x[i]), step / 2 + most * 0x1p-11F);
  }
}

TEST(BlockEncode, RefusesWhatItCannotHold) {
  std::vector<float> x(256, 1.0F);
  Bytes blocks(block_row_bytes(BlockType::q4_k, 256));
  const auto kind_of = [&](BlockType type, size_t bytes, View1<const float> importance = {}) {
    blocks.resize(bytes);
    try {
      encode_blocks(type, {x.data(), 256}, blocks, importance);
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::failed;
  };
  EXPECT_EQ(kind_of(BlockType::q4_k, 143), ErrorKind::usage);
  EXPECT_EQ(kind_of(BlockType::q4_k, 144, {x.data(), 255}), ErrorKind::usage);
  EXPECT_EQ(kind_of(BlockType::iq2_xs, 74), ErrorKind::usage);
  EXPECT_FALSE(can_encode(BlockType::iq4_nl));
  EXPECT_TRUE(can_encode(BlockType::q6_k));
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity(), 65536.0F, -1e30F}) {
    x[200] = bad;
    EXPECT_EQ(kind_of(BlockType::q4_k, 144), ErrorKind::data) << bad;
    EXPECT_EQ(kind_of(BlockType::f16, 512), ErrorKind::data) << bad;
    EXPECT_EQ(kind_of(BlockType::bf16, 512) == ErrorKind::data, !std::isfinite(bad)) << bad;
  }
}

}  // namespace
}  // namespace cairn
