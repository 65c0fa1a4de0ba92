#include <fstream>
#include <limits>

#include "cairn/attention/measure.h"
#include "cairn/attention/stick_breaking/store.h"
#include "cairn/base/error.h"
#include "tests/attention/stick_breaking_harness.h"
#include "tests/support/golden.h"
#include "tests/support/targets.h"

namespace cairn::attention_test {
namespace {

using testing::HasSubstr;
using Words = std::map<std::string, OptionValue>;

const OptionValue kNone = std::string("none"), kValue = std::string("value"),
                  kHeadBias = std::string("head_bias");
constexpr double kNever = 0;  // exit_threshold

// A case of tests/golden/attention/stick_breaking.txt.
struct Golden {
  StickBreaking attention;
  std::vector<int32_t> offsets;
  std::map<std::string, std::vector<double>> arrays;
};

std::vector<Golden> read_golden() {
  std::ifstream file(golden_folder() / "attention" / "stick_breaking.txt");
  std::vector<Golden> cases;
  for (std::string word; file >> word;) {
    if (word == "case") {
      Golden& g = cases.emplace_back();
      AttentionGeometry& shape = g.attention.geometry;
      std::string remainder;
      size_t count = 0;
      file >> remainder >> g.attention.options.attend_current >> g.attention.options.head_norm >>
          shape.heads >> shape.kv_heads >> shape.head_dim >> shape.value_dim >> shape.scale >>
          count;
      g.attention.options.logit_bias = true;
      g.attention.options.remainder = remainder == "none"    ? StickRemainder::none
                                      : remainder == "value" ? StickRemainder::value
                                                             : StickRemainder::head_bias;
      g.offsets.resize(count);
      for (int32_t& offset : g.offsets) file >> offset;
    } else {
      size_t count = 0;
      file >> count;
      auto& values = cases.back().arrays[word];
      values.resize(count);
      for (double& value : values) file >> value;
    }
  }
  return cases;
}

double worst_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double worst = a.size() == b.size() ? 0 : 1e9;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst;
}

// Made by products of the definition and complex steps through them.
TEST(StickBreakingReference, HasTheGoldenOutputsAndGradients) {
  const auto cases = read_golden();
  ASSERT_EQ(cases.size(), 8U);
  for (Golden g : cases) {
    auto& a = g.arrays;
    const StickReference in{a["q"],           a["k"],         a["v"],         a["remainder"],
                            a["norm_weight"], a["norm_bias"], a["logit_bias"]};
    const View1<const int32_t> offsets(g.offsets.data(), g.offsets.size());
    const auto out = stick_breaking_reference(g.attention, in, offsets);
    EXPECT_LT(worst_difference(out.out, a["out"]), 1e-13);
    EXPECT_LT(worst_difference(out.remainder, a["rem"]), 1e-14);
    const auto grad =
        stick_breaking_reference_backward(g.attention, in, offsets, a["dout"], a["drem"]);
    EXPECT_LT(worst_difference(grad.q, a["dq"]), 1e-13);
    EXPECT_LT(worst_difference(grad.k, a["dk"]), 1e-13);
    EXPECT_LT(worst_difference(grad.v, a["dv"]), 1e-13);
    EXPECT_LT(worst_difference(grad.remainder, a["dremainder"]), 1e-13);
    EXPECT_LT(worst_difference(grad.norm_weight, a["dnorm_weight"]), 1e-13);
    EXPECT_LT(worst_difference(grad.norm_bias, a["dnorm_bias"]), 1e-13);
    EXPECT_LT(worst_difference(grad.logit_bias, a["dlogit_bias"]), 1e-13);
  }
}

TEST(StickBreakingReference, GradientsOfTheContractAreCentralDifferences) {
  Problem p{.options = stick_options({{"head_norm", true}, {"logit_bias", 0.5}}),
            .heads = 4,
            .kv_heads = 2,
            .head_dim = 3,
            .value_dim = 4,
            .lengths = {4, 2}};
  Case c(p);
  const auto dout = c.dout.values();
  auto in = c.reference_inputs();
  const auto grad = c.attention->reference_backward(in, c.layout(), dout);
  const auto loss = [&] {
    const auto out = c.attention->reference_forward(in, c.layout());
    return std::inner_product(out.begin(), out.end(), dout.begin(), 0.0);
  };
  const auto differences = [&](std::vector<double>& values) {
    return central_differences(values, loss);
  };
  EXPECT_LT(relative_error(grad.q, differences(in.q)), 1e-6);
  EXPECT_LT(relative_error(grad.k, differences(in.k)), 1e-6);
  EXPECT_LT(relative_error(grad.v, differences(in.v)), 1e-6);
  ASSERT_EQ(grad.parameters.size(), 4U);
  for (size_t i = 0; i < 4; ++i)
    EXPECT_LT(relative_error(grad.parameters[i], differences(in.parameters[i])), 1e-6) << i;
}

TEST(StickBreaking, MatchesFloat64AtEveryShapeAndOption) {
  ThreadTeam team(1);
  const std::vector<int> lengths = {1, 2, 63, 64, 0, 65, 323};
  const size_t groups[] = {1, 3, 4}, dims[] = {16, 50, 64, 100, 128};
  size_t turn = 0;
  for (const OptionValue& remainder : {kNone, kValue, kHeadBias})
    for (const bool current : {false, true})
      for (const bool norm : {false, true})
        for (const size_t kv_heads : {1, 2}) {
          const size_t group = groups[turn % 3], dim = dims[turn % 5];
          StickCase c({.options = stick_options({{"remainder", remainder},
                                                 {"attend_current", current},
                                                 {"head_norm", norm},
                                                 {"logit_bias", true}}),
                       .heads = kv_heads * group,
                       .kv_heads = kv_heads,
                       .head_dim = dim,
                       .value_dim = turn % 2 == 0 ? dim : dims[(turn + 2) % 5],
                       .lengths = lengths,
                       .gap = turn % 3});
          c.run(team);
          const StickErrors errors = errors_of(c);
          EXPECT_LE(errors.worst(), 2e-6) << "turn " << turn << ": " << errors;
          ++turn;
        }
}

TEST(StickBreaking, MatchesFloat64AtEveryHeadSize) {
  ThreadTeam team(1);
  for (const size_t dim : {1, 2, 7, 15, 17, 33, 80, 129, 256}) {
    StickCase c(
        {.options = stick_options(), .head_dim = dim, .value_dim = 257 - dim, .lengths = {70, 3}});
    c.run(team);
    EXPECT_LE(errors_of(c).worst(), 2e-6) << dim << ": " << errors_of(c);
  }
}

TEST(StickBreaking, MatchesFloat64AtLargeSaturatedAndTinyLogits) {
  ThreadTeam team(1);
  const std::pair<double, double> spreads[] = {{0, 50},  {0, 100}, {-6, 1}, {-10, 1},
                                               {-50, 1}, {12, 1},  {30, 1}, {80, 5}};
  for (const bool current : {false, true})
    for (const auto& [mean, deviation] : spreads) {
      // Without exit: where every gate is nearly 1, what it may change is more than what there is.
      StickCase c(
          {.options = stick_options({{"attend_current", current}, {"exit_threshold", kNever}}),
           .head_dim = 64,
           .value_dim = 32,
           .lengths = {300, 40}});
      c.spread_logits(mean, deviation);
      c.run(team);
      const StickErrors errors = errors_of(c);
      EXPECT_LE(errors.worst(), 2e-5) << "mean " << mean << " std " << deviation << ": " << errors;
    }
}

TEST(StickBreaking, MatchesFloat64AtThousandsOfTokens) {
  ThreadTeam team(2, true);
  for (const std::vector<int>& lengths : {std::vector<int>{2000}, {15, 318, 1715}}) {
    StickCase c({.options = stick_options({{"exit_threshold", kNever}}),
                 .heads = 1,
                 .head_dim = 64,
                 .value_dim = 32,
                 .lengths = lengths});
    c.spread_logits(-6, 1);  // sticks that reach the first tokens
    c.run(team);
    EXPECT_LE(errors_of(c).worst(), 2e-6) << testing::PrintToString(lengths) << errors_of(c);
  }
}

TEST(StickBreaking, MatchesFloat64OnEveryTarget) {
  ThreadTeam team(1);
  for_each_target([&](const char* target) {
    StickCase c({.options = stick_options({{"head_norm", true}, {"gate_floor", 0.02}}),
                 .head_dim = 40,
                 .value_dim = 33,
                 .lengths = {150, 5}});
    c.run(team);
    EXPECT_LE(errors_of(c).worst(), 2e-6) << target << ": " << errors_of(c);
  });
}

TEST(StickBreaking, Bf16StaysWithinItsRounding) {
  ThreadTeam team(2, true);
  for (const double deviation : {1.0, 50.0})
    for (const OptionValue& remainder : {kNone, kValue, kHeadBias}) {
      StickCase c({.options = stick_options({{"remainder", remainder}}),
                   .heads = 4,
                   .kv_heads = 2,
                   .head_dim = 50,
                   .value_dim = 40,
                   .lengths = {200, 1, 64, 330},
                   .dtype = DType::bf16,
                   .gap = 3});
      c.spread_logits(0, deviation);
      c.run(team);
      EXPECT_LE(errors_of(c).worst(), 1e-2) << "std " << deviation << ": " << errors_of(c);
    }
}

TEST(StickBreaking, WeightsAndRemainderAddUpTo1) {
  ThreadTeam team(1);
  for (const double mean : {-8.0, 0.0, 12.0}) {
    StickCase c({.options = stick_options({{"remainder", kNone}}), .lengths = {400, 1}});
    c.spread_logits(mean, 2);
    c.v.fill(RandomStream(1, "v"), 0);
    for (size_t token = 0; token < c.tokens; ++token) c.v.set(token, 0, 1);
    c.run_forward(team);
    for (size_t token = 0; token < c.tokens; ++token)
      for (size_t head = 0; head < 2; ++head)
        ASSERT_NEAR(c.out.get(token, head * 16) + c.remainder[token * 2 + head], 1, 1e-6);
  }
}

// Gates that a f32 product of 1 - beta would absorb or round with one sign.
TEST(StickBreaking, ManyTinyGatesLeaveTheRightRemainder) {
  ThreadTeam team(2, true);
  const int n = 16384;
  for (const double z : {-8.0, -12.0, -17.0}) {
    StickCase c({.options = stick_options(),
                 .heads = 1,
                 .kv_heads = 1,
                 .head_dim = 1,
                 .value_dim = 1,
                 .scale = 1,
                 .lengths = {n}});
    for (int token = 0; token < n; ++token) {
      c.q.set(token, 0, z);
      c.k.set(token, 0, 1);
    }
    c.run_forward(team);
    for (const int token : {n - 1, 1000, 77})
      EXPECT_NEAR(c.remainder[token], std::exp(-token * std::log1p(std::exp(z))), 1e-6) << z;
  }
}

TEST(StickBreaking, EqualLogitsHalveTheStick) {
  ThreadTeam team(1);
  StickCase c({.options = stick_options({{"remainder", kNone}}), .lengths = {20}, .amplitude = 0});
  c.run_forward(team);
  for (size_t token = 0; token < 20; ++token)
    EXPECT_FLOAT_EQ(c.remainder[2 * token], std::ldexp(1.0F, -static_cast<int>(token)));
}

TEST(StickBreaking, LargeLogitsPickTheNewestVisibleKey) {
  ThreadTeam team(1);
  for (const bool current : {false, true}) {
    StickCase c({.options = stick_options({{"attend_current", current}}), .lengths = {130}});
    c.spread_logits(100, 0.01);
    c.run_forward(team);
    for (size_t token = 1; token < 130; ++token)
      ASSERT_NEAR(c.out.get(token, 5), c.v.get(token - (current ? 0 : 1), 5), 1e-6) << token;
  }
}

TEST(StickBreaking, FirstTokensReceiveTheRemainderVectorAlone) {
  ThreadTeam team(1);
  StickCase c({.options = stick_options(), .lengths = {3, 0, 1, 70}});
  c.run(team);
  for (const size_t token : {0, 3, 4}) {
    EXPECT_EQ(c.remainder[2 * token], 1);
    for (size_t i = 0; i < 32; ++i) {
      EXPECT_EQ(c.out.get(token, i), c.parameters.values[0][i]);
      EXPECT_EQ(c.dq.get(token, i), 0);
    }
  }
}

TEST(StickBreaking, HeadNormOfAnEmptyRowIsItsBiasAndItsGradientFinite) {
  ThreadTeam team(1);
  StickCase c(
      {.options = stick_options({{"remainder", kNone}, {"head_norm", true}}), .lengths = {5}});
  c.run(team);
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(c.out.get(0, i), c.parameters.values[1][i]);
  EXPECT_LE(errors_of(c).worst(), 2e-6) << errors_of(c);
}

struct Bits {
  explicit Bits(const StickCase& c)
      : out(c.out.bytes()),
        dq(c.dq.bytes()),
        dk(c.dk.bytes()),
        dv(c.dv.bytes()),
        remainder(c.remainder),
        vectors(joined(c.parameters.gradients)) {}
  bool operator==(const Bits&) const = default;
  std::vector<std::byte> out, dq, dk, dv;
  std::vector<float> remainder;
  std::vector<double> vectors;
};

Problem packed_problem(DType dtype) {
  return {.options = stick_options({{"head_norm", true}, {"logit_bias", -3.0}}),
          .heads = 4,
          .kv_heads = 2,
          .head_dim = 24,
          .value_dim = 16,
          .lengths = {600, 3, 130, 2100, 64, 0, 700},
          .dtype = dtype};
}

TEST(StickBreaking, GivesTheSameBitsWith1And2And4Threads) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    std::vector<Bits> results;
    for (const int threads : {1, 2, 4}) {
      ThreadTeam team(threads, true);
      StickCase c(packed_problem(dtype));
      c.run(team);
      results.emplace_back(c);
    }
    EXPECT_TRUE(results[0] == results[1]) << dtype_name(dtype);
    EXPECT_TRUE(results[0] == results[2]) << dtype_name(dtype);
  }
}

