// What is built on the softmax kernels: ALiBi, windows, scaled rotations, the convolution of
// queries and keys, and the Forgetting Transformer.
#include <map>

#include "cairn/attention/rotary.h"
#include "cairn/attention/softmax/options.h"
#include "cairn/base/error.h"
#include "tests/attention/feeding.h"

namespace cairn::attention_test {
namespace {

using testing::HasSubstr;
using Values = std::map<std::string, OptionValue>;

constexpr double kF32Error = 1e-5;
constexpr double kBf16Error = 2e-2;

double bound_of(DType dtype) {
  return dtype == DType::f32 ? kF32Error : kBf16Error;
}

AttentionOptions softmax(const Values& values) {
  return {"softmax", values};
}

AttentionOptions fox(const Values& values = {}) {
  return {"fox", values};
}

const std::string kNone = "none", kAlibi = "alibi", kRope = "rope", kLlama3 = "llama3",
                  kYarn = "yarn", kLinear = "linear";

// One of every kind, and kinds together.
std::vector<AttentionOptions> relatives() {
  return {
      softmax({{"position", kAlibi}}),
      softmax({{"window", int64_t{37}}}),
      softmax({{"position", kAlibi}, {"window", int64_t{100}}}),
      softmax({{"qk_conv", int64_t{4}}}),
      softmax({{"position", kAlibi}, {"qk_conv", int64_t{3}}, {"window", int64_t{20}}}),
      softmax({{"rope_scaling", kLlama3},
               {"rope_factor", 8.0},
               {"rope_original_context", int64_t{64}}}),
      softmax(
          {{"rope_scaling", kYarn}, {"rope_factor", 8.0}, {"rope_original_context", int64_t{64}}}),
      softmax({{"rope_dim", int64_t{2}},
               {"rope_scaling", std::string("longrope")},
               {"rope_factor", 4.0},
               {"rope_original_context", int64_t{64}},
               {"rope_short_factors", std::vector<double>{1.25}},
               {"rope_long_factors", std::vector<double>{3.0}}}),
      softmax({{"rope_scaling", std::string("dynamic")},
               {"rope_factor", 2.0},
               {"rope_original_context", int64_t{64}}}),
      softmax({{"qk_norm", true},
               {"qk_norm_offset", 1.0},
               {"rope_scaling", kLinear},
               {"rope_factor", 2.0}}),
      fox(),
      fox({{"gate_bias", 3.0}, {"gate_scale", 0.5}, {"position", kRope}}),
      fox({{"gate_scale", std::string("inv_sqrt_d")}, {"window", int64_t{50}}})};
}

std::string label(const AttentionOptions& options) {
  std::string text = options.mechanism;
  for (const auto& [key, value] : options.values) text += " " + key;
  return text;
}

TEST(SoftmaxRelatives, ReferenceGradientsAreCentralDifferences) {
  for (const AttentionOptions& options : relatives()) {
    const Problem p{.options = options,
                    .heads = 4,
                    .kv_heads = 2,
                    .head_dim = 4,
                    .value_dim = 3,
                    .lengths = {5, 3}};
    EXPECT_LT(reference_gradient_error(p), 1e-6) << label(options);
  }
}

TEST(SoftmaxRelatives, MatchFloat64) {
  for (const AttentionOptions& options : relatives()) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const auto check = [&](const Problem& p) {
        Errors errors = errors_of(p, 2);
        // Those of gates sum over all tokens; of a single token there is nothing but rounding.
        errors.parameters = p.lengths == std::vector<int>{1} ? 0 : errors.parameters / 2;
        EXPECT_LT(errors.worst(), bound_of(dtype))
            << label(options) << " " << dtype_name(dtype) << " "
            << testing::PrintToString(p.lengths) << " out " << errors.out << " dq " << errors.dq
            << " dk " << errors.dk << " dv " << errors.dv << " dx " << errors.dx << " parameters "
            << errors.parameters;
      };
      for (const int length : {1, 2, 63, 64, 65, 130, 321})
        check({.options = options, .lengths = {length}, .dtype = dtype});
      check({.options = options,
             .heads = 6,
             .kv_heads = 2,
             .head_dim = 24,
             .value_dim = 40,
             .lengths = {30, 1, 90, 64, 200, 3},
             .dtype = dtype,
             .gap = 5});
      check({.options = options, .lengths = std::vector<int>(100, 3), .dtype = dtype});
      check({.options = options,
             .heads = 1,
             .kv_heads = 1,
             .head_dim = 32,
             .lengths = {900, 10, 700},
             .dtype = dtype});
    }
  }
}

