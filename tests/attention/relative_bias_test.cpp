// Attention with a bias of distance: causal, both ways, and to another stream.
#include <fstream>

#include "cairn/attention/relative_bias/buckets.h"
#include "cairn/base/error.h"
#include "tests/attention/feeding.h"
#include "tests/support/golden.h"

namespace cairn::attention_test {
namespace {

using testing::HasSubstr;
using Values = std::map<std::string, OptionValue>;

constexpr double kF32Error = 1e-5;
constexpr double kBf16Error = 2e-2;

double bound_of(DType dtype) {
  return dtype == DType::f32 ? kF32Error : kBf16Error;
}

AttentionOptions relative(const std::string& mask, Values values = {}) {
  values["mask"] = mask;
  return {"relative_bias", values};
}

// Of a mask, and with borders of buckets inside a tile, further than one, and further than a text.
std::vector<AttentionOptions> kinds() {
  std::vector<AttentionOptions> kinds{relative("cross")};
  for (const char* mask : {"causal", "bidirectional"}) {
    kinds.push_back(relative(mask));
    kinds.push_back(relative(mask, {{"buckets", int64_t{8}}, {"max_distance", int64_t{20}}}));
    kinds.push_back(relative(mask, {{"buckets", int64_t{12}}, {"max_distance", int64_t{5000}}}));
  }
  return kinds;
}

std::string label(const AttentionOptions& options) {
  std::string text = std::get<std::string>(options.values.at("mask"));
  for (const auto& [key, value] : options.values)
    if (const auto* number = std::get_if<int64_t>(&value))
      text.append(" ").append(std::to_string(*number));
  return text;
}

// A problem of the room; in cross-attention with keys of other lengths, some of them none.
Problem problem_of(const AttentionOptions& options, const std::vector<int>& lengths, DType dtype) {
  Problem p{.options = options, .lengths = lengths, .dtype = dtype};
  p.parameter_amplitude = 2;
  if (!crosses(options)) return p;
  for (size_t i = 0; i < lengths.size(); ++i)
    p.key_lengths.push_back(i % 4 == 2 ? 0 : 2 * lengths[i] / (1 + i % 3) + 1);
  return p;
}

void expect_close(const Problem& p, int threads = 2) {
  const Errors errors = errors_of(p, threads);
  EXPECT_LT(errors.worst(), bound_of(p.dtype))
      << label(p.options) << " " << dtype_name(p.dtype) << " " << testing::PrintToString(p.lengths)
      << " out " << errors.out << " dq " << errors.dq << " dk " << errors.dk << " dv " << errors.dv
      << " parameters " << errors.parameters;
}

TEST(DistanceBuckets, AreThoseOfTransformers) {
  std::ifstream file(golden_folder() / "attention" / "relative_buckets.txt");
  size_t cases = 0;
  for (size_t both, count, furthest; file >> both >> count >> furthest; ++cases) {
    const DistanceBuckets buckets(count, furthest, both != 0);
    int64_t distance = -600;
    for (int bucket, run; file >> bucket >> run && run > 0;)
      for (; run > 0; --run, ++distance)
        EXPECT_EQ(buckets.of(distance), bucket) << "of " << distance << " with " << count;
    EXPECT_EQ(distance, 601);
  }
  EXPECT_EQ(cases, 7U);
}

TEST(RelativeBiasReference, GradientsAreCentralDifferences) {
  for (const AttentionOptions& options : kinds()) {
    Problem p = problem_of(options, {9, 5, 2, 4}, DType::f32);
    p.heads = 4;
    p.kv_heads = 2;
    p.head_dim = 4;
    p.value_dim = 3;
    p.scale = 1;
    EXPECT_LT(reference_gradient_error(p), 1e-6) << label(options);
  }
}

// By hand: two tokens, one dimension, T5's scale of 1.
TEST(RelativeBiasReference, AddsTheEntryOfTheDistanceToTheProduct) {
  Case c({.options =
              relative("bidirectional", {{"buckets", int64_t{4}}, {"max_distance", int64_t{2}}}),
          .heads = 1,
          .kv_heads = 1,
          .head_dim = 1,
          .value_dim = 1,
          .scale = 1,
          .lengths = {2}});
  const std::vector<double> table = {0.3, -0.2, 0.9, 0.7};
  const AttentionMechanism::Reference in{{}, {2, -1}, {1, 3}, {10, 20}, {table}};
  const auto out = c.attention->reference_forward(in, c.layout());
  const auto mean = [](double a, double b) {
    return (10 * std::exp(a) + 20 * std::exp(b)) / (std::exp(a) + std::exp(b));
  };
  // Bucket 0: itself; 1: the key before; 3: the key after.
  EXPECT_NEAR(out[0], mean(2 * 1 + 0.3, 2 * 3 + 0.7), 1e-12);
  EXPECT_NEAR(out[1], mean(-1 * 1 - 0.2, -1 * 3 + 0.3), 1e-12);
}

TEST(RelativeBias, MatchesFloat64) {
  for (const AttentionOptions& options : kinds()) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      for (const int length : {2, 63, 64, 65, 130, 321})
        expect_close(problem_of(options, {length}, dtype));
      Problem p = problem_of(options, {30, 1, 90, 64, 200, 3}, dtype);
      p.heads = 6;
      p.kv_heads = 2;
      p.head_dim = 24;
      p.value_dim = 40;
      p.gap = 5;
      expect_close(p);
      expect_close(problem_of(options, std::vector<int>(100, 3), dtype));
      expect_close(problem_of(options, {300, 0, 5, 0, 0}, dtype));
    }
  }
}