// Copies the tokens [begin, begin + to.tokens) of `from`.
void copy_tokens(const Rows& from, size_t begin, size_t tokens, size_t width, Rows& to) {
  for (size_t t = 0; t < tokens; ++t)
    for (size_t i = 0; i < width; ++i) to.set(t, i, from.get(begin + t, i));
}

TEST(StickBreaking, ASequenceGivesTheSameBitsAloneAndPacked) {
  ThreadTeam team(2, true);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    StickCase packed(packed_problem(dtype));
    packed.run(team);
    std::vector<double> vectors(joined(packed.parameters.gradients).size());
    std::vector<View1<float>> sums;  // gradients of vectors go on from sequence to sequence
    for (size_t s = 0; s < packed.problem.lengths.size(); ++s) {
      Problem p = packed.problem;
      p.lengths = {packed.problem.lengths[s]};
      StickCase alone(p);
      const size_t begin = packed.offsets[s], n = alone.tokens;
      copy_tokens(packed.q, begin, n, 96, alone.q);
      copy_tokens(packed.k, begin, n, 48, alone.k);
      copy_tokens(packed.v, begin, n, 32, alone.v);
      copy_tokens(packed.dout, begin, n, 64, alone.dout);
      std::copy_n(packed.dremainder.begin() + static_cast<ptrdiff_t>(begin * 4), n * 4,
                  alone.dremainder.begin());
      size_t at = 0;
      for (auto& gradient : alone.parameters.gradients)
        for (float& value : gradient) value = static_cast<float>(vectors[at++]);
      alone.run(team);
      vectors = joined(alone.parameters.gradients);
      for (size_t t = 0; t < n; ++t) {
        for (size_t i = 0; i < 64; ++i)
          ASSERT_EQ(alone.out.get(t, i), packed.out.get(begin + t, i)) << s << " " << t;
        for (size_t i = 0; i < 96; ++i)
          ASSERT_EQ(alone.dq.get(t, i), packed.dq.get(begin + t, i)) << s << " " << t;
        for (size_t i = 0; i < 48; ++i)
          ASSERT_EQ(alone.dk.get(t, i), packed.dk.get(begin + t, i)) << s << " " << t;
        for (size_t i = 0; i < 32; ++i)
          ASSERT_EQ(alone.dv.get(t, i), packed.dv.get(begin + t, i)) << s << " " << t;
      }
    }
    EXPECT_EQ(vectors, joined(packed.parameters.gradients)) << dtype_name(dtype);
  }
}