TEST(SoftmaxRelatives, GiveTheSameBitsWith1And3Threads) {
  for (const AttentionOptions& options : relatives()) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const Problem p{.options = options,
                      .heads = 4,
                      .kv_heads = 2,
                      .head_dim = 32,
                      .value_dim = 32,
                      .lengths = {700, 100, 200},
                      .dtype = dtype};
      Case one(p), three(p);
      expect_same_bits(one, three, label(options));
    }
  }
}

TEST(SoftmaxRelatives, AnotherSequenceChangesNoBit) {
  ThreadTeam team(1);
  for (const AttentionOptions& options : relatives()) {
    const Problem p{.options = options, .lengths = {100, 90}};
    Case before(p), after(p);
    for (size_t token = 0; token < 100; ++token) {
      after.x.set(token, 3, -9);
      after.q.set(token, 3, 4);
      after.k.set(token, 3, 5);
      after.v.set(token, 3, -1e3);
    }
    for (Case* c : {&before, &after}) {
      c->forward(team);
      c->backward(team);
    }
    EXPECT_NE(before.out.get(99, 0), after.out.get(99, 0)) << label(options);
    for (size_t token = 100; token < 190; ++token) {
      ASSERT_EQ(before.out.get(token, 0), after.out.get(token, 0)) << label(options);
      ASSERT_EQ(before.dk.get(token, 0), after.dk.get(token, 0)) << label(options);
      ASSERT_EQ(before.dx.get(token, 0), after.dx.get(token, 0)) << label(options);
    }
  }
}

TEST(SoftmaxRelativesCache, AnySplitGivesTheFullForward) {
  ThreadTeam team(1);
  for (const AttentionOptions& options : relatives()) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      for (const size_t longest : {1, 5, 90, 700}) {
        Case c({.options = options,
                .heads = 6,
                .kv_heads = 2,
                .head_dim = 32,
                .value_dim = 24,
                .lengths = {600},
                .dtype = dtype,
                .gap = 3});
        const auto cache = c.attention->make_cache(600, dtype);
        feed_pieces(c, *cache, 0, 600, longest, longest, team);
        const auto out = c.attention->reference_forward(c.reference_inputs(), c.layout());
        EXPECT_LT(relative_error(c.out.values(), out), bound_of(dtype))
            << label(options) << " " << dtype_name(dtype) << " pieces up to " << longest;
      }
    }
  }
}

TEST(SoftmaxRelativesCache, TruncatedAndForkedContinueAsIfNothingHadFollowed) {
  ThreadTeam team(2, true);
  for (const AttentionOptions& options : relatives()) {
    Case c({.options = options, .heads = 4, .kv_heads = 2, .lengths = {300}});
    const auto cache = c.attention->make_cache(300, DType::f32);
    feed_pieces(c, *cache, 0, 300, 70, 1, team);
    cache->truncate(130);
    const auto fork = cache->fork();
    feed_pieces(c, *cache, 130, 300, 9, 2, team);
    const auto expected = c.attention->reference_forward(c.reference_inputs(), c.layout());
    EXPECT_LT(relative_error(c.out.values(), expected), kF32Error) << label(options);
    Case other(c.problem);
    other.k.fill(RandomStream(9, "other"), 3);
    feed_pieces(other, *cache, 0, 0, 1, 3, team);
    feed_pieces(c, *fork, 130, 300, 40, 4, team);
    EXPECT_LT(relative_error(c.out.values(), expected), kF32Error) << label(options) << " fork";
    EXPECT_THROW(cache->truncate(301), Error);
    EXPECT_THROW(fork->append_and_attend(inputs_of(c, 0, 1), tokens_of(c.out.view(), 0, 1), team),
                 Error)
        << "beyond the capacity";
    EXPECT_EQ(fork->length(), 300U);
  }
}

TEST(Alibi, HasThePublishedSlopes) {
  const std::vector<double> eight = {1. / 2,  1. / 4,  1. / 8,   1. / 16,
                                     1. / 32, 1. / 64, 1. / 128, 1. / 256};
  EXPECT_EQ(alibi_slopes(8), eight);
  // 12 heads: those of 8, then every other one of 16.
  auto twelve = eight;
  for (const double h : {1, 3, 5, 7}) twelve.push_back(std::exp2(-h / 2));
  EXPECT_EQ(alibi_slopes(12), twelve);
  EXPECT_EQ(alibi_slopes(1), std::vector<double>{1. / 256});
}

