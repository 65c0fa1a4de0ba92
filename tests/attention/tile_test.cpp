#include "cairn/attention/measure.h"
#include "cairn/attention/triangle.h"
#include "cairn/base/error.h"
#include "tests/attention/harness.h"

namespace cairn::attention_test {
namespace {

// Random tiles whose values bf16 holds exactly, so that both kernels should agree to f32 rounding.
struct Tiles {
  explicit Tiles(size_t dim) : a(kTile * padded_width(dim) * 4), b(a.size()) {
    const RandomStream stream(3, "tiles");
    for (size_t t = 0; t < kTile; ++t)
      for (size_t i = 0; i < dim; ++i) {
        const size_t at = t * padded_width(dim) + i;
        a.as<float>()[at] = bf16::from_float(float(stream.normal(at, 0))).to_float();
        b.as<float>()[at] = bf16::from_float(float(stream.normal(at, 1))).to_float();
      }
  }
  AlignedBuffer a, b;
};

std::vector<double> scores(const TileKernel& kernel, Tiles& tiles, size_t dim, bool diagonal) {
  AlignedBuffer rows(kernel.rows_words(dim) * 4), columns(kernel.columns_words(dim) * 4);
  AlignedBuffer result(kTile * kTile * 4);
  kernel.to_rows(tiles.a.as<float>().data(), dim, rows.data());
  kernel.to_columns(tiles.b.as<float>().data(), dim, columns.data());
  TileProduct p{};
  p.rows = p.columns = kTile;
  p.depth = kernel.depth(dim);
  p.a = rows.data();
  p.a_row = kernel.row_words(dim);
  p.a_depth = 1;
  p.b = columns.data();
  p.b_depth = kTile;
  p.c = result.as<float>().data();
  p.c_row = kTile;
  product_of_scores(kernel, p, diagonal);
  return {p.c, p.c + kTile * kTile};
}

TEST(TileKernel, PairsOfBf16AgreeWithTheirPortableTwin) {
  const TileKernel* paired = bf16_tile_kernel();
  if (paired == nullptr) GTEST_SKIP() << "no AVX512-BF16 here";
  for (const size_t dim : {1, 2, 33, 64, 80, 127, 256}) {
    Tiles tiles(dim);
    EXPECT_LT(relative_error(scores(*paired, tiles, dim, false),
                             scores(f32_tile_kernel(), tiles, dim, false)),
              1e-6)
        << dim;
  }
}

TEST(TileKernel, DiagonalProductsLeaveOnlyTheEmptyQuarterOut) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const TileKernel& kernel = tile_kernel_for(dtype);
    Tiles tiles(40);
    const auto whole = scores(kernel, tiles, 40, false), part = scores(kernel, tiles, 40, true);
    for (size_t key = 0; key < kTile; ++key)
      for (size_t query = 0; query < kTile; ++query) {
        const bool empty = key >= kTile / 2 && query < kTile / 2;
        ASSERT_EQ(part[key * kTile + query], empty ? 0 : whole[key * kTile + query]);
      }
  }
}

AttentionTiming timing_of(const Case& c, const AttentionWorkload& workload, ThreadTeam& team) {
  const AttentionMechanism* const mechanisms[] = {c.attention.get(), c.attention.get()};
  const auto timings = measure_attention(mechanisms, workload, team);
  EXPECT_EQ(timings.size(), 2U);
  return timings.front();
}

TEST(MeasureAttention, CountsWhatTheMaskLeaves) {
  ThreadTeam team(1);
  const Case c({.heads = 2, .kv_heads = 2});
  const auto timing = timing_of(c, {.sequences = 2, .tokens = 64, .repetitions = 1}, team);
  const double gflop = 1e-9 * 2 * 64 * c.attention->forward_flops(32.5);
  EXPECT_NEAR(timing.forward_gflops * timing.forward_seconds, gflop, 1e-6 * gflop);
  EXPECT_NEAR(timing.backward_gflops * timing.backward_seconds, 2.5 * gflop, 1e-6 * gflop);
  EXPECT_EQ(timing.saved_bytes, 128U * 2 * sizeof(float));
  EXPECT_GT(timing.workspace_bytes, 0U);
  EXPECT_FALSE(timing.statistics) << "softmax reads every key";
  EXPECT_THROW(timing_of(c, {.tokens = 8, .repetitions = 0}, team), Error);
  EXPECT_THROW(timing_of(c, {.tokens = 0, .repetitions = 1}, team), Error);
}

TEST(MeasureAttention, CountsEveryKeyWhereTheMaskLeavesAll) {
  ThreadTeam team(1);
  for (const char* mask : {"bidirectional", "cross"}) {
    const Case c({.options = {"relative_bias", {{"mask", std::string(mask)}}}});
    const auto timing = timing_of(c, {.sequences = 2, .tokens = 64, .repetitions = 1}, team);
    const double gflop = 1e-9 * 2 * 64 * c.attention->forward_flops(64);
    EXPECT_NEAR(timing.forward_gflops * timing.forward_seconds, gflop, 1e-6 * gflop) << mask;
    const AttentionWorkload decode{.phase = AttentionPhase::decode, .tokens = 8, .repetitions = 1};
    EXPECT_THROW(timing_of(c, decode, team), Error) << mask;
  }
}

TEST(MeasureAttention, DecodeCountsOneTokenAtItsDepthAndPrefillAllOfThem) {
  ThreadTeam team(1);
  const Case c({.heads = 2, .kv_heads = 2});
  const auto decode =
      timing_of(c, {.phase = AttentionPhase::decode, .tokens = 96, .repetitions = 2}, team);
  const double step = 1e-9 * c.attention->forward_flops(96);
  EXPECT_NEAR(decode.forward_gflops * decode.forward_seconds, step, 1e-6 * step);
  const auto prefill = timing_of(
      c, {.phase = AttentionPhase::prefill, .tokens = 96, .chunk = 40, .repetitions = 2}, team);
  const double prompt = 1e-9 * 96 * c.attention->forward_flops(48.5);
  EXPECT_NEAR(prefill.forward_gflops * prefill.forward_seconds, prompt, 1e-6 * prompt);
  // Keys and values of the capacity: what was in the cache and what the samples appended.
  const size_t capacity = 96 + kDecodeSteps * 3;
  EXPECT_GE(decode.cache_bytes, capacity * 2 * 32 * sizeof(float));
}

}  // namespace
}  // namespace cairn::attention_test