TEST(StickBreaking, DoesNotSeeOtherSequences) {
  ThreadTeam team(1);
  const Problem p{.options = stick_options({{"remainder", kNone}}), .lengths = {90, 70, 50}};
  StickCase before(p), after(p);
  for (size_t token = 90; token < 160; ++token)
    for (Rows* rows : {&after.q, &after.k, &after.v, &after.dout}) rows->set(token, 3, 7);
  before.run(team);
  after.run(team);
  for (size_t token = 0; token < 210; ++token) {
    if (token >= 90 && token < 160) continue;
    for (size_t i = 0; i < 16; ++i) {
      ASSERT_EQ(before.out.get(token, i), after.out.get(token, i)) << token;
      ASSERT_EQ(before.dq.get(token, i), after.dq.get(token, i)) << token;
      ASSERT_EQ(before.dk.get(token, i), after.dk.get(token, i)) << token;
      ASSERT_EQ(before.dv.get(token, i), after.dv.get(token, i)) << token;
    }
  }
  EXPECT_NE(before.out.get(130, 3), after.out.get(130, 3));
}

TEST(StickBreaking, DoesNotLookAhead) {
  ThreadTeam team(1);
  for (const bool current : {false, true}) {
    const Problem p{.options = stick_options({{"attend_current", current}}), .lengths = {150}};
    StickCase before(p), after(p);
    for (size_t token = 101; token < 150; ++token) {
      after.k.set(token, 3, 50);
      after.v.set(token, 3, -1e6);
    }
    before.run_forward(team);
    after.run_forward(team);
    const size_t first = current ? 101 : 102;  // that may differ
    for (size_t token = 0; token < first; ++token)
      for (size_t i = 0; i < 32; ++i)
        ASSERT_EQ(before.out.get(token, i), after.out.get(token, i)) << "token " << token;
    EXPECT_NE(before.out.get(first, 3), after.out.get(first, 3));
  }
}

