#include <hwy/targets.h>
#include <unistd.h>

#include <cstdlib>
#include <limits>

#include "cairn/attention/softmax/steps.h"
#include "cairn/attention/tile.h"
#include "cairn/base/cpu.h"
#include "cairn/base/error.h"
#include "cairn/kernels/dispatch.h"
#include "tests/attention/feeding.h"

namespace cairn::attention_test {
namespace {

using testing::HasSubstr;

constexpr double kF32Error = 1e-5;
// bf16 keeps 8 bits: rotated inputs, weights, outputs and score gradients are each rounded by up to
// 2^-9 of themselves, and score gradients are differences.
constexpr double kBf16Error = 2e-2;

AttentionOptions no_position() {
  return {"softmax", {{"position", std::string("none")}}};
}

TEST(SoftmaxReference, GradientsAreTheCentralDifferencesOfForward) {
  EXPECT_LT(reference_gradient_error(
                {.heads = 4, .kv_heads = 2, .head_dim = 6, .value_dim = 5, .lengths = {5, 3}}),
            1e-6);
}

TEST(SoftmaxReference, RotatesPairsHalfAHeadApart) {
  // Two keys; the query at position 1 turned by 1 rad against a key at position 0.
  Case c({.heads = 1, .kv_heads = 1, .head_dim = 2, .value_dim = 1, .scale = 1, .lengths = {2}});
  const AttentionMechanism::Reference in{{}, {1, 0, 1, 0}, {1, 0, 1, 0}, {1, 0}, {}};
  const auto out = c.attention->reference_forward(in, c.layout());
  EXPECT_DOUBLE_EQ(out[0], 1);
  EXPECT_NEAR(out[1], std::exp(std::cos(1.0)) / (std::exp(std::cos(1.0)) + std::exp(1.0)), 1e-12);
}

TEST(Softmax, MatchesFloat64AtEveryHeadSize) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const size_t dim : {1, 2, 33, 64, 80, 128, 256}) {
      Problem p{.head_dim = dim, .value_dim = dim, .lengths = {77}, .dtype = dtype};
      if (dim % 2 != 0) p.options = no_position();
      EXPECT_LT(errors_of(p).worst(), dtype == DType::f32 ? kF32Error : kBf16Error)
          << dtype_name(dtype) << " head_dim " << dim;
    }
  }
}

TEST(Softmax, MatchesFloat64AtOddLengths) {
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const int length : {1, 2, 3, 15, 16, 17, 63, 64, 65, 127, 130, 321})
      EXPECT_LT(errors_of({.lengths = {length}, .dtype = dtype}).worst(),
                dtype == DType::f32 ? kF32Error : kBf16Error)
          << dtype_name(dtype) << " length " << length;
}

TEST(Softmax, MatchesFloat64WithGroupsStridesAndOtherValueSizes) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const double bound = dtype == DType::f32 ? kF32Error : kBf16Error;
    for (const size_t kv_heads : {1, 2, 3, 6}) {
      Problem p{.heads = 6,
                .kv_heads = kv_heads,
                .head_dim = 24,
                .value_dim = 40,
                .lengths = {70},
                .dtype = dtype,
                .gap = 5};
      EXPECT_LT(errors_of(p).worst(), bound) << dtype_name(dtype) << " kv heads " << kv_heads;
      std::swap(p.head_dim, p.value_dim);
      EXPECT_LT(errors_of(p).worst(), bound) << dtype_name(dtype) << " kv heads " << kv_heads;
    }
    EXPECT_LT(errors_of({.scale = 0.3F, .lengths = {50}, .dtype = dtype}).worst(), bound);
  }
}

TEST(Softmax, MatchesFloat64WithManySequences) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const double bound = dtype == DType::f32 ? kF32Error : kBf16Error;
    for (const std::vector<int>& lengths : {std::vector<int>{1, 1, 1, 1},
                                            {30, 1, 90, 64, 200, 3},
                                            {128, 64},
                                            {600, 10, 5, 700},
                                            std::vector<int>(200, 3)})
      EXPECT_LT(errors_of({.lengths = lengths, .dtype = dtype}, 2).worst(), bound)
          << dtype_name(dtype) << " " << testing::PrintToString(lengths);
  }
}

TEST(Softmax, MatchesFloat64AcrossSeveralBlocksOfKeys) {
  EXPECT_LT(errors_of({.heads = 1, .kv_heads = 1, .lengths = {1500}}, 2).worst(), kF32Error);
  EXPECT_LT(errors_of({.heads = 1, .lengths = {1111}, .dtype = DType::bf16}, 2).worst(),
            kBf16Error);
}