// So long that units of work share gradients over several rounds.
TEST(RelativeBias, MatchesFloat64OverManyTiles) {
  for (const AttentionOptions& options :
       {relative("causal"), relative("bidirectional"), relative("cross")}) {
    Problem p = problem_of(options, {2300, 10, 700}, DType::f32);
    p.heads = p.kv_heads = 1;
    expect_close(p, 3);
  }
}

TEST(RelativeBias, MatchesFloat64AtEveryHeadSize) {
  for (const AttentionOptions& options : kinds())
    for (const size_t dim : {1, 7, 33, 64, 128}) {
      Problem p = problem_of(options, {77}, DType::f32);
      p.head_dim = dim;
      p.value_dim = dim + 1;
      expect_close(p);
    }
}

TEST(RelativeBias, GivesTheSameBitsWith1And3Threads) {
  for (const AttentionOptions& options : kinds()) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      Problem p = problem_of(options, {700, 100, 0, 200}, dtype);
      p.heads = 4;
      p.kv_heads = 2;
      Case one(p), three(p);
      expect_same_bits(one, three, label(options));
    }
  }
}

TEST(RelativeBias, AddsToTheGradientOfTheTable) {
  ThreadTeam team(1);
  Case c(problem_of(relative("causal"), {100}, DType::f32));
  c.forward(team);
  c.backward(team);
  const auto once = joined(c.parameters.gradients);
  c.backward(team);
  const auto twice = joined(c.parameters.gradients);
  for (size_t i = 0; i < once.size(); ++i) EXPECT_FLOAT_EQ(twice[i], 2 * once[i]);
}

TEST(RelativeBias, ALargeBiasDoesNotOverflowInPadding) {
  ThreadTeam team(1);
  for (const AttentionOptions& options : kinds()) {
    Problem p = problem_of(options, {70}, DType::bf16);
    p.parameter_amplitude = 200;
    p.scale = 0.01F;
    Case c(p);
    c.forward(team);
    c.backward(team);
    std::vector<double> all = joined(c.parameters.gradients);
    for (const auto rows : {&Case::out, &Case::dq, &Case::dk, &Case::dv})
      for (const double value : (c.*rows).values()) all.push_back(value);
    EXPECT_TRUE(std::all_of(all.begin(), all.end(), [](double x) { return std::isfinite(x); }))
        << label(options);
  }
}