Problem exit_problem(double threshold) {
  return {.options = stick_options({{"exit_threshold", threshold}}),
          .heads = 4,
          .kv_heads = 2,
          .head_dim = 32,
          .value_dim = 32,
          .lengths = {1500, 200}};
}

TEST(StickBreaking, ExitAtTheDefaultThresholdChangesNothingThatCounts) {
  ThreadTeam team(2, true);
  StickCase full(exit_problem(kNever)), exits(exit_problem(0x1p-24));
  full.run(team);
  exits.run(team);
  EXPECT_EQ(full.statistics().visited, full.statistics().visible);
  EXPECT_LT(exits.statistics().visited, exits.statistics().visible / 3);
  EXPECT_LE(relative_error(exits.out.values(), full.out.values()), 1e-6);
  EXPECT_LE(relative_error(exits.dq.values(), full.dq.values()), 2e-6);
  EXPECT_LE(relative_error(exits.dk.values(), full.dk.values()), 2e-6);
  EXPECT_LE(relative_error(exits.dv.values(), full.dv.values()), 2e-6);
  EXPECT_LE(relative_error(joined(exits.parameters.gradients), joined(full.parameters.gradients)),
            2e-6);
}

TEST(StickBreaking, ExitKeepsItsBound) {
  ThreadTeam team(1);
  StickCase full(exit_problem(kNever));
  full.spread_logits(-2, 2);
  full.run_forward(team);
  double widest = 0;  // max |v_j - w| of a channel
  for (const double v : full.v.values()) widest = std::max(widest, std::abs(v));
  for (const float w : full.parameters.values[0]) widest = std::max(widest, 2.0 * std::abs(w));
  for (const double threshold : {1e-6, 1e-4, 1e-2}) {
    StickCase exits(exit_problem(threshold));
    exits.spread_logits(-2, 2);
    exits.run_forward(team);
    EXPECT_LT(exits.statistics().visited, full.statistics().visited) << threshold;
    for (size_t token = 0; token < full.tokens; ++token)
      for (size_t i = 0; i < 128; ++i)
        ASSERT_LE(std::abs(exits.out.get(token, i) - full.out.get(token, i)),
                  2 * threshold * widest + 2e-6)
            << threshold << " token " << token;
  }
}

