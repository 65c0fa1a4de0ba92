#include "cairn/infer/attention_step.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "cairn/base/error.h"
#include "cairn/base/random.h"
#include "cairn/infer/paged_cache.h"
#include "tests/support/targets.h"

namespace cairn {
namespace {

// One key head over `length` positions, random, and what one query at the end attends to.
struct Case {
  size_t head_dim, value_dim, length;
  DType dtype;
  std::vector<float> keys, values, query;
  PagedCache cache;

  Case(size_t k, size_t v, size_t n, DType type)
      : head_dim(k),
        value_dim(v),
        length(n),
        dtype(type),
        keys(n * k),
        values(n * v),
        query(k),
        cache({.layers = 2, .kv_heads = 2, .head_dim = k, .value_dim = v, .dtype = type}) {
    const RandomStream stream(7, "attention step");
    for (size_t i = 0; i < keys.size(); ++i) keys[i] = rounded(stream.normal(i));
    for (size_t i = 0; i < values.size(); ++i) values[i] = rounded(stream.normal(i, 1));
    for (size_t i = 0; i < k; ++i) query[i] = static_cast<float>(stream.normal(i, 2));
    cache.prepare(0, n);
    for (size_t p = 0; p < n; ++p) {
      store_key(&keys[p * k], k, p % PagedCache::kPage, type, cache.keys(1, 1, p));
      store_value(&values[p * v], v, p % PagedCache::kPage, type, cache.values(1, 1, p));
    }
  }

  float rounded(double value) const {
    const auto f = static_cast<float>(value);
    if (dtype == DType::f16) return f16::from_float(f).to_float();
    return dtype == DType::bf16 ? bf16::from_float(f).to_float() : f;
  }

  CachedChunk chunk(size_t c) const {
    const size_t slot = c * kAttentionChunk % PagedCache::kPage, size = dtype_size(dtype);
    return {dtype, cache.keys(1, 1, c * kAttentionChunk) + slot * head_dim * size,
            cache.values(1, 1, c * kAttentionChunk) + slot * value_dim * size, head_dim, value_dim};
  }

  // `copies` equal queries over positions [first, length), all of them in one call a chunk.
  std::vector<float> attend(size_t first, size_t copies) const {
    const size_t part = attention_part_size(value_dim);
    std::vector<float> sums, out(value_dim);
    for (size_t c = first / kAttentionChunk; c * kAttentionChunk < length; ++c) {
      const size_t low = c * kAttentionChunk;
      std::vector<float> parts(copies * part);
      std::vector<ChunkQuery> queries(copies);
      for (size_t i = 0; i < copies; ++i)
        queries[i] = {query.data(), std::max(low, first) - low,
                      std::min(low + kAttentionChunk, length) - low, &parts[i * part]};
      attend_chunk(chunk(c), queries.data(), copies);
      for (size_t i = 1; i < copies; ++i)
        EXPECT_EQ(std::memcmp(&parts[0], &parts[i * part], (value_dim + 2) * sizeof(float)), 0);
      if (sums.empty())
        sums = parts;
      else
        merge_part(parts.data(), value_dim, sums.data());
    }
    finish_part(sums.data(), value_dim, out.data());
    return out;
  }

  std::vector<double> expected(size_t first) const {
    std::vector<double> weight(length), out(value_dim);
    double sum = 0;
    for (size_t p = first; p < length; ++p) {
      double score = 0;
      for (size_t i = 0; i < head_dim; ++i)
        score += static_cast<double>(query[i]) * keys[p * head_dim + i];
      weight[p] = std::exp2(score);
      sum += weight[p];
    }
    for (size_t p = first; p < length; ++p)
      for (size_t i = 0; i < value_dim; ++i) out[i] += weight[p] / sum * values[p * value_dim + i];
    return out;
  }
};

TEST(AttentionStep, IsSoftmaxAtAnySizeTypeAndTarget) {
  for_each_target([](const char* target) {
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16})
      for (const auto& [k, v, n] : std::vector<std::array<size_t, 3>>{
               {1, 1, 1}, {7, 5, 63}, {64, 64, 64}, {64, 64, 65}, {80, 48, 300}, {128, 33, 520}})
        for (const size_t first : {size_t{0}, n / 2}) {
          const Case example(k, v, n, dtype);
          const std::vector<float> found = example.attend(first, 1);
          const std::vector<double> expected = example.expected(first);
          for (size_t i = 0; i < v; ++i)
            ASSERT_NEAR(found[i], expected[i], 2e-5)
                << target << " " << dtype_name(dtype) << " " << k << " " << n << " from " << first;
        }
  });
}

