#include "cairn/attention/path/path.h"
#include "cairn/base/error.h"
#include "tests/attention/harness.h"

namespace cairn::attention_test {
namespace {

using testing::HasSubstr;

constexpr double kError = 1e-5;

AttentionInputs slice(const Case& c, size_t begin, size_t count) {
  AttentionInputs in = c.inputs();
  in.x = {static_cast<std::byte*>(in.x.data) + begin * in.x.stride * dtype_size(in.x.dtype),
          in.x.dtype, count, in.x.cols, in.x.stride};
  in.q = tokens_of(in.q, begin, count);
  in.k = tokens_of(in.k, begin, count);
  in.v = tokens_of(in.v, begin, count);
  return in;
}

void append(Case& c, AttentionCache& cache, size_t count, ThreadTeam& team) {
  const size_t begin = cache.length();
  cache.append_and_attend(slice(c, begin, count), tokens_of(c.out.view(), begin, count), team);
}

// Feeds tokens up to `end` in random pieces of 1 to `longest`.
void feed(Case& c, AttentionCache& cache, size_t end, size_t longest, uint64_t seed,
          ThreadTeam& team) {
  const RandomStream stream(seed, "split");
  while (cache.length() < end) {
    const size_t begin = cache.length();
    append(c, cache, std::min(end - begin, 1 + stream.below(longest, begin)), team);
  }
}

Problem everything(int length) {
  Problem p{
      .options = {"path_fox", {{"qk_norm", true}, {"path_rank", int64_t{4}}, {"gate_scale", 0.5}}},
      .heads = 4,
      .kv_heads = 2,
      .head_dim = 16,
      .value_dim = 12,
      .lengths = {length}};
  p.parameter_amplitude = 0.5;
  return p;
}

std::vector<double> reference(const Case& c) {
  return c.attention->reference_forward(c.reference_inputs(), c.layout());
}

TEST(PathCache, AnySplitGivesTheFullForward) {
  ThreadTeam team(1);
  Case c(everything(1300));
  const auto expected = reference(c);
  for (const size_t longest : {1, 5, 20, 200, 1300}) {
    const auto cache = c.attention->make_cache(1300, DType::f32);
    feed(c, *cache, 1300, longest, longest, team);
    EXPECT_EQ(cache->length(), 1300U);
    EXPECT_LT(relative_error(c.out.values(), expected), kError) << "pieces up to " << longest;
  }
}

TEST(PathCache, EverySplitPointOfAPromptGivesTheSameContinuation) {
  ThreadTeam team(1);
  Case c(everything(302));
  const auto expected = reference(c);
  for (size_t split = 1; split <= 300; split += split < 70 ? 1 : 7) {
    const auto cache = c.attention->make_cache(400, DType::f32);
    append(c, *cache, split, team);
    if (split < 300) append(c, *cache, 300 - split, team);
    append(c, *cache, 1, team);
    append(c, *cache, 1, team);
    EXPECT_LT(relative_error(c.out.values(), expected), kError) << split;
  }
}

TEST(PathCache, WorksWithEveryFrontEndAndOddSizes) {
  ThreadTeam team(1);
  const std::vector<AttentionOptions> options = {
      {"path", {{"path_nh", int64_t{3}}, {"path_conv", int64_t{5}}}},
      {"path", {{"path_conv", int64_t{0}}, {"path_rank", int64_t{0}}}},
      {"path_fox", {{"path_conv", int64_t{2}}, {"path_rank", int64_t{0}}}},
  };
  for (const AttentionOptions& option : options)
    for (const size_t dim : {1, 7, 33, 80}) {
      Problem p = everything(150);
      p.options = option;
      p.head_dim = dim;
      p.value_dim = dim + 1;
      Case c(p);
      const auto cache = c.attention->make_cache(150, DType::f32);
      feed(c, *cache, 150, 30, dim, team);
      EXPECT_LT(relative_error(c.out.values(), reference(c)), kError) << dim;
    }
}

TEST(PathCache, KeepsBf16ToItsRounding) {
  ThreadTeam team(1);
  Case c(everything(1200));
  const auto expected = reference(c);
  for (const size_t longest : {1, 700}) {
    const auto cache = c.attention->make_cache(1200, DType::bf16);
    feed(c, *cache, 1200, longest, 3, team);
    EXPECT_LT(relative_error(c.out.values(), expected), 5e-3) << longest;
  }
  Problem p = everything(700);
  p.dtype = DType::bf16;
  Case half(p);
  const auto cache = half.attention->make_cache(700, DType::bf16);
  feed(half, *cache, 700, 90, 3, team);
  EXPECT_LT(relative_error(half.out.values(), reference(half)), 1.2e-2);
}

TEST(PathCache, GivesTheSameBitsWith1And3Threads) {
  ThreadTeam single(1), several(3, true);
  Case one(everything(800)), three(one.problem);
  const auto a = one.attention->make_cache(800, DType::f32);
  const auto b = three.attention->make_cache(800, DType::f32);
  feed(one, *a, 800, 90, 5, single);
  feed(three, *b, 800, 90, 5, several);
  EXPECT_EQ(one.out.bytes(), three.out.bytes());
}

TEST(PathCache, TruncatedContinuesAsIfNothingHadFollowed) {
  ThreadTeam team(1);
  Case c(everything(1700));
  const auto expected = reference(c);
  Case wrong(c.problem);
  for (Rows* rows : {&wrong.q, &wrong.k, &wrong.v, &wrong.x}) rows->fill(RandomStream(8, "w"), 2);
  // A few tokens in the open tile, over a tile, over the block, at a block's edge and just behind,
  // and everything.
  for (const size_t length : {1690, 1600, 1540, 1536, 1500, 1025, 1024, 512, 0}) {
    const auto cache = c.attention->make_cache(1700, DType::f32);
    feed(c, *cache, length, 300, 4, team);
    feed(wrong, *cache, 1700, 300, 5, team);
    cache->truncate(length);
    EXPECT_EQ(cache->length(), length);
    feed(c, *cache, 1700, 40, 6, team);
    EXPECT_LT(relative_error(c.out.values(), expected), kError) << length;
  }
}

// The published rule and the one between it and ours, for one key head with maps from the front
// end: every key is carried at every token, or all at once when a list of pending maps is full.
class CarriedKeys {
 public:
  CarriedKeys(size_t dim, size_t most_pending) : dim_(dim), most_(most_pending) {}