TEST(StickBreaking, GradientsBelongToTheWalkThatExited) {
  ThreadTeam team(1);
  // A threshold far from nothing: the remainder takes what is left, and the second query tile ends
  // where a sequence of its own would.
  const auto problem = [](double threshold, std::vector<int> lengths) {
    return Problem{
        .options = stick_options({{"attend_current", true}, {"exit_threshold", threshold}}),
        .heads = 1,
        .kv_heads = 1,
        .lengths = std::move(lengths)};
  };
  StickCase exits(problem(0.5, {128})), cut(problem(kNever, {64, 64}));
  for (StickCase* c : {&exits, &cut}) {
    c->spread_logits(3, 0.1);
    c->run(team);
  }
  ASSERT_EQ(exits.statistics().visited, 2U);
  EXPECT_EQ(exits.out.bytes(), cut.out.bytes());
  EXPECT_EQ(exits.dq.bytes(), cut.dq.bytes());
  EXPECT_EQ(exits.dk.bytes(), cut.dk.bytes());
  EXPECT_EQ(exits.dv.bytes(), cut.dv.bytes());
}

TEST(StickBreaking, SequencesThatKeepEverySecondStickAreAsExact) {
  ThreadTeam team(2, true);
  const int n = kSticks * kTile + 70;
  ASSERT_EQ(stick_stride(chunk_count(n, kTile)), 2U);
  StickCase c({.options = stick_options(),
               .heads = 1,
               .kv_heads = 1,
               .head_dim = 2,
               .value_dim = 1,
               .lengths = {n}});
  c.spread_logits(-8, 1);
  c.run(team);
  EXPECT_LE(errors_of(c).worst(), 5e-6) << errors_of(c);
}