TEST(Alibi, WeighsEqualKeysByDistance) {
  Problem p{.options = softmax({{"position", kAlibi}}),
            .heads = 1,
            .kv_heads = 1,
            .head_dim = 1,
            .value_dim = 1,
            .lengths = {3}};
  const Case c(p);
  const AttentionMechanism::Reference in{{}, {0, 0, 0}, {0, 0, 0}, {1, 0, 0}, {}};
  const auto out = c.attention->reference_forward(in, c.layout());
  const double slope = 1. / 256, old = std::exp(-2 * slope);
  EXPECT_NEAR(out[2], old / (old + std::exp(-slope) + 1), 1e-12);
}

TEST(Alibi, LeavesOutWhatProvablyWeighsNothing) {
  ThreadTeam team(1);
  Case c(
      {.options = softmax({{"position", kAlibi}}), .heads = 8, .kv_heads = 8, .lengths = {2000}});
  c.forward(team);
  const auto statistics = c.attention->statistics(c.layout(), {c.saved.data(), c.saved.size()});
  ASSERT_TRUE(statistics);
  EXPECT_EQ(statistics->visible, 8U * 32 * 33 / 2);
  EXPECT_LT(statistics->visited, statistics->visible * 3 / 4);
  EXPECT_LT(errors_of(c.problem).worst(), kF32Error);
}

TEST(Window, SeesExactlyAsManyKeys) {
  ThreadTeam team(1);
  Problem p{.options = softmax({{"position", kNone}, {"window", int64_t{70}}}),
            .heads = 1,
            .kv_heads = 1,
            .lengths = {300}};
  Case before(p), after(p);
  after.v.set(100, 0, 1e3);
  before.forward(team);
  after.forward(team);
  EXPECT_NE(before.out.get(169, 0), after.out.get(169, 0)) << "the oldest of 70";
  EXPECT_EQ(before.out.get(170, 0), after.out.get(170, 0));
  p.options.values["window"] = int64_t{300};
  Case whole(p),
      plain(
          {.options = softmax({{"position", kNone}}), .heads = 1, .kv_heads = 1, .lengths = {300}});
  whole.forward(team);
  plain.forward(team);
  EXPECT_EQ(whole.out.bytes(), plain.out.bytes());
}

TEST(RotaryFrequencies, ScaleAsPublished) {
  const auto plain = rotary_frequencies(8, 10000);
  EXPECT_EQ(plain.size(), 4U);
  EXPECT_DOUBLE_EQ(plain[1], 0.1);
  const auto ntk = rotary_frequencies(8, 10000, {RotaryScaling::Kind::ntk, 4});
  EXPECT_DOUBLE_EQ(ntk[0], 1);
  EXPECT_NEAR(ntk[3], plain[3] / 4, 1e-12) << "the slowest turns slower by the whole factor";
  // Turns within a context of 64: 10.2, 1.02, 0.1, 0.01; between 1 and 4 is a blend.
  const auto llama = rotary_frequencies(
      8, 10000, {.kind = RotaryScaling::Kind::llama3, .factor = 8, .original_context = 64});
  EXPECT_DOUBLE_EQ(llama[0], plain[0]);
  const double kept = (64 * 0.1 / (2 * M_PI) - 1) / 3;
  EXPECT_NEAR(llama[1], plain[1] * (kept + (1 - kept) / 8), 1e-12);
  EXPECT_DOUBLE_EQ(llama[2], plain[2] / 8);
  EXPECT_DOUBLE_EQ(llama[3], plain[3] / 8);
}

