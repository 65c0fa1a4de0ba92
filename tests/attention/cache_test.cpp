#include "cairn/base/error.h"
#include "tests/attention/feeding.h"

namespace cairn::attention_test {
namespace {

std::vector<double> reference(const Case& c) {
  return c.attention->reference_forward(c.reference_inputs(), c.layout());
}

TEST(SoftmaxCache, AnySplitGivesTheFullForward) {
  ThreadTeam team(1);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const size_t longest : {1, 3, 20, 200, 700}) {
      Case c({.heads = 6,
              .kv_heads = 2,
              .head_dim = 32,
              .value_dim = 24,
              .lengths = {700},
              .dtype = dtype,
              .gap = 3});
      const auto cache = c.attention->make_cache(700, dtype);
      feed_pieces(c, *cache, 0, 700, longest, longest, team);
      EXPECT_EQ(cache->length(), 700U);
      EXPECT_LT(relative_error(c.out.values(), reference(c)), dtype == DType::f32 ? 1e-5 : 1.2e-2)
          << dtype_name(dtype) << " pieces up to " << longest;
    }
  }
}

TEST(SoftmaxCache, WorksAtOddHeadSizes) {
  ThreadTeam team(1);
  for (const size_t dim : {1, 7, 33, 80, 129}) {
    Problem p{.heads = 3, .kv_heads = 1, .head_dim = dim, .value_dim = dim + 1, .lengths = {90}};
    p.options.values["position"] = std::string("none");
    Case c(p);
    const auto cache = c.attention->make_cache(100, DType::f32);
    feed_pieces(c, *cache, 0, 90, 12, dim, team);
    EXPECT_LT(relative_error(c.out.values(), reference(c)), 1e-5) << dim;
  }
}

TEST(SoftmaxCache, KeepsBf16ForF32Callers) {
  ThreadTeam team(1);
  Case c({.lengths = {100}});
  const auto cache = c.attention->make_cache(100, DType::bf16);
  const auto full = c.attention->make_cache(100, DType::f32);
  EXPECT_EQ(2 * cache->bytes(), full->bytes());
  feed_pieces(c, *cache, 0, 100, 1, 1, team);
  EXPECT_LT(relative_error(c.out.values(), reference(c)), 1e-2);
}

TEST(SoftmaxCache, GivesTheSameBitsWith1And3Threads) {
  ThreadTeam single(1), several(3, true);
  Case one({.heads = 4, .kv_heads = 2, .lengths = {600}}), three(one.problem);
  const auto a = one.attention->make_cache(600, DType::f32);
  const auto b = three.attention->make_cache(600, DType::f32);
  feed_pieces(one, *a, 0, 600, 90, 5, single);
  feed_pieces(three, *b, 0, 600, 90, 5, several);
  EXPECT_EQ(one.out.bytes(), three.out.bytes());
}

TEST(SoftmaxCache, TruncatedContinuesAsIfNothingHadFollowed) {
  ThreadTeam team(1);
  Case c({.lengths = {120}});
  const auto cache = c.attention->make_cache(150, DType::f32);
  feed_pieces(c, *cache, 0, 120, 40, 1, team);
  cache->truncate(50);
  EXPECT_EQ(cache->length(), 50U);
  Rows wrong(30, 1, 16, DType::f32, 0);
  feed_pieces(c, *cache, 50, 120, 9, 2, team);
  EXPECT_LT(relative_error(c.out.values(), reference(c)), 1e-5);
  EXPECT_THROW(cache->truncate(121), Error);
}

TEST(SoftmaxCache, ForksAreIndependent) {
  ThreadTeam team(1);
  Case c({.heads = 4, .kv_heads = 2, .lengths = {100}});
  const auto cache = c.attention->make_cache(100, DType::f32);
  feed_pieces(c, *cache, 0, 60, 60, 1, team);
  const auto fork = cache->fork();
  EXPECT_EQ(fork->length(), 60U);
  Case other(c.problem);
  other.k.fill(RandomStream(9, "other"), 3);
  other.v.fill(RandomStream(9, "other"), 3);
  feed_pieces(other, *cache, 60, 100, 5, 1, team);
  feed_pieces(c, *fork, 60, 100, 5, 1, team);
  EXPECT_LT(relative_error(c.out.values(), reference(c)), 1e-5);
}

TEST(SoftmaxCache, RefusesMoreThanItsCapacityAndStaysAsItWas) {
  ThreadTeam team(1);
  Case c({.lengths = {50}});
  const auto cache = c.attention->make_cache(40, DType::f32);
  feed_pieces(c, *cache, 0, 30, 30, 1, team);
  EXPECT_THROW(
      cache->append_and_attend(inputs_of(c, 30, 11), tokens_of(c.out.view(), 30, 11), team), Error);
  EXPECT_EQ(cache->length(), 30U);
  cache->append_and_attend(inputs_of(c, 30, 10), tokens_of(c.out.view(), 30, 10), team);
  EXPECT_EQ(cache->length(), 40U);
}

TEST(SoftmaxCache, RefusesPositionsBeyondTheContext) {
  ThreadTeam team(1);
  Problem p{.lengths = {50}};
  p.context = 40;
  Case c(p);
  const auto cache = c.attention->make_cache(100, DType::f32);
  EXPECT_THROW(cache->append_and_attend(inputs_of(c, 0, 50), c.out.view(), team), Error);
  EXPECT_EQ(cache->length(), 0U);
}

}  // namespace
}  // namespace cairn::attention_test