TEST(StickBreaking, KeepsNoMoreThanItsBytesPerToken) {
  for (const size_t longest : {1, 64, 1000, 8192, 8193, 100000, 4000000}) {
    const size_t tiles = chunk_count(longest, kTile), stride = stick_stride(tiles);
    double sticks = 0;
    for (size_t t = 0; t < tiles; ++t)
      sticks += static_cast<double>(std::min(kTile, longest - t * kTile) * (t / stride + 1));
    EXPECT_LE(sticks, static_cast<double>(longest * sticks_per_token(tiles))) << longest;
    EXPECT_LE(sticks_per_token(tiles), 65U);
  }
  const StickCase c({.options = stick_options(), .heads = 8, .kv_heads = 8});
  const auto at = [&](size_t tokens) {
    const AttentionMemory memory = c.attention->memory(tokens, tokens, DType::f32, 2);
    return static_cast<double>(memory.saved + memory.workspace);
  };
  EXPECT_LT(at(131072), 2.1 * at(65536));
  EXPECT_LT(at(65536), 2.1 * at(32768));
}

TEST(StickBreaking, NanStaysInTheRowsThatSeeIt) {
  ThreadTeam team(1);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Problem p{
        .options = stick_options(), .heads = 1, .kv_heads = 1, .lengths = {200}, .dtype = dtype};
    StickCase query(p), key(p);
    query.q.set(150, 0, nan);
    query.run(team);
    key.k.set(10, 0, nan);
    key.run_forward(team);
    for (size_t token = 0; token < 200; ++token)
      EXPECT_EQ(std::isnan(query.out.get(token, 0)), token == 150) << token;
    EXPECT_FALSE(std::isnan(key.out.get(10, 0)));
    EXPECT_TRUE(std::isnan(key.out.get(11, 0)));
  }
}