TEST(RotaryFrequencies, FollowTheContextInUseWhereTheirKindDoes) {
  const RotaryScaling dynamic{
      .kind = RotaryScaling::Kind::dynamic, .factor = 2, .original_context = 64};
  const auto plain = rotary_frequencies(8, 10000);
  EXPECT_EQ(rotary_frequencies(8, 10000, dynamic, 64), plain);
  // Twice the context: theta grows by (2 * 2 - 1)^(8 / 6), the slowest frequency falls to a third.
  EXPECT_NEAR(rotary_frequencies(8, 10000, dynamic, 128)[3], plain[3] / 3, 1e-12);
  const RotaryScaling longrope{.kind = RotaryScaling::Kind::longrope,
                               .factor = 2,
                               .original_context = 64,
                               .short_factors = {1, 1, 2, 2},
                               .long_factors = {1, 3, 3, 4}};
  EXPECT_DOUBLE_EQ(rotary_frequencies(8, 10000, longrope, 64)[3], plain[3] / 2);
  EXPECT_DOUBLE_EQ(rotary_frequencies(8, 10000, longrope, 65)[3], plain[3] / 4);
  EXPECT_NEAR(longrope.growth(), std::sqrt(1 + std::log(2.0) / std::log(64.0)), 1e-12);
}

TEST(QkConvolution, ReachesBackByItsTapsWithinASequence) {
  ThreadTeam team(1);
  Problem p{.options = softmax({{"position", kNone}, {"qk_conv", int64_t{3}}}),
            .heads = 1,
            .kv_heads = 1,
            .lengths = {5, 80}};
  Case before(p), after(p);
  after.q.set(40, 0, 9);
  before.forward(team);
  after.forward(team);
  for (const size_t token : {39, 43})
    EXPECT_EQ(before.out.get(token, 0), after.out.get(token, 0)) << token;
  for (const size_t token : {40, 41, 42})
    EXPECT_NE(before.out.get(token, 0), after.out.get(token, 0)) << token;
}

TEST(QkConvolution, OfOneUnitTapIsPlainSoftmax) {
  ThreadTeam team(1);
  Case convolved({.options = softmax({{"qk_conv", int64_t{4}}}), .lengths = {90}});
  for (size_t i = 0; i < 2; ++i) {
    const auto taps = convolved.parameters.buffers[2 * i].as<float>();
    for (size_t tap = 0; tap < taps.size(); ++tap) taps[tap] = tap % 4 == 3 ? 1.0F : 0.0F;
  }
  Case plain({.lengths = {90}});
  convolved.forward(team);
  plain.forward(team);
  EXPECT_EQ(convolved.out.bytes(), plain.out.bytes());
}

TEST(Fox, WithOpenGatesIsSoftmaxWithoutPositions) {
  ThreadTeam team(1);
  Case open({.options = fox(), .lengths = {200}});
  for (float& value : open.parameters.buffers[0].as<float>()) value = 0.0F;
  for (float& value : open.parameters.buffers[2].as<float>()) value = 60.0F;
  Case plain({.options = softmax({{"position", kNone}}), .lengths = {200}});
  open.forward(team);
  plain.forward(team);
  EXPECT_LT(relative_error(open.out.values(), plain.out.values()), 1e-6);
}

TEST(Fox, WithClosedGatesSeesOnlyItself) {
  ThreadTeam team(1);
  Case closed({.options = fox(), .heads = 1, .kv_heads = 1, .lengths = {150}});
  for (float& value : closed.parameters.buffers[0].as<float>()) value = 0.0F;
  for (float& value : closed.parameters.buffers[2].as<float>()) value = -60.0F;
  closed.forward(team);
  EXPECT_LT(relative_error(closed.out.values(), closed.v.values()), 1e-6);
  const auto statistics =
      closed.attention->statistics(closed.layout(), {closed.saved.data(), closed.saved.size()});
  EXPECT_EQ(statistics->visited, 3U) << "each of three tiles visits itself";
}

TEST(Fox, KeepsItsPrecisionOverLongSequences) {
  // c falls to about -300 while differences of near tokens count.
  Problem p{.options = fox(), .heads = 1, .kv_heads = 1, .lengths = {3000}};
  p.parameter_amplitude = 0.01;
  p.options.values["gate_bias"] = 0.0;
  const Errors errors = errors_of(p, 2);
  EXPECT_LT(errors.worst(), 3 * kF32Error)  // gate gradients sum over thousands of tokens
      << "out " << errors.out << " dq " << errors.dq << " dx " << errors.dx << " parameters "
      << errors.parameters;
}