TEST(RelativeBias, CausalQueriesDoNotSeeWhatFollowsAndOthersDo) {
  ThreadTeam team(1);
  for (const char* mask : {"causal", "bidirectional"}) {
    Case before(problem_of(relative(mask), {80}, DType::f32)), after(before.problem);
    for (size_t i = 0; i < 16; ++i) after.v.set(79, i, 100);
    before.forward(team);
    after.forward(team);
    const bool same = before.out.get(0, 0) == after.out.get(0, 0);
    EXPECT_EQ(same, std::string(mask) == "causal");
  }
}

TEST(RelativeBias, QueriesWithoutKeysGetZero) {
  ThreadTeam team(1);
  Problem p{.options = relative("cross"), .lengths = {3, 70, 2}};
  p.key_lengths = {4, 0, 1};
  Case c(p);
  c.forward(team);
  for (size_t t = 3; t < 73; ++t)
    for (size_t i = 0; i < 32; ++i) EXPECT_EQ(c.out.get(t, i), 0) << t;
  EXPECT_NE(c.out.get(73, 0), 0);
}

TEST(RelativeBiasCache, AnySplitGivesTheFullForward) {
  ThreadTeam team(1);
  for (const AttentionOptions& options :
       {relative("causal"), relative("causal", {{"max_distance", int64_t{400}}})}) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      for (const size_t longest : {1, 3, 20, 200, 700}) {
        Problem p = problem_of(options, {700}, dtype);
        p.heads = 6;
        p.kv_heads = 2;
        p.gap = 3;
        Case c(p);
        const auto cache = c.attention->make_cache(700, dtype);
        feed_pieces(c, *cache, 0, 700, longest, longest, team);
        EXPECT_LT(relative_error(c.out.values(),
                                 c.attention->reference_forward(c.reference_inputs(), c.layout())),
                  bound_of(dtype))
            << label(options) << " " << dtype_name(dtype) << " pieces up to " << longest;
      }
    }
  }
}

TEST(RelativeBiasCache, TruncatedAndForkedItContinuesAsIfNothingHadFollowed) {
  ThreadTeam team(1);
  Case c(problem_of(relative("causal"), {300}, DType::f32));
  const auto cache = c.attention->make_cache(300, DType::f32);
  feed_pieces(c, *cache, 0, 300, 70, 1, team);
  cache->truncate(50);
  feed_pieces(c, *cache, 50, 120, 9, 2, team);
  const auto fork = cache->fork();
  feed_pieces(c, *fork, 120, 300, 30, 3, team);
  EXPECT_EQ(cache->length(), 120U);
  EXPECT_LT(relative_error(c.out.values(),
                           c.attention->reference_forward(c.reference_inputs(), c.layout())),
            kF32Error);
}

// The source in two pieces, then the queries in pieces of `longest`.
void feed_source_and_queries(Case& c, AttentionCache& cache, size_t longest, ThreadTeam& team) {
  for (const auto& [begin, count] : {std::pair<size_t, size_t>{0, 31}, {31, c.keys - 31}}) {
    AttentionInputs source;
    source.k = tokens_of(c.k.view(), begin, count);
    source.v = tokens_of(c.v.view(), begin, count);
    cache.append_and_attend(source, {}, team);
  }
  for (size_t begin = 0; begin < c.tokens; begin += longest) {
    const size_t count = std::min(longest, c.tokens - begin);
    AttentionInputs queries;
    queries.q = tokens_of(c.q.view(), begin, count);
    cache.append_and_attend(queries, tokens_of(c.out.view(), begin, count), team);
  }
}

TEST(RelativeBiasCache, TakesASourceOnceAndItsQueriesAfterwards) {
  ThreadTeam team(2, true);
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const int keys : {40, 64, 300})
      for (const size_t longest : {1, 7, 64, 150}) {
        Problem p{.options = relative("cross"), .heads = 4, .kv_heads = 2, .lengths = {150}};
        p.key_lengths = {keys};
        p.dtype = dtype;
        Case c(p);
        const auto cache = c.attention->make_cache(c.keys, dtype);
        feed_source_and_queries(c, *cache, longest, team);
        EXPECT_EQ(cache->length(), c.keys);
        EXPECT_LT(relative_error(c.out.values(),
                                 c.attention->reference_forward(c.reference_inputs(), c.layout())),
                  bound_of(dtype))
            << keys << " keys, queries by " << longest;
      }
}