TEST(StickBreaking, LeavesInputsAndGapsAlone) {
  ThreadTeam team(1);
  StickCase c({.options = stick_options({{"remainder", kValue}}), .lengths = {40}, .gap = 7});
  const auto q = c.q.bytes(), k = c.k.bytes(), v = c.v.bytes();
  c.run(team);
  EXPECT_EQ(q, c.q.bytes());
  EXPECT_EQ(k, c.k.bytes());
  EXPECT_EQ(v, c.v.bytes());
  const auto* out = static_cast<const float*>(c.out.view().data);
  for (size_t i = 32; i < 39; ++i) EXPECT_EQ(out[i], 0) << "between rows";
}

TEST(StickBreaking, TheContractGivesWhatThePlainFunctionsGive) {
  ThreadTeam team(1);
  const Problem p{.options = stick_options({{"head_norm", true}}),
                  .heads = 6,
                  .kv_heads = 2,
                  .lengths = {100, 30}};
  EXPECT_LT(errors_of(p).worst(), 2e-6);
  Case c(p);
  StickCase plain(p);
  std::fill(plain.dremainder.begin(), plain.dremainder.end(), 0.0F);
  c.forward(team);
  c.backward(team);
  plain.run(team);
  EXPECT_EQ(c.out.bytes(), plain.out.bytes());
  EXPECT_EQ(c.dq.bytes(), plain.dq.bytes());
}