TEST(Fox, LeavesOutClosedTilesInTheCacheToo) {
  ThreadTeam team(1);
  Case c({.options = fox(), .heads = 2, .kv_heads = 1, .lengths = {1500}});
  const auto cache = c.attention->make_cache(1500, DType::f32);
  feed_pieces(c, *cache, 0, 1400, 500, 1, team);
  feed_pieces(c, *cache, 1400, 1500, 1, 1, team);
  const auto expected = c.attention->reference_forward(c.reference_inputs(), c.layout());
  EXPECT_LT(relative_error(c.out.values(), expected), kF32Error);
  ASSERT_TRUE(cache->statistics());
  EXPECT_LT(cache->statistics()->visited, cache->statistics()->visible / 2);
}

TEST(Fox, StartsItsGatesWhereAskedAndDoesNotDecayTheBias) {
  const auto attention = make_attention(
      fox({{"gate_bias", 2.5}}),
      {.hidden_size = 8, .heads = 2, .kv_heads = 1, .head_dim = 4, .value_dim = 4}, 64);
  const auto specs = attention->parameters();
  ASSERT_EQ(specs.size(), 2U);
  EXPECT_EQ(specs[0].shape, (Shape{2, 8}));
  EXPECT_EQ(specs[1].initializer.value, 2.5);
  EXPECT_EQ(specs[1].group, ParameterGroup::vector);
  EXPECT_TRUE(attention->uses_hidden_state());
}

TEST(SoftmaxRelatives, RefuseBadOptionsByName) {
  const auto message = [](const AttentionOptions& options, size_t head_dim = 4) {
    try {
      make_attention(
          options,
          {.hidden_size = 8, .heads = 2, .kv_heads = 1, .head_dim = head_dim, .value_dim = 4}, 64);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(message(softmax({{"position", std::string("sine")}})), HasSubstr("\"alibi\""));
  EXPECT_THAT(message(softmax({{"window", -1.0}})), HasSubstr("window"));
  EXPECT_THAT(message(softmax({{"window", 2.5}})), HasSubstr("whole"));
  EXPECT_THAT(message(softmax({{"qk_conv", int64_t{17}}})), HasSubstr("16"));
  EXPECT_THAT(message(softmax({{"rope_factor", 0.5}})), HasSubstr("rope_factor"));
  EXPECT_THAT(message(softmax({{"rope_scaling", std::string("spiral")}})), HasSubstr("llama3"));
  EXPECT_THAT(message(softmax({{"qk_norm", true}, {"qk_conv", int64_t{3}}})), HasSubstr("qk_conv"));
  EXPECT_THAT(message(softmax({{"qk_norm", int64_t{1}}})), HasSubstr("true or false"));
  EXPECT_THAT(message(fox({{"qk_norm", true}})), HasSubstr("qk_norm"));
  EXPECT_THAT(message(fox({{"rope_scaling", kYarn}})), HasSubstr("yarn"));
  EXPECT_THAT(message(softmax({{"rope_scaling", std::string("ntk")}}), 2), HasSubstr("4 or more"));
  EXPECT_THAT(message(softmax({{"rope_low_freq_factor", 4.0}})),
              HasSubstr("rope_high_freq_factor"));
  EXPECT_THAT(message(fox({{"position", kAlibi}})), HasSubstr("gates"));
  EXPECT_THAT(message(fox({{"qk_conv", int64_t{3}}})), HasSubstr("qk_conv"));
  EXPECT_THAT(message(fox({{"gate_scale", -1.0}})), HasSubstr("gate_scale"));
  EXPECT_THAT(message(fox({{"gate_scale", std::string("big")}})), HasSubstr("inv_sqrt_d"));
  EXPECT_THAT(message(fox({{"gate_bais", 1.0}})), HasSubstr("gate_bias"));
}

TEST(Fox, SaysWhichInputIsWrong) {
  ThreadTeam team(1);
  const auto message = [&](auto spoil) {
    Case c({.options = fox(), .lengths = {20}});
    spoil(c);
    try {
      c.forward(team);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(message([](Case&) {}), "no error");
  EXPECT_THAT(message([](Case& c) { c.x = Rows(20, 1, 31, DType::f32, 0); }), HasSubstr("x"));
  EXPECT_THAT(message([](Case& c) { c.parameters.values.pop_back(); }), HasSubstr("parameters"));
  EXPECT_THAT(message([](Case& c) { c.parameters.values[1].size = 1; }), HasSubstr("f_proj.bias"));
  EXPECT_THAT(message([](Case& c) { c.offsets.back() = 21; }), HasSubstr("offsets"));
}

}  // namespace
}  // namespace cairn::attention_test