TEST(RelativeBiasCache, OfASourceRefusesWhatItCannotDo) {
  ThreadTeam team(1);
  Problem p{.options = relative("cross"), .lengths = {5}};
  p.key_lengths = {9};
  Case c(p);
  const auto cache = c.attention->make_cache(8, DType::f32);
  AttentionInputs queries = c.inputs(), source = c.inputs();
  queries.k.tokens = queries.v.tokens = 0;
  source.q.tokens = 0;
  EXPECT_THROW(cache->append_and_attend(queries, c.out.view(), team), Error);  // no source yet
  EXPECT_THROW(cache->append_and_attend(source, {}, team), Error);             // too long
  EXPECT_EQ(cache->length(), 0U);
  source.v.tokens = 3;
  EXPECT_THROW(cache->append_and_attend(source, {}, team), Error);
}

TEST(RelativeBiasCache, IsRefusedWhereLaterKeysCount) {
  const Case c(problem_of(relative("bidirectional"), {5}, DType::f32));
  try {
    c.attention->make_cache(10, DType::f32);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("bidirectional"));
  }
}

std::string refusal(const AttentionOptions& options) {
  try {
    Case c({.options = options});
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(RelativeBiasOptions, RefuseWhatDoesNotFit) {
  EXPECT_THAT(refusal({"relative_bias", {{"rope_theta", 1.0}}}), HasSubstr("option rope_theta"));
  EXPECT_THAT(refusal(relative("both")), HasSubstr("bidirectional"));
  EXPECT_THAT(refusal(relative("causal", {{"buckets", int64_t{1}}})), HasSubstr("buckets"));
  EXPECT_THAT(refusal(relative("causal", {{"buckets", 2.5}})), HasSubstr("buckets"));
  EXPECT_THAT(refusal(relative("bidirectional", {{"buckets", int64_t{31}}})), HasSubstr("even"));
  EXPECT_THAT(refusal(relative("causal", {{"max_distance", int64_t{16}}})),
              HasSubstr("more than 16"));
  EXPECT_THAT(refusal(relative("cross", {{"buckets", int64_t{32}}})), HasSubstr("cross"));
  EXPECT_EQ(refusal(relative("bidirectional", {{"max_distance", int64_t{9}}})), "");
}

TEST(RelativeBiasOptions, SayWhatTheTableIs) {
  const Case causal(problem_of(relative("causal"), {5}, DType::f32));
  ASSERT_EQ(causal.attention->parameters().size(), 1U);
  const ParameterSpec table = causal.attention->parameters().front();
  EXPECT_EQ(table.name, "relative_attention_bias.weight");
  EXPECT_EQ(table.shape, (Shape{32, 2}));
  EXPECT_EQ(table.group, ParameterGroup::vector);
  const Case cross(problem_of(relative("cross"), {5}, DType::f32));
  EXPECT_TRUE(cross.attention->parameters().empty());
  EXPECT_EQ(cross.attention->mask(), AttentionMask::cross);
}

TEST(RelativeBias, RefusesLayoutsThatDoNotFitItsKeys) {
  ThreadTeam team(1);
  Problem p{.options = relative("cross"), .lengths = {5, 6}};
  p.key_lengths = {9, 2};
  for (const std::vector<int32_t>& wrong :
       {std::vector<int32_t>{}, {0, 11}, {0, 9, 10}, {0, 12, 11}, {1, 9, 11}, {0, 9, 9, 11}}) {
    Case c(p);
    c.key_offsets = wrong;
    EXPECT_THROW(c.forward(team), Error) << testing::PrintToString(wrong);
  }
  Case c(p);
  c.parameters.values.emplace_back();
  EXPECT_THROW(c.forward(team), Error);
}

}  // namespace
}  // namespace cairn::attention_test
