#include "tests/attention/path_harness.h"

#include "cairn/base/error.h"

namespace cairn::attention_test {
namespace {

using testing::HasSubstr;

constexpr double kF32Error = 1e-5;

TEST(PathReference, GradientsAreTheCentralDifferencesOfForward) {
  for (const size_t products : {1, 2}) {
    const PathCase c({.heads = 4,
                      .kv_heads = 2,
                      .dim = 4,
                      .value_dim = 3,
                      .products = products,
                      .lengths = {5, 3},
                      .gate = true,
                      .gate_scale = 0.5F});
    const auto dout = c.dout.values();
    PathReference in = c.reference();
    const PathReference grad = path_reference_backward(in, dout);
    const auto loss = [&] {
      const auto out = path_reference_forward(in);
      return std::inner_product(out.begin(), out.end(), dout.begin(), 0.0);
    };
    const auto differences = [&](std::vector<double>& values) {
      return central_differences(values, loss);
    };
    EXPECT_LT(relative_error(grad.q, differences(in.q)), 1e-8);
    EXPECT_LT(relative_error(grad.k, differences(in.k)), 1e-8);
    EXPECT_LT(relative_error(grad.v, differences(in.v)), 1e-8);
    EXPECT_LT(relative_error(grad.w, differences(in.w)), 1e-8);
    EXPECT_LT(relative_error(grad.beta, differences(in.beta)), 1e-8);
    EXPECT_LT(relative_error(grad.log_gate, differences(in.log_gate)), 1e-8);
  }
}

TEST(PathCore, MatchesFloat64AtOddLengths) {
  for (const int length : {1, 2, 3, 15, 17, 62, 63, 64, 65, 130, 321}) {
    const PathErrors e = path_errors_of({.lengths = {length}, .gate = true});
    EXPECT_LT(e.worst(), kF32Error) << length << ": " << e;
  }
}

TEST(PathCore, MatchesFloat64AtEveryHeadSize) {
  for (const size_t dim : {1, 2, 16, 33, 64, 80, 128, 256}) {
    const PathErrors e = path_errors_of(
        {.dim = dim, .value_dim = dim == 33 ? 40 : dim, .lengths = {150}, .block_tiles = 1});
    EXPECT_LT(e.worst(), kF32Error) << dim << ": " << e;
  }
}

TEST(PathCore, MatchesFloat64WithGroupsStridesAndOtherValueSizes) {
  for (const size_t kv_heads : {1, 2, 8}) {
    PathProblem p{.heads = 8,
                  .kv_heads = kv_heads,
                  .dim = 24,
                  .value_dim = 40,
                  .lengths = {200},
                  .gate = true,
                  .gate_scale = 0.2F,
                  .gap = 5};
    PathErrors e = path_errors_of(p, 2);
    EXPECT_LT(e.worst(), kF32Error) << kv_heads << ": " << e;
    std::swap(p.dim, p.value_dim);
    p.scale = 0.3F;
    e = path_errors_of(p, 2);
    EXPECT_LT(e.worst(), kF32Error) << kv_heads << ": " << e;
  }
}

TEST(PathCore, MatchesFloat64WithSeveralMapsPerToken) {
  for (const size_t products : {2, 3, 4}) {
    const PathErrors e = path_errors_of({.heads = 4,
                                         .kv_heads = 2,
                                         .dim = 20,
                                         .products = products,
                                         .lengths = {5, 170},
                                         .gate = true,
                                         .block_tiles = 1});
    EXPECT_LT(e.worst(), kF32Error) << products << ": " << e;
  }
}

TEST(PathCore, MatchesFloat64ForEverySizeOfSuperBlocks) {
  for (const size_t block_tiles : {1, 2, 3, 5, 8}) {
    const PathErrors e = path_errors_of(
        {.heads = 2, .kv_heads = 1, .lengths = {470}, .gate = true, .block_tiles = block_tiles}, 2);
    EXPECT_LT(e.worst(), kF32Error) << block_tiles << ": " << e;
  }
}

TEST(PathCore, MatchesFloat64WithManySequences) {
  for (const std::vector<int>& lengths : {std::vector<int>{1, 1, 1, 1},
                                          {30, 1, 90, 64, 200, 3},
                                          {128, 64},
                                          {600, 10, 5, 300},
                                          std::vector<int>(200, 3)}) {
    const PathErrors e =
        path_errors_of({.heads = 1, .dim = 8, .value_dim = 8, .lengths = lengths, .gate = true}, 2);
    EXPECT_LT(e.worst(), kF32Error) << testing::PrintToString(lengths) << ": " << e;
  }
}

// The longest shapes of the published tests: one sequence of 2000 tokens, and 2048 packed.
TEST(PathCore, MatchesFloat64AtThousandsOfTokens) {
  for (const std::vector<int>& lengths : {std::vector<int>{2000}, {15, 318, 1715}}) {
    const PathErrors e = path_errors_of(
        {.heads = 1, .dim = 16, .value_dim = 8, .lengths = lengths, .gate = true}, 2);
    EXPECT_LT(e.out, 2e-5) << testing::PrintToString(lengths) << ": " << e;
    EXPECT_LT(e.worst(), 1e-4) << testing::PrintToString(lengths) << ": " << e;
  }
}

TEST(PathCore, MatchesFloat64WhereMapsReflect) {
  const PathErrors e = path_errors_of({.dim = 32, .lengths = {400}, .low = 1.5, .high = 2});
  EXPECT_LT(e.out, 2e-5) << e;
  EXPECT_LT(e.worst(), 1e-4) << e;
}

// Tolerances of the published tests, relative root mean squares.
TEST(PathCore, MatchesFloat64FromBf16) {
  for (const int length : {1, 65, 333}) {
    for (const size_t dim : {15, 64, 128}) {
      const PathErrors e = path_errors_of({.heads = 2,
                                           .kv_heads = 1,
                                           .dim = dim,
                                           .value_dim = 24,
                                           .lengths = {length, 15},
                                           .gate = true,
                                           .dtype = DType::bf16});
      EXPECT_LT(e.out, 0.005) << e;
      EXPECT_LT(std::max({e.dq, e.dk, e.dv}), 0.008) << e;
      EXPECT_LT(e.dw, 0.015) << e;
      EXPECT_LT(std::max(e.dbeta, e.dlog_gate), 0.02) << e;
    }
  }
}

TEST(PathCore, GivesTheSameBitsWith1And3Threads) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const PathProblem p{.heads = 4,
                        .kv_heads = 2,
                        .dim = 32,
                        .value_dim = 32,
                        .lengths = {900, 100, 300},
                        .gate = true,
                        .dtype = dtype};
    PathCase one(p), three(p);
    ThreadTeam single(1), several(3, true);
    one.forward(single);
    one.backward(single);
    three.forward(several);
    three.backward(several);
    EXPECT_EQ(one.log2_sum, three.log2_sum);
    EXPECT_EQ(one.out.bytes(), three.out.bytes());
    EXPECT_EQ(one.dq.bytes(), three.dq.bytes());
    EXPECT_EQ(one.dk.bytes(), three.dk.bytes());
    EXPECT_EQ(one.dv.bytes(), three.dv.bytes());
    EXPECT_EQ(one.dw.bytes(), three.dw.bytes());
    EXPECT_EQ(one.dbeta.bytes(), three.dbeta.bytes());
    EXPECT_EQ(one.dlog_gate.bytes(), three.dlog_gate.bytes());
  }
}

}  // namespace
}  // namespace cairn::attention_test