TEST(Softmax, LeavesInputsAndGapsAlone) {
  ThreadTeam team(1);
  Case c({.lengths = {40}, .gap = 7});
  const auto q = c.q.bytes(), k = c.k.bytes(), v = c.v.bytes();
  c.forward(team);
  c.backward(team);
  EXPECT_EQ(q, c.q.bytes());
  EXPECT_EQ(k, c.k.bytes());
  EXPECT_EQ(v, c.v.bytes());
  const auto* out = static_cast<const float*>(c.out.view().data);
  for (size_t i = 32; i < 39; ++i) EXPECT_EQ(out[i], 0) << "between rows";
}

TEST(Softmax, GivesTheSameBitsWith1And3Threads) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Problem p{.heads = 4,
                    .kv_heads = 2,
                    .head_dim = 32,
                    .value_dim = 32,
                    .lengths = {900, 100, 300},
                    .dtype = dtype};
    Case one(p), three(p);
    expect_same_bits(one, three, p.options.mechanism);
  }
}

TEST(Softmax, DoesNotLookAhead) {
  ThreadTeam team(1);
  Case before({.lengths = {150}}), after({.lengths = {150}});
  for (size_t token = 101; token < 150; ++token) {
    after.k.set(token, 3, 50);
    after.v.set(token, 3, -1e6);
  }
  before.forward(team);
  after.forward(team);
  for (size_t token = 0; token <= 100; ++token)
    for (size_t i = 0; i < 32; ++i)
      ASSERT_EQ(before.out.get(token, i), after.out.get(token, i)) << "token " << token;
  EXPECT_NE(before.out.get(101, 3), after.out.get(101, 3));
}

TEST(Softmax, StaysFiniteAtExtremeScores) {
  ThreadTeam team(1);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Case c({.scale = 1, .lengths = {200}, .dtype = dtype, .amplitude = 50});  // |s| about 1e4
    c.forward(team);
    c.backward(team);
    for (const Rows* rows : {&c.out, &c.dq, &c.dk, &c.dv})
      for (const double value : rows->values()) ASSERT_TRUE(std::isfinite(value));
    const auto out = c.attention->reference_forward(c.reference_inputs(), c.layout());
    EXPECT_LT(relative_error(c.out.values(), out), dtype == DType::f32 ? 1e-2 : 1.0);
  }
}

TEST(Softmax, PassesNanOnInsteadOfHidingIt) {
  ThreadTeam team(1);
  Case c({.heads = 1, .kv_heads = 1, .lengths = {70}});
  c.k.set(10, 0, std::numeric_limits<double>::quiet_NaN());
  c.forward(team);
  EXPECT_FALSE(std::isnan(c.out.get(9, 0)));
  EXPECT_TRUE(std::isnan(c.out.get(69, 0)));
}