TEST(AttentionStep, AQueryHasTheSameBitsInAnyCompany) {
  for_each_target([](const char* target) {
    for (const size_t v : {5, 64}) {
      const Case example(24, v, 150, DType::f16);
      const std::vector<float> alone = example.attend(3, 1);
      for (const size_t copies : {2, 3, 4, 5, 7, 24})
        EXPECT_EQ(example.attend(3, copies), alone) << target << " " << copies;
    }
  });
}

TEST(AttentionStep, KeysBehindTheQueryDoNotCount) {
  Case example(16, 16, 40, DType::bf16);
  const std::vector<float> before = example.attend(0, 1);
  const std::vector<float> far(16, 1e30F);
  for (size_t p = 40; p < 64; ++p) {
    store_key(far.data(), 16, p, example.dtype, example.cache.keys(1, 1, p));
    store_value(far.data(), 16, p, example.dtype, example.cache.values(1, 1, p));
  }
  EXPECT_EQ(example.attend(0, 1), before);
}

TEST(AttentionStep, RotationTurnsPairsByTheAngle) {
  for (const size_t dim : {2, 6, 64}) {
    std::vector<float> x(dim), coarse(dim), fine(dim), turn(dim);
    const size_t half = dim / 2;
    for (size_t i = 0; i < dim; ++i) x[i] = static_cast<float>(i) - 2.5F;
    const std::vector<float> old = x;
    for (size_t i = 0; i < half; ++i) {
      coarse[i] = std::cos(0.7F * static_cast<float>(i));
      coarse[half + i] = std::sin(0.7F * static_cast<float>(i));
      fine[i] = std::cos(0.2F);
      fine[half + i] = std::sin(0.2F);
    }
    add_angles(coarse.data(), fine.data(), dim, turn.data());
    rotate_head(turn.data(), dim, x.data());
    for (size_t i = 0; i < half; ++i) {
      const double angle = 0.7 * static_cast<double>(i) + 0.2;
      EXPECT_NEAR(x[i], old[i] * std::cos(angle) - old[half + i] * std::sin(angle), 1e-4);
      EXPECT_NEAR(x[half + i], old[i] * std::sin(angle) + old[half + i] * std::cos(angle), 1e-4);
    }
  }
}

TEST(PagedCache, GrowsByPagesAndForksShareUntilTheyWrite) {
  PagedCache cache(
      {.layers = 1, .kv_heads = 1, .head_dim = 4, .value_dim = 4, .dtype = DType::f32});
  cache.prepare(0, 1);
  EXPECT_EQ(cache.capacity(), PagedCache::kPage);
  cache.prepare(255, 257);
  EXPECT_EQ(cache.capacity(), 2 * PagedCache::kPage);
  const std::vector<float> one(4, 1), two(4, 2);
  for (const size_t p : {3, 256})
    store_value(one.data(), 4, p % PagedCache::kPage, DType::f32, cache.values(0, 0, p));
  PagedCache fork = cache;
  EXPECT_EQ(fork.values(0, 0, 3), cache.values(0, 0, 3));
  fork.prepare(256, 258);
  EXPECT_EQ(fork.values(0, 0, 3), cache.values(0, 0, 3));
  ASSERT_NE(fork.values(0, 0, 256), cache.values(0, 0, 256));
  store_value(two.data(), 4, 0, DType::f32, fork.values(0, 0, 256));
  EXPECT_EQ(reinterpret_cast<const float*>(cache.values(0, 0, 256))[0], 1);
  EXPECT_EQ(reinterpret_cast<const float*>(fork.values(0, 0, 256))[0], 2);
}

TEST(PagedCache, RefusesAnotherTypeAndMoreThanThereIsMemory) {
  EXPECT_THROW(PagedCache({.layers = 1, .dtype = DType::i8}), Error);
  PagedCache huge({.layers = 64, .kv_heads = 1024, .head_dim = 4096, .value_dim = 4096});
  EXPECT_THROW(huge.prepare(0, size_t{1} << 30), Error);
  EXPECT_EQ(huge.capacity(), 0U);
}

}  // namespace
}  // namespace cairn