TEST(StickBreaking, SaysWhatIsWrong) {
  ThreadTeam team(1);
  const auto message = [&](auto spoil) {
    StickCase c({.options = stick_options(), .lengths = {20}});
    spoil(c);
    try {
      c.run_forward(team);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(message([](auto& c) { c.k = Rows(20, 2, 16, DType::f32, 0); }), HasSubstr("k"));
  EXPECT_THAT(message([](auto& c) { c.v = Rows(20, 1, 16, DType::bf16, 0); }), HasSubstr("bf16"));
  EXPECT_THAT(message([](auto& c) { c.out = Rows(20, 2, 15, DType::f32, 0); }), HasSubstr("out"));
  EXPECT_THAT(message([](auto& c) { c.offsets.back() = 19; }), HasSubstr("offsets"));
  EXPECT_THAT(message([](auto& c) { c.offsets = {1, 20}; }), HasSubstr("offsets"));
  EXPECT_THAT(message([](auto& c) { c.offsets = {0, 15, 10, 20}; }), HasSubstr("offsets"));
  EXPECT_EQ(message([](auto& c) { c.offsets = {0, 0, 10, 10, 20, 20}; }), "no error");
  EXPECT_THAT(message([](auto& c) { c.parameters.values.pop_back(); }), HasSubstr("parameters"));
  EXPECT_THAT(message([](auto& c) { c.parameters.values[0].size -= 1; }),
              HasSubstr("remainder_bias"));
}

TEST(StickBreakingStatistics, CountTilesAndTheMeanRemainder) {
  ThreadTeam team(1);
  StickCase c({.options = stick_options({{"exit_threshold", kNever}}), .lengths = {130, 0, 64}});
  c.run_forward(team);
  EXPECT_EQ(c.statistics().visible, 2U * (1 + 2 + 3 + 1));
  EXPECT_EQ(c.statistics().visited, 2U * (1 + 2 + 3 + 1));
  const double sum = std::accumulate(c.remainder.begin(), c.remainder.end(), 0.0);
  EXPECT_NEAR(c.statistics().mean_remainder, sum / (2 * 194), 1e-9);
}

// Fresh models have logits near N(0, 1): few tiles are needed from 2048 tokens on.
TEST(StickBreakingStatistics, FreshModelsVisitFewTiles) {
  ThreadTeam team(2, true);
  const auto attention = make_attention(
      stick_options(),
      {.hidden_size = 128, .heads = 2, .kv_heads = 2, .head_dim = 64, .value_dim = 64}, 2048);
  const AttentionMechanism* mechanisms[] = {attention.get()};
  const AttentionTiming timing =
      measure_attention(mechanisms, {.tokens = 2048, .repetitions = 1}, team)[0];
  ASSERT_TRUE(timing.statistics);
  EXPECT_LE(static_cast<double>(timing.statistics->visited),
            0.15 * static_cast<double>(timing.statistics->visible));
}

TEST(StickBreakingOptions, AreCheckedByName) {
  const AttentionGeometry usual{
      .hidden_size = 8, .heads = 2, .kv_heads = 1, .head_dim = 4, .value_dim = 4};
  const auto message = [](const Words& words, const AttentionGeometry& geometry) {
    try {
      make_attention(stick_options(words), geometry, 64);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(message({{"remaindr", kNone}}, usual), HasSubstr("remainder, head_norm"));
  EXPECT_THAT(message({{"rope_theta", 1e4}}, usual), HasSubstr("no positions"));
  EXPECT_THAT(message({{"position", std::string("rope")}}, usual), HasSubstr("no positions"));
  EXPECT_THAT(message({{"remainder", std::string("all")}}, usual), HasSubstr("\"head_bias\""));
  EXPECT_THAT(message({{"remainder", true}}, usual), HasSubstr("not a string"));
  EXPECT_THAT(message({{"head_norm", 1.0}}, usual), HasSubstr("true or false"));
  for (const double share : {1.0, -0.1, 0.99999999999, std::nan("")}) {
    EXPECT_THAT(message({{"exit_threshold", share}}, usual), HasSubstr("below 1")) << share;
    EXPECT_THAT(message({{"gate_floor", share}}, usual), HasSubstr("below 1")) << share;
  }
  EXPECT_THAT(message({{"logit_bias", 1e9}}, usual), HasSubstr("80"));
  EXPECT_THAT(message({{"logit_bias", kNone}}, usual), HasSubstr("number"));
  EXPECT_EQ(message({{"exit_threshold", int64_t{0}}, {"logit_bias", int64_t{-7}}}, usual),
            "no error");
  AttentionGeometry odd = usual;
  odd.value_dim = 257;
  EXPECT_THAT(message({}, odd), HasSubstr("256"));
  odd = usual;
  odd.kv_heads = 3;
  EXPECT_THAT(message({}, odd), HasSubstr("kv_heads"));
  odd = usual;
  odd.scale = std::numeric_limits<float>::infinity();
  EXPECT_THAT(message({}, odd), HasSubstr("scale"));
}

TEST(StickBreakingOptions, AskForTheirParameters) {
  const auto specs = [](const Words& words) {
    return make_attention(stick_options(words),
                          {.heads = 4, .kv_heads = 2, .head_dim = 8, .value_dim = 6}, 64)
        ->parameters();
  };
  EXPECT_TRUE(specs({{"remainder", kNone}}).empty());
  EXPECT_TRUE(specs({{"remainder", kValue}}).empty());
  const auto all = specs({{"head_norm", true}, {"logit_bias", -2.5}});
  ASSERT_EQ(all.size(), 4U);
  EXPECT_EQ(all[0].name, "remainder_bias");
  EXPECT_EQ(all[0].shape, (Shape{4, 6}));
  EXPECT_EQ(all[0].initializer.value, 0);
  EXPECT_EQ(all[1].name, "head_norm.weight");
  EXPECT_EQ(all[1].shape, (Shape{24}));
  EXPECT_EQ(all[1].initializer.value, 1);
  EXPECT_EQ(all[2].name, "head_norm.bias");
  EXPECT_EQ(all[3].name, "logit_bias");
  EXPECT_EQ(all[3].initializer.value, -2.5);
  for (const ParameterSpec& spec : all) {
    EXPECT_EQ(spec.group, ParameterGroup::vector) << "no weight decay";
    EXPECT_EQ(spec.initializer.kind, Initializer::Kind::constant);
  }
}

}  // namespace
}  // namespace cairn::attention_test