TEST(Softmax, SaysWhichShapeIsWrong) {
  ThreadTeam team(1);
  const auto message = [&](auto spoil) {
    Case c({.lengths = {20}});
    spoil(c);
    try {
      c.forward(team);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(message([](Case& c) { c.k = Rows(20, 2, 16, DType::f32, 0); }), HasSubstr("k"));
  EXPECT_THAT(message([](Case& c) { c.v = Rows(20, 1, 16, DType::bf16, 0); }), HasSubstr("bf16"));
  EXPECT_THAT(message([](Case& c) { c.out = Rows(20, 2, 15, DType::f32, 0); }), HasSubstr("out"));
  EXPECT_THAT(message([](Case& c) { c.offsets.back() = 19; }), HasSubstr("offsets"));
  EXPECT_THAT(message([](Case& c) { c.offsets = {0, 15, 10, 20}; }), HasSubstr("offsets"));
  EXPECT_THAT(message([](Case& c) { c.positions[7] = 4096; }), HasSubstr("context length"));
  EXPECT_THAT(message([](Case& c) { c.positions[7] = -1; }), HasSubstr("positions"));
  EXPECT_THAT(message([](Case& c) { c.positions.pop_back(); }), HasSubstr("positions"));
}

TEST(Softmax, RefusesASmallWorkspace) {
  ThreadTeam team(1);
  Case c({.lengths = {20}});
  AlignedBuffer saved(4096), small(1024);
  EXPECT_THROW(c.attention->forward(c.inputs(), c.layout(), c.out.view(), {saved.data(), 4096},
                                    {small.data(), 1024}, team),
               Error);
}

TEST(Softmax, MemoryGrowsLinearly) {
  const Case c({.heads = 8, .kv_heads = 8, .head_dim = 64, .value_dim = 64});
  const auto at = [&](size_t tokens) {
    return static_cast<double>(c.attention->memory(tokens, tokens, DType::f32, 2).workspace);
  };
  EXPECT_LT(at(131072), 2.1 * at(65536));
  EXPECT_LT(at(65536), 2.1 * at(32768));
}

TEST(SoftmaxOptions, AreCheckedByName) {
  const AttentionGeometry even{
      .hidden_size = 8, .heads = 2, .kv_heads = 1, .head_dim = 4, .value_dim = 4};
  const auto message = [](const AttentionOptions& options, const AttentionGeometry& geometry) {
    try {
      make_attention(options, geometry, 64);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(message({"sofmax", {}}, even), HasSubstr("softmax"));
  EXPECT_THAT(message({"softmax", {{"theta", 1.0}}}, even), HasSubstr("rope_theta"));
  EXPECT_THAT(message({"softmax", {{"position", std::string("sine")}}}, even),
              HasSubstr("\"none\""));
  EXPECT_THAT(message({"softmax", {{"rope_theta", -1.0}}}, even), HasSubstr("positive"));
  EXPECT_EQ(message({"softmax", {{"rope_theta", int64_t{500000}}}}, even), "no error");
  AttentionGeometry odd = even;
  odd.head_dim = 33;
  EXPECT_THAT(message({}, odd), HasSubstr("even"));
  EXPECT_EQ(message(no_position(), odd), "no error");
  odd.head_dim = 257;
  EXPECT_THAT(message(no_position(), odd), HasSubstr("256"));
  odd = even;
  odd.kv_heads = 3;
  EXPECT_THAT(message({}, odd), HasSubstr("kv_heads"));
}

TEST(SoftmaxOptions, ThetaChangesTheRotation) {
  Problem p{.lengths = {60}};
  p.options.values["rope_theta"] = 500.0;
  EXPECT_LT(errors_of(p).worst(), kF32Error);
  ThreadTeam team(1);
  Case usual({.lengths = {60}}), other(p);
  usual.forward(team);
  other.forward(team);
  EXPECT_GT(relative_error(other.out.values(), usual.out.values()), 1e-3);
}

TEST(Exp2, StaysWithin2e7RelativeOfTheTruth) {
  std::vector<float> x, y(100003);
  for (size_t i = 0; i < y.size(); ++i)
    x.push_back(static_cast<float>(-125.9 + 253 * static_cast<double>(i) / y.size()));
  exp2_of(x.data(), x.size(), y.data());
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i)
    worst = std::max(worst, std::abs(y[i] / std::exp2(static_cast<double>(x[i])) - 1));
  EXPECT_LT(worst, 2e-7);
  const float edges[] = {0, -1e30F, -std::numeric_limits<float>::infinity(),
                         std::numeric_limits<float>::quiet_NaN()};
  float values[4];
  exp2_of(edges, 4, values);
  EXPECT_EQ(values[0], 1);
  EXPECT_LT(values[1], 2e-38F);
  EXPECT_LT(values[2], 2e-38F);
  EXPECT_TRUE(std::isnan(values[3]));
}

TEST(TileKernel, EveryHighwayTargetAgreesWithFloat64) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    EXPECT_STREQ(f32_tile_kernel().name, hwy::TargetName(target));
    const Problem p{.head_dim = 40, .value_dim = 33, .lengths = {150}};
    EXPECT_LT(errors_of(p).worst(), kF32Error) << hwy::TargetName(target);
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

#if defined(__SANITIZE_ADDRESS__) || defined(__clang__)  // many times slower: a sample
constexpr const char* kHeldDown = "Softmax.MatchesFloat64AtOddLengths:SoftmaxCache.Fork*";
#else
constexpr const char* kHeldDown = "Softmax.*:SoftmaxCache.*:SoftmaxRelatives.MatchFloat64";
#endif

// This program again, with the instructions held down.
TEST(CairnMaxIsa, EveryLevelRunsAndAgrees) {
  if (std::getenv("CAIRN_MAX_ISA") != nullptr) GTEST_SKIP() << "runs itself only once";
  for (const char* level : {"baseline", "avx2", "avx512", "avx512_bf16"}) {
    const std::string command =
        "GTEST_TOTAL_SHARDS=1 GTEST_SHARD_INDEX=0 CAIRN_MAX_ISA=" + std::string(level) + " /proc/" +
        std::to_string(getpid()) + "/exe --gtest_filter='" + kHeldDown + "' > /dev/null";
    EXPECT_EQ(std::system(command.c_str()), 0) << level;
  }
}

}  // namespace
}  // namespace cairn::attention_test
