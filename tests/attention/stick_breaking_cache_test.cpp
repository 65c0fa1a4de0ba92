#include "cairn/base/error.h"
#include "tests/attention/stick_breaking_harness.h"

namespace cairn::attention_test {
namespace {

const OptionValue kNone = std::string("none"), kValue = std::string("value"),
                  kHeadBias = std::string("head_bias");

AttentionInputs slice(const Case& c, size_t begin, size_t count) {
  AttentionInputs in = c.inputs();
  in.q = tokens_of(in.q, begin, count);
  in.k = tokens_of(in.k, begin, count);
  in.v = tokens_of(in.v, begin, count);
  return in;
}

// Feeds the tokens [begin, end) of `c` to the cache in random pieces of 1 to `longest`.
void feed(Case& c, AttentionCache& cache, size_t begin, size_t end, size_t longest, uint64_t seed,
          ThreadTeam& team) {
  const RandomStream stream(seed, "split");
  while (begin < end) {
    const size_t count = std::min(end - begin, 1 + stream.below(longest, begin));
    cache.append_and_attend(slice(c, begin, count), tokens_of(c.out.view(), begin, count), team);
    begin += count;
  }
}

std::vector<double> reference(const Case& c) {
  return c.attention->reference_forward(c.reference_inputs(), c.layout());
}

TEST(StickBreakingCache, AnySplitGivesTheFullForward) {
  ThreadTeam team(2, true);
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const OptionValue& remainder : {kNone, kValue, kHeadBias})
      for (const bool current : {false, true}) {
        StickCase c({.options = stick_options({{"remainder", remainder},
                                               {"attend_current", current},
                                               {"logit_bias", true},
                                               {"exit_threshold", current ? 0.0 : 0x1p-24}}),
                     .heads = 6,
                     .kv_heads = 2,
                     .head_dim = 32,
                     .value_dim = 24,
                     .lengths = {700},
                     .dtype = dtype,
                     .gap = 3});
        c.spread_logits(-3, 2);  // some sticks last, some do not
        const auto expected = reference(c);
        for (const size_t longest : {1, 3, 20, 200, 700}) {
          const auto cache = c.attention->make_cache(700, dtype);
          feed(c, *cache, 0, 700, longest, longest, team);
          EXPECT_EQ(cache->length(), 700U);
          EXPECT_LE(relative_error(c.out.values(), expected), dtype == DType::f32 ? 2e-6 : 1e-2)
              << dtype_name(dtype) << " pieces up to " << longest;
        }
      }
}

TEST(StickBreakingCache, NormalizesHeadsAndKeepsToTheFloor) {
  ThreadTeam team(1);
  StickCase c({.options = stick_options({{"head_norm", true}, {"gate_floor", 0.1}}),
               .heads = 4,
               .kv_heads = 2,
               .lengths = {90}});
  for (const size_t longest : {1, 30}) {
    const auto cache = c.attention->make_cache(90, DType::f32);
    feed(c, *cache, 0, 90, longest, 1, team);
    EXPECT_LE(relative_error(c.out.values(), reference(c)), 2e-6) << longest;
  }
}

TEST(StickBreakingCache, WorksAtOddHeadSizes) {
  ThreadTeam team(1);
  for (const size_t dim : {1, 7, 33, 80, 129}) {
    StickCase c({.options = stick_options(),
                 .heads = 3,
                 .kv_heads = 1,
                 .head_dim = dim,
                 .value_dim = dim + 1,
                 .lengths = {90}});
    const auto cache = c.attention->make_cache(100, DType::f32);
    feed(c, *cache, 0, 90, 12, dim, team);
    EXPECT_LE(relative_error(c.out.values(), reference(c)), 2e-6) << dim;
  }
}

TEST(StickBreakingCache, KeepsBf16ForF32Callers) {
  ThreadTeam team(1);
  for (const size_t longest : {1, 40}) {
    StickCase c({.options = stick_options({{"remainder", kValue}}), .lengths = {100}});
    const auto cache = c.attention->make_cache(100, DType::bf16);
    const auto full = c.attention->make_cache(100, DType::f32);
    EXPECT_EQ(2 * cache->bytes(), full->bytes());
    feed(c, *cache, 0, 100, longest, 1, team);
    EXPECT_LE(relative_error(c.out.values(), reference(c)), 1e-2);
  }
}

// Sticks that last over many ranges, with and without an end.
TEST(StickBreakingCache, GivesTheSameBitsAndCountsWith1And3Threads) {
  ThreadTeam single(1), several(3, true);
  for (const double threshold : {0.0, 1e-4}) {
    const Problem p{.options = stick_options({{"exit_threshold", threshold}}),
                    .heads = 4,
                    .kv_heads = 2,
                    .lengths = {1900}};
    StickCase one(p), three(p);
    one.spread_logits(-5, 1);
    three.spread_logits(-5, 1);
    const auto a = one.attention->make_cache(1900, DType::f32);
    const auto b = three.attention->make_cache(1900, DType::f32);
    for (const auto& [c, cache, team] :
         {std::tuple(&one, a.get(), &single), std::tuple(&three, b.get(), &several)}) {
      feed(*c, *cache, 0, 1880, 500, 5, *team);
      feed(*c, *cache, 1880, 1900, 3, 5, *team);
    }
    EXPECT_EQ(one.out.bytes(), three.out.bytes());
    EXPECT_EQ(a->statistics()->visited, b->statistics()->visited);
    EXPECT_EQ(a->statistics()->visited<a->statistics()->visible, threshold> 0);
  }
}

TEST(StickBreakingCache, ReadsOnlyWhatTheStickReaches) {
  ThreadTeam team(1);
  StickCase c({.options = stick_options(), .heads = 2, .kv_heads = 1, .lengths = {2000}});
  c.spread_logits(2, 1);
  const auto cache = c.attention->make_cache(2000, DType::f32);
  feed(c, *cache, 0, 1999, 1999, 1, team);
  const AttentionStatistics before = *cache->statistics();
  feed(c, *cache, 1999, 2000, 1, 1, team);
  EXPECT_EQ(cache->statistics()->visible - before.visible, 2U * 1999);
  EXPECT_EQ(cache->statistics()->visited - before.visited, 2U * 64);
  double sum = 0;
  const auto expected = stick_breaking_reference(c.core, c.core_reference(), c.cuts());
  for (const double r : expected.remainder) sum += r;
  EXPECT_NEAR(cache->statistics()->mean_remainder, sum / 4000, 1e-6);
}

TEST(StickBreakingCache, ExitKeepsItsBound) {
  ThreadTeam team(1);
  for (const double threshold : {1e-6, 1e-4, 1e-2}) {
    StickCase c({.options = stick_options({{"exit_threshold", threshold}}), .lengths = {1200}});
    c.spread_logits(-4, 2);
    double widest = 0;
    for (const double v : c.v.values()) widest = std::max(widest, std::abs(v));
    for (const float w : c.parameters.values[0]) widest = std::max(widest, 1.0 * std::abs(w));
    const auto cache = c.attention->make_cache(1200, DType::f32);
    feed(c, *cache, 0, 1170, 1170, 1, team);
    feed(c, *cache, 1170, 1200, 3, 1, team);
    const auto expected = reference(c);
    const auto out = c.out.values();
    // A range ends its own walk too: two leftovers.
    for (size_t i = 0; i < out.size(); ++i)
      ASSERT_LE(std::abs(out[i] - expected[i]), 4 * threshold * widest + 2e-6) << threshold;
  }
}

TEST(StickBreakingCache, TruncatedContinuesAsIfNothingHadFollowed) {
  ThreadTeam team(1);
  StickCase c({.options = stick_options(), .lengths = {120}});
  const auto cache = c.attention->make_cache(150, DType::f32);
  feed(c, *cache, 0, 120, 40, 1, team);
  cache->truncate(50);
  EXPECT_EQ(cache->length(), 50U);
  feed(c, *cache, 50, 120, 9, 2, team);
  EXPECT_LE(relative_error(c.out.values(), reference(c)), 2e-6);
  EXPECT_THROW(cache->truncate(121), Error);
  cache->truncate(0);
  feed(c, *cache, 0, 120, 1, 3, team);
  EXPECT_LE(relative_error(c.out.values(), reference(c)), 2e-6);
}

TEST(StickBreakingCache, ForksAreIndependent) {
  ThreadTeam team(1);
  StickCase c({.options = stick_options(), .heads = 4, .kv_heads = 2, .lengths = {100}});
  const auto cache = c.attention->make_cache(100, DType::f32);
  feed(c, *cache, 0, 60, 60, 1, team);
  const auto fork = cache->fork();
  EXPECT_EQ(fork->length(), 60U);
  EXPECT_EQ(fork->statistics()->visited, cache->statistics()->visited);
  StickCase other(c.problem);
  other.k.fill(RandomStream(9, "other"), 3);
  other.v.fill(RandomStream(9, "other"), 3);
  feed(other, *cache, 60, 100, 5, 1, team);
  feed(c, *fork, 60, 100, 5, 1, team);
  EXPECT_LE(relative_error(c.out.values(), reference(c)), 2e-6);
}

TEST(StickBreakingCache, RefusesMoreThanItsCapacityAndStaysAsItWas) {
  ThreadTeam team(1);
  StickCase c({.options = stick_options(), .lengths = {50}});
  const auto cache = c.attention->make_cache(40, DType::f32);
  feed(c, *cache, 0, 30, 30, 1, team);
  EXPECT_THROW(cache->append_and_attend(slice(c, 30, 11), tokens_of(c.out.view(), 30, 11), team),
               Error);
  AttentionInputs nameless = slice(c, 30, 2);
  nameless.parameters = {};
  EXPECT_THROW(cache->append_and_attend(nameless, tokens_of(c.out.view(), 30, 2), team), Error);
  EXPECT_EQ(cache->length(), 30U);
  cache->append_and_attend(slice(c, 30, 10), tokens_of(c.out.view(), 30, 10), team);
  EXPECT_EQ(cache->length(), 40U);
  EXPECT_THROW(c.attention->make_cache(10, DType::f16), Error);
}

}  // namespace
}  // namespace cairn::attention_test