  // Scores of all keys for query q after the token's map and key have come.
  std::vector<double> step(const double* q, const double* k, const double* w, double beta) {
    if (pending_.size() == most_) flush();
    pending_.push_back({{k, k + dim_}, {w, w + dim_}, beta});
    std::vector<double> x(q, q + dim_), newest;
    for (size_t j = pending_.size(); j-- > 0;) {
      newest.push_back(dot(pending_[j].k, x));
      apply(pending_[j], x);
    }
    std::vector<double> scores;
    for (const auto& key : keys_) scores.push_back(dot(key, x));
    scores.insert(scores.end(), newest.rbegin(), newest.rend());
    return scores;
  }

 private:
  struct Pending {
    std::vector<double> k, w;
    double beta;
  };
  static double dot(const std::vector<double>& a, const std::vector<double>& b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
  }
  static void apply(const Pending& map, std::vector<double>& x) {
    const double along = map.beta * dot(map.w, x);
    for (size_t i = 0; i < x.size(); ++i) x[i] -= along * map.w[i];
  }
  void flush() {
    for (const Pending& token : pending_) {
      for (auto& key : keys_) apply(token, key);
      keys_.push_back(token.k);
    }
    pending_.clear();
  }

  size_t dim_, most_;
  std::vector<std::vector<double>> keys_;
  std::vector<Pending> pending_;
};

TEST(PathCache, AgreesWithThePublishedRuleAndWithLazyBlocks) {
  constexpr size_t kTokens = 700, kDim = 16;
  ThreadTeam team(1);
  Problem p = everything(kTokens);
  p.options = {"path", {}};
  p.heads = p.kv_heads = 1;
  p.value_dim = 1;
  Case c(p);
  const auto& room = dynamic_cast<const PathAttention&>(*c.attention);
  AlignedBuffer memory(1 << 24);
  Arena arena({memory.data(), memory.size()});
  const FrontRows rows = room.front().take_rows(arena, kTokens);
  const FrontWeights weights = room.front().take_weights(arena, false);
  room.front().forward(c.inputs(), c.layout(), weights, rows, arena, team);
  const auto cache = c.attention->make_cache(kTokens, DType::f32);
  feed(c, *cache, kTokens, 9, 1, team);
  const auto q = c.q.values(), k = c.k.values();
  const std::vector<double> w(rows.w, rows.w + kTokens * kDim);
  for (const size_t pending : {1, 64}) {
    CarriedKeys keys(kDim, pending);
    std::vector<double> out;
    for (size_t t = 0; t < kTokens; ++t) {
      auto weight =
          keys.step(q.data() + t * kDim, k.data() + t * kDim, w.data() + t * kDim, rows.beta[t]);
      double sum = 0, value = 0;
      for (size_t j = 0; j <= t; ++j) {
        sum += weight[j] = std::exp(weight[j] / std::sqrt(static_cast<double>(kDim)));
        value += weight[j] * c.v.get(j, 0);
      }
      out.push_back(value / sum);
    }
    EXPECT_LT(relative_error(c.out.values(), out), kError) << pending;
  }
}

TEST(PathCache, RefusesToReopenABlockThatIsTooOld) {
  ThreadTeam team(1);
  Case c(everything(1700));
  const auto cache = c.attention->make_cache(1700, DType::f32);
  feed(c, *cache, 1700, 400, 4, team);
  try {
    cache->truncate(700);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_THAT(error.what(), HasSubstr("512"));
    EXPECT_THAT(error.what(), HasSubstr("1024"));
  }
  EXPECT_EQ(cache->length(), 1700U);
  EXPECT_THROW(cache->truncate(1701), Error);
}

TEST(PathCache, ForksAreIndependent) {
  ThreadTeam team(1);
  Case c(everything(900));
  const auto cache = c.attention->make_cache(900, DType::f32);
  feed(c, *cache, 700, 200, 1, team);
  const auto fork = cache->fork();
  EXPECT_EQ(fork->length(), 700U);
  Case other(c.problem);
  for (Rows* rows : {&other.k, &other.v, &other.x}) rows->fill(RandomStream(9, "other"), 3);
  feed(other, *cache, 900, 50, 1, team);
  feed(c, *fork, 900, 50, 1, team);
  EXPECT_LT(relative_error(c.out.values(), reference(c)), kError);
}

TEST(PathCache, RefusesMoreThanItsCapacityAndStaysAsItWas) {
  ThreadTeam team(1);
  Case c(everything(50));
  const auto cache = c.attention->make_cache(40, DType::f32);
  feed(c, *cache, 30, 30, 1, team);
  EXPECT_THROW(append(c, *cache, 11, team), Error);
  EXPECT_EQ(cache->length(), 30U);
  append(c, *cache, 10, team);
  EXPECT_EQ(cache->length(), 40U);
}

}  // namespace
}  // namespace cairn::attention_test
